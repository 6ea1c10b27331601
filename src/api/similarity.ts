import { InputError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { normalizeVectors } from "./pooling.ts";

/** sentence-transformers' names of the measures. */
export type SimilarityName = "cosine" | "dot" | "euclidean" | "manhattan";

type Measure = (a: Float32Array, b: Float32Array) => number;

/** How alike two vectors are; distances are negative, so that more is always more alike. */
const MEASURES: Readonly<Record<SimilarityName, Measure>> = {
  cosine: dot,
  dot,
  euclidean: (a, b) => -Math.sqrt(sum(a, (value, i) => (value - b[i]!) ** 2)),
  manhattan: (a, b) => -sum(a, (value, i) => Math.abs(value - b[i]!)),
};

export const SIMILARITY_NAMES: readonly SimilarityName[] = Object.keys(MEASURES) as SimilarityName[];

/** Scores of every vector of `a` [n, size] against every vector of `b` [m, size]: float32 [n, m]. */
export function similarityMatrix(a: Tensor, b: Tensor, name: SimilarityName): Tensor {
  const [left, right] = [matrix(a, "the first vectors"), matrix(b, "the second vectors")];
  const size = left.dims[1]!;
  if (right.dims[1] !== size)
    throw new InputError(
      `similarity: vectors of ${size} and ${right.dims[1]} numbers can't be compared; was truncate_dim given for only one of them?`,
    );
  const vectors = (tensor: Tensor): Float32Array[] =>
    [...(name === "cosine" ? normalizeVectors(tensor) : tensor.to("float32"))].map(
      ({ data }) => data as Float32Array,
    );
  const others = vectors(right);
  const scores = vectors(left).flatMap((vector) => others.map((other) => MEASURES[name](vector, other)));
  return new Tensor("float32", scores, [left.dims[0]!, right.dims[0]!]);
}

/** A single vector counts as one row. */
function matrix(tensor: Tensor, what: string): Tensor {
  if (tensor.dims.length === 1) return tensor.view(1, tensor.dims[0]!);
  if (tensor.dims.length === 2) return tensor;
  throw new InputError(
    `similarity: ${what} must be [size] or [count, size], got [${tensor.dims.join(", ")}]`,
  );
}

function dot(a: Float32Array, b: Float32Array): number {
  return sum(a, (value, i) => value * b[i]!);
}

function sum(values: Float32Array, term: (value: number, index: number) => number): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += term(values[i]!, i);
  return total;
}
