import { InputError, rejectUnknownOptions } from "../errors.ts";
import { softmax } from "../generation/math.ts";
import type { Tensor } from "../tensor.ts";
import { Pipeline } from "./base.ts";
import {
  AGGREGATIONS,
  type AggregationStrategy,
  type EntityGroup,
  entityGroups,
  type ScoredToken,
  type TokenEntity,
  tokenEntities,
} from "./entities.ts";
import type { ClassificationModel } from "./labels.ts";
import { encodeTexts } from "./text-batch.ts";
import { tokenOffsets } from "./token-offsets.ts";

/** Options of the call, as in HF. */
export interface TokenClassificationOptions {
  /** Labels left out of the result; ["O"]. */
  readonly ignore_labels?: readonly string[];
  /** "none" (default): an entry for each token; else entities of several tokens. */
  readonly aggregation_strategy?: AggregationStrategy;
  readonly signal?: AbortSignal;
}

type Grouped = TokenClassificationOptions & {
  readonly aggregation_strategy: Exclude<AggregationStrategy, "none">;
};

/** How the pipeline is called: a text gives a list of entities, a list of texts a list of such lists. */
export interface TokenClassificationCall {
  (text: string, options: Grouped): Promise<EntityGroup[]>;
  (texts: readonly string[], options: Grouped): Promise<EntityGroup[][]>;
  (text: string, options?: TokenClassificationOptions): Promise<TokenEntity[]>;
  (texts: readonly string[], options?: TokenClassificationOptions): Promise<TokenEntity[][]>;
}

const OPTIONS = ["ignore_labels", "aggregation_strategy", "signal"] as const;

/** Labels of a text's tokens: names, places, parts of speech. */
export class TokenClassificationPipeline extends Pipeline<TokenClassificationCall, ClassificationModel> {
  async _call(
    inputs: string | readonly string[],
    options: TokenClassificationOptions = {},
  ): Promise<unknown> {
    rejectUnknownOptions(options, OPTIONS, "token-classification");
    const { signal } = options;
    checkStrategy(options.aggregation_strategy);
    const texts: readonly unknown[] = Array.isArray(inputs) ? inputs : [inputs];
    if (!texts.every((text) => typeof text === "string"))
      throw new InputError("token-classification: expected a text or a list of texts");
    if (texts.length === 0) return [];
    const { input_ids, attention_mask, rows } = encodeTexts(
      this.tokenizer,
      texts.map((text) => ({ text })),
    );
    const { logits } = await this.model({
      input_ids,
      attention_mask,
      ...(signal === undefined ? {} : { signal }),
    });
    const results = [...logits.to("float32")].map((row, i) =>
      this.#entities(this.#scored(texts[i]!, rows[i]!, row), options),
    );
    return Array.isArray(inputs) ? results : results[0]!;
  }

  #entities(
    tokens: readonly ScoredToken[],
    options: TokenClassificationOptions,
  ): TokenEntity[] | EntityGroup[] {
    const { aggregation_strategy: strategy = "none", ignore_labels = ["O"] } = options;
    const { config } = this.model;
    const wanted = (label: string): boolean => !ignore_labels.includes(label);
    if (strategy === "none") return tokenEntities(tokens, config).filter(({ entity }) => wanted(entity));
    if (strategy !== "simple" && tokens.some(({ offset }) => offset === undefined))
      throw new InputError(
        `aggregation_strategy "${strategy}" needs to know where words begin, which this tokenizer does not tell; take "simple"`,
        { option: "aggregation_strategy" },
      );
    return entityGroups(tokens, strategy, config, this.tokenizer).filter(({ entity_group }) =>
      wanted(entity_group),
    );
  }

  /** The text's own tokens with their probabilities; those that the tokenizer put around them are left out. */
  #scored(text: string, row: readonly number[], logits: Tensor): ScoredToken[] {
    const first = this.tokenizer.add_bos_token ? 1 : 0;
    const added = this.tokenizer.encode("").length;
    const ids = row.slice(first, row.length - (added - first));
    const tokens = this.tokenizer.convert_ids_to_tokens(ids);
    const offsets = tokenOffsets(tokens, text);
    return ids.map((id, i) => ({
      id,
      token: tokens[i]!,
      index: first + i,
      scores: softmax(logits.at(first + i)!.data as Float32Array),
      offset: offsets?.[i],
      isSubword: offsets !== undefined && !startsWord(text, offsets[i]![0]),
    }));
  }
}

/** HF's rule for tokenizers without words: at the start, or with a space on either side of the border. */
function startsWord(text: string, start: number): boolean {
  return start === 0 || text[start - 1] === " " || text[start] === " ";
}

function checkStrategy(value: unknown): void {
  if (value === undefined || AGGREGATIONS.includes(value as AggregationStrategy)) return;
  throw new InputError(
    `aggregation_strategy: expected ${AGGREGATIONS.join(", ")}, got ${JSON.stringify(value)}`,
    { option: "aggregation_strategy" },
  );
}
