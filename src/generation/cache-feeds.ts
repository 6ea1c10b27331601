import type { GraphVariant } from "../graph-variant.ts";
import { float32, type RunValues } from "./decoder-model.ts";
import type { KeyValueCache } from "./kv-cache.ts";

/** Per kind of layer, what the attention kernel must know of the cache. */
export type CacheLengths = ReadonlyMap<string, { seqlens_k: Int32Array; total_sequence_length: Int32Array }>;

/** Memory for the counts of so many rows. */
export function allocateLengths(kinds: readonly string[], rows: number): CacheLengths {
  return new Map(
    kinds.map((kind) => [
      kind,
      { seqlens_k: new Int32Array(rows), total_sequence_length: new Int32Array(1) },
    ]),
  );
}

/** Positions that each row will hold, with its new tokens or the dummy of an empty row. */
export function fillLengths(
  lengths: CacheLengths,
  tokens: readonly (readonly number[])[],
  cache: KeyValueCache,
  firstRow: number,
): void {
  fillCounts(
    lengths,
    cache,
    firstRow,
    tokens.map((row) => Math.max(1, row.length)),
  );
}

/** The same for so many new positions in each row. */
export function fillCounts(
  lengths: CacheLengths,
  cache: KeyValueCache,
  firstRow: number,
  counts: readonly number[],
): void {
  for (const [kind, { seqlens_k, total_sequence_length }] of lengths) {
    const held = cache.held(kind);
    const after = counts.map((count, r) => held[firstRow + r]! + count);
    seqlens_k.set(after.map((length) => length - 1));
    total_sequence_length[0] = Math.max(...after);
  }
}

/** Feeds them; `suffix` names the step of a stepwise run. */
export function feedLengths(run: RunValues, lengths: CacheLengths, suffix = ""): void {
  for (const [kind, { seqlens_k, total_sequence_length }] of lengths) {
    const rows = [seqlens_k.length];
    run.feed(`${kind}.seqlens_k${suffix}`, { type: "int32", data: seqlens_k, dims: rows });
    const total = { type: "int32" as const, data: total_sequence_length, dims: [] };
    run.feed(`${kind}.total_sequence_length${suffix}`, total);
  }
}

/** Feeds the cache's memory, which every step of a run writes in place. */
export function feedCache(
  run: RunValues,
  cache: KeyValueCache,
  firstRow: number,
  rows: number,
  { attention, steps }: GraphVariant,
): void {
  const suffixes = attention === "stepwise" ? Array.from({ length: steps }, (_, step) => `.${step}`) : [""];
  for (const [i, layer] of cache.layers.entries()) {
    const size = cache.rowElements(layer);
    const dims = [rows, layer.kv_heads, cache.capacity(layer.kind), layer.head_dim];
    for (const [j, part] of (["key", "value"] as const).entries()) {
      const name = `past_key_values.${i}.${part}`;
      const data = cache.buffers[2 * i + j]!.subarray(firstRow * size, (firstRow + rows) * size);
      const type = cache.quantized ? "int8" : "float32";
      const outputs = [i, ...(layer.readers ?? [])].flatMap((l) =>
        suffixes.map((suffix) => `present.${l}.${part}${suffix}`),
      );
      run.feedAndFetch(name, outputs, { type, data, dims });
      const scales = cache.scales?.[2 * i + j];
      if (scales) run.feed(`${name}_scale`, float32(scales, [1, layer.kv_heads, 1, layer.head_dim]));
    }
  }
}
