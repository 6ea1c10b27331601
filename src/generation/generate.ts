import { InputError, rejectUnknownOptions } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import { beamSearch } from "./beam-search.ts";
import { type BuildContext, buildCriteria, buildProcessors } from "./build.ts";
import type { CacheEntries } from "./cache.ts";
import type { LegacyCache } from "./cache-tensors.ts";
import { tokenId, tokenIds } from "./checks.ts";
import { CONSTRAINT_OPTION_NAMES, type ConstraintOptions } from "./constraints/constraint.ts";
import { grammarConstraint } from "./constraints/processor.ts";
import type { CacheWish, Decoder, DecoderCache } from "./decoder.ts";
import { DecoderRows } from "./decoder-rows.ts";
import { GenerationConfig, type GenerationOptions, resolveConfig } from "./generation-config.ts";
import { FIELD_NAMES } from "./generation-fields.ts";
import { type LogitsProcessorCall, LogitsProcessorList } from "./logits-processors/base.ts";
import type { PrefixAllowedTokensFn } from "./logits-processors/tokens.ts";
import type { RowMedia } from "./media.ts";
import { type GenerateOutput, withRows } from "./output.ts";
import { checkTextAlone, type IdsInput, type Prompt, type PromptSettings, readPrompt } from "./prompt.ts";
import { withVectors } from "./prompt-vectors.ts";
import { Recorder, type Run } from "./run.ts";
import { randomSeed } from "./sampling.ts";
import type { AssistantModel } from "./speculation/assistant.ts";
import { buildDrafter } from "./speculation/build.ts";
import { speculativeLoop } from "./speculation/speculative-loop.ts";
import { type StoppingCriteriaCall, StoppingCriteriaList, type TokenDecoder } from "./stopping.ts";
import type { BaseStreamer } from "./streamer.ts";
import { tokenLoop } from "./token-loop.ts";
import { warnings } from "./warnings.ts";

/** What generate takes: inputs, the fields of a GenerationConfig, and what follows. */
export interface GenerateOptions extends GenerationOptions, ConstraintOptions {
  /** [batch, length]. Without it generation starts from bos_token_id. */
  input_ids?: IdsInput | null | undefined;
  /** HF's other name of input_ids. */
  inputs?: IdsInput | null | undefined;
  /** [batch, length], 0 at padding, which may be left or right. Without it padding is recognised by pad_token_id. */
  attention_mask?: IdsInput | null | undefined;
  /**
   * A cache with the beginnings of the rows, or an empty one: only the rest is computed. It is changed by the call. HF's
   * tuple form is copied instead.
   */
  past_key_values?: DecoderCache | LegacyCache | CacheEntries | null | undefined;
  /** float32 [batch, length, hidden_size]: vectors in place of the prompt's own. Without input_ids the result is new tokens only. */
  inputs_embeds?: Tensor | null | undefined;
  /** What a processor gives beside the ids: 0 at text, and text is all that these models take. */
  token_type_ids?: IdsInput | null | undefined;
  generation_config?: GenerationConfig | GenerationOptions | null | undefined;
  logits_processor?: LogitsProcessorCall | Iterable<LogitsProcessorCall> | null | undefined;
  stopping_criteria?: StoppingCriteriaCall | Iterable<StoppingCriteriaCall> | null | undefined;
  prefix_allowed_tokens_fn?: PrefixAllowedTokensFn | null | undefined;
  streamer?: BaseStreamer | null | undefined;
  /** For stop_strings and constraints, where the model has none of its own. */
  tokenizer?: TokenDecoder | null | undefined;
  /** A smaller model with the same vocabulary, whose guesses save runs of this one. */
  assistant_model?: AssistantModel | null | undefined;
  /** Aborting rejects with the signal's reason. */
  signal?: AbortSignal | null | undefined;
}

/** What generate knows of the model besides its decoder. */
export interface GenerateContext {
  /** Finds images and sounds in the prompt, of whose rows a cache holds the first `held` tokens; for models that take them. */
  readonly media?:
    | ((prompt: Prompt, held: readonly number[]) => Promise<readonly RowMedia[] | undefined>)
    | undefined;
  /** The model's own configuration, from generation_config.json. */
  readonly generation_config?: GenerationConfig | undefined;
  readonly tokenizer?: TokenDecoder | undefined;
  readonly max_position_embeddings?: number | undefined;
  /** Gets remarks on options without effect; console.warn without it. */
  readonly warn?: ((message: string) => void) | undefined;
}

/** Ids, or with `return_dict_in_generate` all that was asked for. */
export type GenerateResult = Tensor | GenerateOutput;

/** New tokens when nothing says how many, as in HF. */
const DEFAULT_NEW_TOKENS = 20;
/** Positions that a cache reserves beyond the prompt, unless it is static: it grows when they don't suffice. */
const RESERVED = 256;

/** The options of generate besides the fields of a GenerationConfig. */
export const CALL_OPTION_NAMES: readonly string[] = [
  "input_ids",
  "inputs",
  "attention_mask",
  "token_type_ids",
  "past_key_values",
  "inputs_embeds",
  "generation_config",
  "logits_processor",
  "stopping_criteria",
  "prefix_allowed_tokens_fn",
  "streamer",
  "tokenizer",
  "assistant_model",
  "signal",
  ...CONSTRAINT_OPTION_NAMES,
];

const UNSUPPORTED: readonly string[] = [
  "assistant_tokenizer",
  "custom_generate",
  "negative_prompt_ids",
  "negative_prompt_attention_mask",
];

/** Generates text with HF's options and rules; with `return_dict_in_generate` what else came of it, too. */
export function generate(
  decoder: Decoder,
  options: GenerateOptions & { return_dict_in_generate: true },
  context?: GenerateContext,
): Promise<GenerateOutput>;
export function generate(
  decoder: Decoder,
  options: GenerateOptions & { return_dict_in_generate?: false | undefined },
  context?: GenerateContext,
): Promise<Tensor>;
export function generate(
  decoder: Decoder,
  options: GenerateOptions,
  context?: GenerateContext,
): Promise<GenerateResult>;
export async function generate(
  decoder: Decoder,
  options: GenerateOptions,
  context: GenerateContext = {},
): Promise<GenerateResult> {
  let run: Run | undefined;
  let release: (() => void) | undefined;
  let keepCache = false;
  try {
    options.signal?.throwIfAborted();
    run = prepare(decoder, options, context);
    release = run.rows.hold();
    const media = await context.media?.(run.prompt, run.rows.held(run.prompt.tokens));
    run = { ...run, prompt: { ...run.prompt, media } };
    const beams = (run.config.num_beams ?? 1) > 1;
    const result = beams ? await beamSearch(run) : { sequences: await oneByOne(run) };
    run.streamer?.end();
    if (run.config.return_dict_in_generate !== true) return result.sequences;
    const { cache } = run.rows;
    keepCache = true;
    return withRows({ ...result, ...run.record.parts(), ...(cache && { past_key_values: cache }) });
  } catch (error) {
    // Whoever reads from the streamer must learn of it too.
    options.streamer?.fail?.(error);
    throw error;
  } finally {
    release?.();
    run?.drafter?.dispose();
    if (!keepCache) run?.rows.dispose();
  }
}

function oneByOne(run: Run): Promise<Tensor> {
  return run.drafter === undefined ? tokenLoop(run) : speculativeLoop(run, run.drafter);
}

function prepare(decoder: Decoder, options: GenerateOptions, context: GenerateContext): Run {
  const config = configure(options, context);
  const eos = tokenIds("eos_token_id", config.eos_token_id ?? []);
  const pad = config.pad_token_id === null ? undefined : tokenId("pad_token_id", config.pad_token_id);
  const past = config.use_cache === false ? undefined : (options.past_key_values ?? undefined);
  if (past !== undefined && ![null, "hybrid"].includes(config.cache_implementation)) {
    throw new InputError("cache_implementation says what cache to make; with past_key_values leave it out", {
      option: "cache_implementation",
    });
  }
  if (context.media === undefined) checkTextAlone(options.token_type_ids);
  const prompt = promptOf(decoder, options, {
    vocab_size: decoder.vocab_size,
    pad_token_id: pad ?? eos[0] ?? 0,
    pads: pad !== undefined && !eos.includes(pad),
    bos_token_id: config.bos_token_id === null ? null : tokenId("bos_token_id", config.bos_token_id),
    cached: past !== undefined,
  });
  checkTogether(options, config);
  const beams = config.num_beams ?? 1;
  const copies = beams > 1 ? beams : (config.num_return_sequences ?? 1);
  const maxLength = lengthLimit(config, prompt.length, context.max_position_embeddings);
  for (const message of warnings(options, config, prompt.length, maxLength)) {
    (context.warn ?? defaultWarn)(message);
  }
  const streamer = checkedStreamer(options.streamer ?? undefined, beams);
  const unseen = Math.max(0, ...prompt.tokens.map((row) => row.length - prompt.length));
  const positions = capacity(config, prompt.length, maxLength) + unseen;
  const tokenizer = options.tokenizer ?? context.tokenizer;
  const build: BuildContext = {
    promptLength: prompt.length,
    maxLength,
    eos,
    prompts: prompt.rows,
    copies,
    constraint: grammarConstraint(options, {
      tokenizer,
      prompt_length: prompt.length,
      max_length: maxLength,
      eos_token_id: eos,
    }),
  };
  const record = new Recorder(config);
  const seed = config.seed ?? randomSeed();
  const signal = options.signal ?? undefined;
  const allowed = options.prefix_allowed_tokens_fn ?? undefined;
  return {
    config,
    prompt,
    vocab_size: decoder.vocab_size,
    maxLength,
    eos,
    pad: pad ?? eos[0] ?? 0,
    seed,
    processors: buildProcessors(
      config,
      build,
      allowed,
      new LogitsProcessorList(listOf(options.logits_processor)),
    ),
    criteria: buildCriteria(
      config,
      build,
      tokenizer,
      new StoppingCriteriaList(options.stopping_criteria ?? []),
    ),
    streamer,
    record,
    drafter: buildDrafter(config, {
      assistant: options.assistant_model ?? undefined,
      vocab_size: decoder.vocab_size,
      batch: prompt.rows.length,
      eos,
      seed,
      processors: () => buildProcessors(config, build, allowed, []),
      signal,
    }),
    rows: new DecoderRows(decoder, {
      cache: past && decoder.openCache(past, prompt.rows.length, positions, prompt.mask),
      continues: prompt.continues,
      use_cache: config.use_cache !== false,
      wish: { kind: cacheKind(config), config: config.cache_config ?? undefined },
      capacity: positions,
      chunk: config.prefill_chunk_size ?? undefined,
      output_hidden_states: record.hidden_states !== undefined,
      output_attentions: record.attentions !== undefined,
      signal,
    }),
  };
}

function promptOf(decoder: Decoder, options: GenerateOptions, settings: PromptSettings): Prompt {
  const { attention_mask, inputs_embeds } = options;
  const ids = options.input_ids ?? options.inputs;
  if (inputs_embeds === undefined || inputs_embeds === null) return readPrompt(ids, attention_mask, settings);
  const prompt = ids && readPrompt(ids, attention_mask, settings);
  return withVectors(inputs_embeds, attention_mask, decoder.hidden_size, prompt ?? undefined);
}

/** Options that exclude each other. */
function checkTogether(options: GenerateOptions, config: GenerationConfig): void {
  const guesses = options.assistant_model != null || config.prompt_lookup_num_tokens !== null;
  const refused: readonly [unknown, keyof GenerateOptions, string][] = [
    [options.inputs_embeds != null && options.past_key_values != null, "past_key_values", "inputs_embeds"],
    [options.inputs_embeds != null && config.use_cache === false, "use_cache", "inputs_embeds"],
    [options.inputs_embeds != null && guesses, "inputs_embeds", "guessing ahead"],
    [config.output_attentions === true && guesses, "output_attentions", "guessing ahead"],
  ];
  for (const [both, option, other] of refused) {
    if (both === true) throw new InputError(`${option} can't be used together with ${other}`, { option });
  }
}

/** Checks the names of a call's options, and merges the configurations that apply to it. */
export function configure(options: GenerateOptions, context: GenerateContext): GenerationConfig {
  rejectUnknownOptions(options, [...FIELD_NAMES, ...CALL_OPTION_NAMES, ...UNSUPPORTED], "generate");
  for (const option of UNSUPPORTED) {
    if ((options as Record<string, unknown>)[option] != null) {
      throw new InputError(`${option} isn't supported yet`, { option });
    }
  }
  const given = options.generation_config ?? {};
  const inCall = given instanceof GenerationConfig ? given : new GenerationConfig(given);
  const own = Object.fromEntries(Object.entries(options).filter(([name]) => FIELD_NAMES.has(name)));
  return resolveConfig(own, inCall, context.generation_config);
}

/** Tokens that a row may have at most, prompt and padding included. */
function lengthLimit(
  config: GenerationConfig,
  promptLength: number,
  max_position_embeddings: number | undefined,
): number {
  if (config.max_new_tokens !== null) return promptLength + config.max_new_tokens;
  const limit =
    config.max_length ??
    Math.min(promptLength + DEFAULT_NEW_TOKENS, max_position_embeddings ?? Number.POSITIVE_INFINITY);
  if (promptLength >= limit) {
    throw new InputError(
      `input_ids has ${promptLength} tokens, max_length is ${limit}: raise it, or set max_new_tokens`,
      { option: "max_length" },
    );
  }
  return limit;
}

function checkedStreamer(streamer: BaseStreamer | undefined, beams: number): BaseStreamer | undefined {
  const option = "streamer";
  if (streamer === undefined) return undefined;
  if (typeof streamer.put !== "function" || typeof streamer.end !== "function") {
    throw new InputError("streamer must have put and end, as BaseStreamer has", { option });
  }
  if (beams === 1) return streamer;
  throw new InputError("streamer can't be used with beam search: text is not settled until the end", {
    option,
  });
}

function capacity(config: GenerationConfig, promptLength: number, maxLength: number): number {
  // The last token is chosen but never computed.
  const needed = maxLength - 1;
  if (cacheKind(config) === "static") return Math.max(needed, config.max_cache_len ?? 0);
  return Math.min(needed, promptLength + RESERVED);
}

/** HF's other names of a static cache are older than its finding out by itself which layers slide. */
function cacheKind({ cache_implementation }: GenerationConfig): CacheWish["kind"] {
  const name = cache_implementation ?? "dynamic";
  if (name === "quantized") return name;
  return ["static", "sliding_window", "hybrid_chunked"].includes(name) ? "static" : "dynamic";
}

function listOf<T>(value: T | Iterable<T> | null | undefined): Iterable<T> {
  if (value === undefined || value === null) return [];
  const iterable = value as Partial<Iterable<T>>;
  return typeof iterable[Symbol.iterator] === "function" ? (value as Iterable<T>) : [value as T];
}

function defaultWarn(message: string): void {
  console.warn(`lapidary: ${message}`);
}
