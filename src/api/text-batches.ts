import { Tensor } from "../tensor.ts";
import type { ProgressCallback } from "./options.ts";

/**
 * Places of the texts in batches, longest texts first. A batch is as long as its longest text, so one that is under
 * half as long starts another: running it costs less than its padding would.
 */
export function batchesByLength(texts: readonly string[], size: number): number[][] {
  const lengths = texts.map((text) => text.length);
  const order = texts.map((_, i) => i).sort((a, b) => lengths[b]! - lengths[a]!);
  const batches: number[][] = [];
  for (const i of order) {
    const batch = batches.at(-1);
    const fits = batch !== undefined && batch.length < size && 2 * lengths[i]! >= lengths[batch[0]!]!;
    if (fits) batch.push(i);
    else batches.push([i]);
  }
  return batches;
}

/** Tells a callback how many texts are done. */
export function reportTexts(
  callback: ProgressCallback | null | undefined,
  loaded: number,
  total: number,
): void {
  callback?.({ status: "progress", file: "texts", loaded, total, progress: (100 * loaded) / total });
}

/** Vectors of one size as float32 [count, size]. */
export function stackRows(rows: readonly Float32Array[]): Tensor {
  const size = rows[0]?.length ?? 0;
  const data = new Float32Array(rows.length * size);
  rows.forEach((row, i) => {
    data.set(row, i * size);
  });
  return new Tensor("float32", data, [rows.length, size]);
}
