import { InputError } from "../errors.ts";
import { Tensor } from "../tensor.ts";

/** How the vectors of a text's tokens become one, by sentence-transformers' names. */
export const POOLING_MODES = [
  "cls",
  "max",
  "mean",
  "mean_sqrt_len_tokens",
  "weightedmean",
  "lasttoken",
] as const;

export type PoolingMode = (typeof POOLING_MODES)[number];

/** PyTorch's floor of a norm in `normalize`. */
const MIN_NORM = 1e-12;

/**
 * One vector for each row of `states`, float32 [batch, length, size], over the columns where `mask` [batch, length]
 * is not 0: float32 [batch, size]. Padding may stand on either side. A row without any column gives zeros.
 */
export function pool(states: Tensor, mask: Tensor, mode: PoolingMode): Tensor {
  const [batch, length, size] = states.dims as [number, number, number];
  if (states.dims.length !== 3 || mask.dims.length !== 2 || mask.dims[0] !== batch || mask.dims[1] !== length)
    throw new InputError(
      `pooling: a mask [${mask.dims.join(", ")}] does not fit token vectors [${states.dims.join(", ")}]`,
    );
  const data = states.to("float32").data as Float32Array;
  const out = new Float32Array(batch * size);
  for (let row = 0; row < batch; row++) {
    const tokens: Float32Array[] = [];
    for (let column = 0; column < length; column++) {
      const place = row * length + column;
      if (Number(mask.data[place]) !== 0) tokens.push(data.subarray(place * size, (place + 1) * size));
    }
    if (tokens.length > 0) out.set(poolTokens(tokens, size, mode), row * size);
  }
  return new Tensor("float32", out, [batch, size]);
}

function poolTokens(
  tokens: readonly Float32Array[],
  size: number,
  mode: PoolingMode,
): ArrayLike<number> & Iterable<number> {
  switch (mode) {
    case "cls":
      return tokens[0]!;
    case "lasttoken":
      return tokens.at(-1)!;
    case "max":
      return tokens.reduce(
        (best, token) => best.map((value, i) => Math.max(value, token[i]!)),
        tokens[0]!.slice(),
      );
    case "mean":
      return weightedSum(tokens, size, () => 1 / tokens.length);
    case "mean_sqrt_len_tokens":
      return weightedSum(tokens, size, () => 1 / Math.sqrt(tokens.length));
    case "weightedmean": {
      const total = (tokens.length * (tokens.length + 1)) / 2;
      return weightedSum(tokens, size, (position) => (position + 1) / total);
    }
  }
}

function weightedSum(
  tokens: readonly Float32Array[],
  size: number,
  weight: (position: number) => number,
): Float64Array {
  const sum = new Float64Array(size);
  tokens.forEach((token, position) => {
    const factor = weight(position);
    for (let i = 0; i < size; i++) sum[i]! += factor * token[i]!;
  });
  return sum;
}

/** A copy whose vectors (the last dimension) have length 1; vectors of zeros stay as they are. */
export function normalizeVectors(tensor: Tensor): Tensor {
  const size = tensor.dims.at(-1) ?? 1;
  const data = (tensor.to("float32").data as Float32Array).slice();
  for (let start = 0; start < data.length; start += size) {
    let squares = 0;
    for (let i = start; i < start + size; i++) squares += data[i]! ** 2;
    const norm = Math.max(Math.sqrt(squares), MIN_NORM);
    for (let i = start; i < start + size; i++) data[i]! /= norm;
  }
  return new Tensor("float32", data, tensor.dims);
}
