import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { CheckpointError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { dequantizeRows } from "./matmul-nbits.ts";
import { dequantize_int4, quantize_int4 } from "./public.ts";
import { INT8_LAYOUT, quantizeInt4, quantizeInt8Rows } from "./torchao.ts";

type Numbers = Readonly<Record<string, readonly number[]>>;

/** torchao's own codes; see tools/oracle/quantized_checkpoints.py. */
const { torchao } = JSON.parse(
  readFileSync(resolve(import.meta.dirname, "../../test/fixtures/quantized/expected.json"), "utf8"),
) as { torchao: Readonly<Record<"float32" | "bfloat16", { int8: Numbers; int4: Numbers }>> };

describe.each(["float32", "bfloat16"] as const)("torchao's weights in %s", (precision) => {
  it("have its int4 codes, scales and zero points", () => {
    const { weight, codes, scale, zero_point, restored } = torchao[precision].int4;
    const matrix = new Tensor("float32", weight!, [3, 64]);
    const quantised = quantize_int4(matrix, { group_size: 32, dtype: precision });
    expect([...quantised.codes.data]).toEqual(codes);
    expect([...quantised.scale.data]).toEqual(scale);
    expect([...quantised.zero_point.data]).toEqual(zero_point);
    expect([...dequantize_int4(quantised).data]).toEqual(restored);
  });

  it("have its int8 codes and a scale per row", () => {
    const { weight, codes, scale } = torchao[precision].int8;
    const [data, scales] = [new Uint8Array(5 * 64), new Float32Array(5 * 2)];
    quantizeInt8Rows(Float32Array.from(weight!), 5, 36, precision, data, scales);
    const found = Array.from({ length: 5 * 36 }, (_, i) => data[64 * Math.floor(i / 36) + (i % 36)]! - 128);
    expect(found).toEqual(codes);
    expect(Array.from({ length: 5 }, (_, row) => scales[2 * row]!)).toEqual(scale);
    const values = new Float32Array(5 * 36);
    dequantizeRows(data, scales, 5, 36, INT8_LAYOUT, values);
    expect(values[0]).toBe(Math.fround(codes![0]! * scale![0]!));
  });
});

it("refuses groups that don't fill a row, and infinite weights", () => {
  const quantise = (K: number, value: number): void =>
    quantizeInt4(
      new Float32Array(K).fill(value),
      1,
      K,
      32,
      "float32",
      new Uint8Array(K / 2),
      new Float32Array(1),
      new Float32Array(1),
    );
  expect(() => quantise(40, 1)).toThrow(/no whole number of groups/);
  expect(() => quantise(32, Number.POSITIVE_INFINITY)).toThrow(CheckpointError);
});
