import { CheckpointError } from "../errors.ts";
import { type AddedToken, type BpeTables, buildBpeTables, indexTokens, type Merges } from "./bpe-tables.ts";
import { isObject, type TemplateItem, type TokenizerSettings } from "./tokenizer-settings.ts";

type Json = Readonly<Record<string, unknown>>;

/** More ids than any vocabulary has: a file that claims more is refused before arrays of that length are made. */
const MAX_IDS = 1 << 24;

/**
 * Tables from a parsed tokenizer.json; undefined when its structure is not the Gemma family's, so that another engine
 * has to run it. `config` is tokenizer_config.json, whose added_tokens_decoder may add tokens.
 */
export function tablesFromJson(json: Json, config: unknown, file: string): BpeTables | undefined {
  const added = addedTokens(json, config, file);
  if (added === undefined || !isGemmaLike(json)) return undefined;
  const model = json.model as Json;
  const vocab = model.vocab as Record<string, number>;
  const ids = new Map(Object.entries(vocab));
  const tokens: string[] = [];
  const place = (token: string, id: unknown): void => {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= MAX_IDS) {
      throw new CheckpointError(`token ${JSON.stringify(token)} has the id ${String(id)}`, { file });
    }
    tokens[id as number] = token;
  };
  for (const [token, id] of ids) place(token, id);
  for (const { id, content } of added) place(content, id);
  const dense = Array.from(tokens, (token: string | undefined) => token ?? "");
  const index = indexTokens(dense);
  try {
    return buildBpeTables(dense, index, readMerges(model.merges as readonly unknown[], ids, file), added);
  } catch (error) {
    if (error instanceof CheckpointError && error.file === undefined) {
      throw new CheckpointError(error.message, { file, cause: error });
    }
    throw error;
  }
}

/** TemplateProcessing as ids; undefined when there is no post processor. */
export function postProcessorFromJson(json: Json, file: string): TokenizerSettings["post_processor"] {
  const processor = json.post_processor;
  if (!isObject(processor) || processor.type !== "TemplateProcessing") return undefined;
  const special = isObject(processor.special_tokens) ? processor.special_tokens : {};
  const items = (value: unknown): TemplateItem[] => {
    if (!Array.isArray(value))
      throw new CheckpointError("post_processor: a template must be a list", { file });
    return (value as unknown[]).flatMap((item): TemplateItem[] => {
      if (isObject(item) && isObject(item.Sequence)) return [item.Sequence.id === "B" ? "B" : "A"];
      const name = isObject(item) && isObject(item.SpecialToken) ? item.SpecialToken.id : undefined;
      const entry = typeof name === "string" ? special[name] : undefined;
      if (!isObject(entry) || !Array.isArray(entry.ids)) {
        throw new CheckpointError(`post_processor: unknown special token ${String(name)}`, { file });
      }
      return entry.ids as number[];
    });
  };
  return { single: items(processor.single), pair: items(processor.pair) };
}

/** Added tokens of both files; undefined when one is matched in a way that the tables don't know. */
function addedTokens(json: Json, config: unknown, file: string): AddedToken[] | undefined {
  const found = new Map<number, AddedToken>();
  const decoder =
    isObject(config) && isObject(config.added_tokens_decoder) ? config.added_tokens_decoder : {};
  const listed = Array.isArray(json.added_tokens) ? (json.added_tokens as unknown[]) : [];
  const entries = [...Object.entries(decoder).map(([id, token]) => [Number(id), token] as const)];
  for (const token of listed) entries.push([isObject(token) ? Number(token.id) : Number.NaN, token]);
  for (const [id, token] of entries) {
    if (!isObject(token) || typeof token.content !== "string" || !Number.isInteger(id) || id < 0) {
      throw new CheckpointError("added_tokens: each needs an id and a content", { file });
    }
    if (token.single_word === true || token.lstrip === true || token.rstrip === true) return undefined;
    // Matched after normalisation: the same unless it holds what the normaliser changes.
    if (token.normalized === true && /[ ▁]/.test(token.content)) return undefined;
    found.set(id, { id, content: token.content, special: token.special === true });
  }
  return [...found.values()];
}

function isGemmaLike(json: Json): boolean {
  const { model, normalizer, pre_tokenizer: pre, decoder } = json;
  return (
    isObject(model) &&
    (model.type === "BPE" || model.type === undefined) &&
    isObject(model.vocab) &&
    Array.isArray(model.merges) &&
    model.byte_fallback === true &&
    "<0x00>" in model.vocab &&
    [model.dropout, model.continuing_subword_prefix, model.end_of_word_suffix].every(
      (x) => x == null || x === "",
    ) &&
    model.ignore_merges !== true &&
    replaces(normalizer, " ", "▁") &&
    // After the normaliser no space is left to split at.
    (pre == null ||
      (isObject(pre) && pre.type === "Split" && isObject(pre.pattern) && pre.pattern.String === " ")) &&
    isObject(decoder) &&
    Array.isArray(decoder.decoders) &&
    decoder.decoders.length === 3 &&
    replaces(decoder.decoders[0], "▁", " ") &&
    (decoder.decoders[1] as Json | null)?.type === "ByteFallback" &&
    (decoder.decoders[2] as Json | null)?.type === "Fuse" &&
    (json.post_processor == null || (json.post_processor as Json).type === "TemplateProcessing")
  );
}

function replaces(step: unknown, pattern: string, content: string): boolean {
  if (!isObject(step)) return false;
  return (
    step.type === "Replace" &&
    isObject(step.pattern) &&
    step.pattern.String === pattern &&
    step.content === content
  );
}

/** Merges as ids. A merge is a pair, or in older files a text with one space between. */
function readMerges(merges: readonly unknown[], ids: ReadonlyMap<string, number>, file: string): Merges {
  const left = new Uint32Array(merges.length);
  const right = new Uint32Array(merges.length);
  const result = new Uint32Array(merges.length);
  for (let rank = 0; rank < merges.length; rank++) {
    const merge = merges[rank];
    const pair = typeof merge === "string" ? merge.split(" ") : (merge as readonly unknown[]);
    if (!Array.isArray(pair) || pair.length !== 2) {
      throw new CheckpointError(`merge ${rank} is not a pair: ${JSON.stringify(merge)}`, { file });
    }
    const [a, b] = pair as [string, string];
    const [l, r, whole] = [ids.get(a), ids.get(b), ids.get(a + b)];
    if (l === undefined || r === undefined || whole === undefined) {
      throw new CheckpointError(
        `merge ${rank} ${JSON.stringify(merge)} names a token outside the vocabulary`,
        { file },
      );
    }
    [left[rank], right[rank], result[rank]] = [l, r, whole];
  }
  return { left, right, result };
}
