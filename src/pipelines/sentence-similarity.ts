import type { EncodeOptions, SentenceTransformer } from "../api/sentence-transformer.ts";
import { InputError } from "../errors.ts";
import { Pipeline } from "./base.ts";

/** A sentence, and what it is compared with. */
export interface SentenceSimilarityInput {
  readonly source_sentence: string;
  readonly sentences: readonly string[];
}

/** Scores of the sentences against the source, in their order; options are those of `SentenceTransformer.encode`. */
export interface SentenceSimilarityCall {
  (input: SentenceSimilarityInput, options?: EncodeOptions): Promise<number[]>;
  (source_sentence: string, sentences: readonly string[], options?: EncodeOptions): Promise<number[]>;
}

/** How alike sentences are, by the model's own measure. */
export class SentenceSimilarityPipeline extends Pipeline<SentenceSimilarityCall, SentenceTransformer> {
  async _call(
    first: SentenceSimilarityInput | string,
    second?: readonly string[] | EncodeOptions,
    third?: EncodeOptions,
  ): Promise<number[]> {
    const [input, options] =
      typeof first === "string"
        ? [{ source_sentence: first, sentences: second as readonly string[] }, third]
        : [first, second as EncodeOptions | undefined];
    const { source_sentence, sentences } = input;
    if (typeof source_sentence !== "string" || !Array.isArray(sentences))
      throw new InputError(
        "sentence-similarity: expected { source_sentence, sentences }, or a sentence and a list of sentences",
      );
    if (sentences.length === 0) return [];
    const vectors = await this.model.encode([source_sentence, ...sentences], options ?? {});
    const scores = this.model.similarity(vectors.at(0)!, vectors.slice([1, null]));
    return Array.from(scores.data as Float32Array);
  }
}
