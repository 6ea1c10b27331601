import { exported, field, toNumbers } from "../api.ts";
import type { Numbers } from "../compare.ts";
import type { Call, CallContext } from "./call.ts";

/** Codes, scales and restored values of a matrix in NF4, with or without double quantisation. */
export const nf4Quantize: Call = async (context) => {
  const { blocksize, double_quant } = context.test.arguments;
  const quantised = await call(context, "quantize_4bit", context.inputs().weight, {
    quant_type: "nf4",
    blocksize,
    compress_statistics: double_quant,
  });
  const state = field(quantised, "quant_state");
  const packed = toNumbers(field(quantised, "packed"), "packed");
  const restored = await call(context, "dequantize_4bit", field(quantised, "packed"), state);
  const codes = Array.from(packed.data, Number).flatMap((byte) => [byte >> 4, byte & 15]);
  const absmax = toNumbers(field(state, "absmax"), "absmax");
  const common = { packed, dequantized: toNumbers(restored, "dequantized") };
  if (double_quant !== true) {
    const codebook = toNumbers(field(state, "code"), "codebook");
    return { tensors: { ...common, codebook, codes: { shape: [codes.length], data: codes }, absmax } };
  }
  const second = field(state, "state2");
  return {
    tensors: {
      ...common,
      absmax_codes: absmax,
      absmax_codebook: toNumbers(field(second, "code"), "absmax_codebook"),
      absmax_absmax: toNumbers(field(second, "absmax"), "absmax_absmax"),
      absmax_offset: { shape: [1], data: [Number(field(state, "offset"))] },
    },
  };
};

/** Codes, scales, zero points and restored values of a matrix in torchao's int4. */
export const int4Quantize: Call = async (context) => {
  const { group_size, dtype } = context.test.arguments;
  const quantised = await call(context, "quantize_int4", context.inputs().weight, { group_size, dtype });
  const names = ["codes", "scale", "zero_point"];
  const tensors: Record<string, Numbers> = Object.fromEntries(
    names.map((name) => [name, toNumbers(field(quantised, name), name)]),
  );
  tensors.dequantized = toNumbers(await call(context, "dequantize_int4", quantised), "dequantized");
  return { tensors };
};

function call({ api }: CallContext, name: string, ...args: unknown[]): unknown {
  return exported(api, name)(...args);
}
