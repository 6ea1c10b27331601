import type { PreTrainedTokenizer } from "../processing/tokenizer.ts";
import { best, type LabelConfig, labelOf } from "./labels.ts";
import type { TokenOffset } from "./token-offsets.ts";

/** How tokens become entities, as in HF. */
export const AGGREGATIONS = ["none", "simple", "first", "average", "max"] as const;
export type AggregationStrategy = (typeof AGGREGATIONS)[number];

/** The label of one token. */
export interface TokenEntity {
  readonly entity: string;
  readonly score: number;
  /** Its place among the text's tokens, special ones included. */
  readonly index: number;
  /** The token as the vocabulary writes it. */
  readonly word: string;
  /** Its place in the text: `text.slice(start, end)`; absent where the tokenizer can't tell. */
  readonly start?: number;
  readonly end?: number;
}

/** Neighbouring tokens of one label. */
export interface EntityGroup {
  readonly entity_group: string;
  readonly score: number;
  readonly word: string;
  readonly start?: number;
  readonly end?: number;
}

/** A token with the probabilities of its labels. */
export interface ScoredToken {
  readonly id: number;
  readonly token: string;
  readonly index: number;
  readonly scores: ArrayLike<number>;
  readonly offset: TokenOffset | undefined;
  /** Goes on with the word of the token before. */
  readonly isSubword: boolean;
}

/** Tokens or a word, with the label chosen for it. */
interface Labelled {
  readonly entity: string;
  readonly score: number;
  readonly ids: readonly number[];
  readonly offset: TokenOffset | undefined;
}

/** Every token with its best label. */
export function tokenEntities(tokens: readonly ScoredToken[], config: LabelConfig): TokenEntity[] {
  return tokens.map(({ token, index, scores, offset }) => {
    const label = best(scores);
    return {
      entity: labelOf(config, label),
      score: scores[label]!,
      index,
      word: token,
      ...place(offset),
    };
  });
}

/**
 * Neighbours of one label as one entity. "simple" goes by tokens; the others first give every word one label: that
 * of its first token, of its surest one, or of the mean of its tokens' probabilities.
 */
export function entityGroups(
  tokens: readonly ScoredToken[],
  strategy: Exclude<AggregationStrategy, "none">,
  config: LabelConfig,
  tokenizer: PreTrainedTokenizer,
): EntityGroup[] {
  const words = strategy === "simple" ? tokens.map((token) => [token]) : wordsOf(tokens);
  const labelled = words.map((word) => labelWord(word, strategy, config));
  return runsOf(labelled).map((run) => {
    const entity = run[0]!.entity;
    return {
      entity_group: entity.slice(entity.indexOf("-") + 1),
      score: mean(run.map(({ score }) => score)),
      word:
        strategy === "simple"
          ? tokenizer.decode(run.flatMap(({ ids }) => ids))
          : run.map(({ ids }) => tokenizer.decode(ids)).join(""),
      ...place(across(run)),
    };
  });
}

function labelWord(
  word: readonly ScoredToken[],
  strategy: AggregationStrategy,
  config: LabelConfig,
): Labelled {
  const scores = wordScores(word, strategy);
  const label = best(scores);
  return {
    entity: labelOf(config, label),
    score: scores[label]!,
    ids: word.map(({ id }) => id),
    offset: across(word),
  };
}

function wordScores(word: readonly ScoredToken[], strategy: AggregationStrategy): ArrayLike<number> {
  const first = word[0]!.scores;
  if (strategy === "average")
    return Array.from(first, (_, label) => mean(word.map(({ scores }) => scores[label]!)));
  if (strategy !== "max") return first;
  const surest = best(word.map(({ scores }) => scores[best(scores)]!));
  return word[surest]!.scores;
}

function wordsOf(tokens: readonly ScoredToken[]): ScoredToken[][] {
  const words: ScoredToken[][] = [];
  for (const token of tokens) {
    if (token.isSubword && words.length > 0) words.at(-1)!.push(token);
    else words.push([token]);
  }
  return words;
}

/** A label that begins with "B-" starts an entity even after one of its own kind. */
function runsOf(labelled: readonly Labelled[]): Labelled[][] {
  const runs: Labelled[][] = [];
  for (const item of labelled) {
    const last = runs.at(-1)?.at(-1);
    const goesOn = last !== undefined && !item.entity.startsWith("B-") && tagOf(item) === tagOf(last);
    if (goesOn) runs.at(-1)!.push(item);
    else runs.push([item]);
  }
  return runs;
}

function tagOf({ entity }: Labelled): string {
  return entity.replace(/^[BI]-/, "");
}

function across(parts: readonly { readonly offset: TokenOffset | undefined }[]): TokenOffset | undefined {
  const [first, last] = [parts[0]!.offset, parts.at(-1)!.offset];
  return first === undefined || last === undefined ? undefined : [first[0], last[1]];
}

function place(offset: TokenOffset | undefined): { start: number; end: number } | object {
  return offset === undefined ? {} : { start: offset[0], end: offset[1] };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
