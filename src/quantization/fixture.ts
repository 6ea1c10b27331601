/** Reads what tools/oracle/gguf_blocks.py wrote. For tests only. */

import { readFileSync } from "node:fs";
import type { BlockDtype } from "./block-codes.ts";

type Part = readonly [offset: number, length: number];

/** The oracle's blocks with their values, and its rounded halves. */
export interface QuantizationFixture {
  blocks: { dtype: BlockDtype; bytes: Uint8Array; values: Float32Array }[];
  halves: { float32: Float32Array; float16: Uint16Array; bfloat16: Uint16Array };
}

/** Reads test/fixtures/quantization. */
export function readFixture(): QuantizationFixture {
  const folder = new URL("../../test/fixtures/quantization/", import.meta.url);
  const bin = readFileSync(new URL("blocks.bin", folder));
  const index: {
    blocks: Record<BlockDtype, { bytes: Part; values: Part }>;
    halves: Record<keyof QuantizationFixture["halves"], Part>;
  } = JSON.parse(readFileSync(new URL("blocks.json", folder), "utf8"));
  const bytes = ([offset, length]: Part) => new Uint8Array(bin.subarray(offset, offset + length));
  const { float32, float16, bfloat16 } = index.halves;
  return {
    blocks: Object.entries(index.blocks).map(([dtype, part]) => ({
      dtype: dtype as BlockDtype,
      bytes: bytes(part.bytes),
      values: new Float32Array(bytes(part.values).buffer),
    })),
    halves: {
      float32: new Float32Array(bytes(float32).buffer),
      float16: new Uint16Array(bytes(float16).buffer),
      bfloat16: new Uint16Array(bytes(bfloat16).buffer),
    },
  };
}
