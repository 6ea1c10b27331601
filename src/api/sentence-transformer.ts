import { join } from "node:path";
import { ConfigError, InputError, nearestName, rejectUnknownOptions } from "../errors.ts";
import type { PreTrainedTokenizer } from "../processing/tokenizer.ts";
import type { Tensor } from "../tensor.ts";
import { AutoModel } from "./auto.ts";
import { together } from "./loading.ts";
import { ModelFiles } from "./model-files.ts";
import type { PretrainedOptions, ProgressCallback } from "./options.ts";
import { normalizeVectors } from "./pooling.ts";
import { loadSentenceModules, type SentenceModule } from "./sentence-modules.ts";
import { checkPositive, checkSimilarity, readSentenceSettings } from "./sentence-settings.ts";
import { type SimilarityName, similarityMatrix } from "./similarity.ts";
import { batchesByLength, reportTexts, stackRows } from "./text-batches.ts";
import { AutoTokenizer } from "./tokenizers.ts";

/** Options of `SentenceTransformer.from_pretrained`, by sentence-transformers' names. */
export interface SentenceTransformerOptions extends PretrainedOptions {
  /** Prompts by name, before those of the folder. */
  readonly prompts?: Readonly<Record<string, string>>;
  /** The prompt of calls that name none. */
  readonly default_prompt_name?: string | null;
  readonly similarity_fn_name?: SimilarityName;
  /** Numbers kept of every vector. */
  readonly truncate_dim?: number | null;
}

/** Options of `encode`, by sentence-transformers' names. */
export interface EncodeOptions {
  /** Name of a prompt to put before every text. */
  readonly prompt_name?: string | null;
  /** The prompt itself; wins over prompt_name. */
  readonly prompt?: string | null;
  /** Texts that run together; 32. */
  readonly batch_size?: number;
  /** Brings the vectors to length 1, after truncate_dim. */
  readonly normalize_embeddings?: boolean;
  /** Keeps the first so many numbers of every vector (Matryoshka); they are not normalised again on their own. */
  readonly truncate_dim?: number | null;
  /** Told how many texts are done. */
  readonly progress_callback?: ProgressCallback | null;
  readonly signal?: AbortSignal;
}

const LOAD_OPTIONS = ["prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim"] as const;
const ENCODE_OPTIONS: readonly (keyof EncodeOptions)[] = [
  "prompt_name",
  "prompt",
  "batch_size",
  "normalize_embeddings",
  "truncate_dim",
  "progress_callback",
  "signal",
];

const DEFAULT_BATCH = 32;
/** Names under which documents' prompts go, in the order in which they are looked for. */
const DOCUMENT_PROMPTS = ["document", "passage", "corpus"];

/** A model without a head, as far as encoding texts needs it. */
export interface TokenEncoder {
  (inputs: {
    input_ids: Tensor;
    attention_mask: Tensor;
    use_cache: false;
    signal?: AbortSignal;
  }): Promise<{
    readonly last_hidden_state: Tensor;
  }>;
  prepare?(): Promise<void>;
  dispose(): Promise<void>;
}

/** What a SentenceTransformer is made of. */
export interface SentenceTransformerParts {
  readonly model: TokenEncoder;
  readonly tokenizer: PreTrainedTokenizer;
  readonly modules: readonly SentenceModule[];
  readonly prompts: Readonly<Record<string, string>>;
  readonly default_prompt_name: string | null;
  readonly similarity_fn_name: SimilarityName;
  readonly truncate_dim: number | null;
  /** Tokens of a text at most, special ones included; what is beyond is cut off. */
  readonly max_seq_length: number;
  readonly do_lower_case: boolean;
}

/**
 * A model that turns texts into vectors, from a sentence-transformers folder: transformer, pooling, projections,
 * normalisation, and the prompts that it was trained with. Methods and rules are sentence-transformers' (5.7).
 */
export class SentenceTransformer {
  readonly model: TokenEncoder;
  readonly tokenizer: PreTrainedTokenizer;
  /** The steps after the transformer. */
  readonly modules: readonly SentenceModule[];
  readonly prompts: Readonly<Record<string, string>>;
  readonly default_prompt_name: string | null;
  readonly similarity_fn_name: SimilarityName;
  readonly truncate_dim: number | null;
  readonly max_seq_length: number;
  readonly #lowerCase: boolean;

  /** Loads a folder or a repository. Without a modules.json the vectors are means over a text's tokens. */
  static async from_pretrained(
    id: string,
    options: SentenceTransformerOptions = {},
  ): Promise<SentenceTransformer> {
    return new SentenceTransformer(await loadParts(id, options));
  }

  constructor(parts: SentenceTransformerParts) {
    this.model = parts.model;
    this.tokenizer = parts.tokenizer;
    this.modules = parts.modules;
    this.prompts = parts.prompts;
    this.default_prompt_name = parts.default_prompt_name;
    this.similarity_fn_name = parts.similarity_fn_name;
    this.truncate_dim = parts.truncate_dim;
    this.max_seq_length = parts.max_seq_length;
    this.#lowerCase = parts.do_lower_case;
  }

  /** Vectors of texts: float32 [count, size], or [size] for a text that comes alone. */
  async encode(texts: string | readonly string[], options: EncodeOptions = {}): Promise<Tensor> {
    rejectUnknownOptions(options, ENCODE_OPTIONS, "encode");
    const single = typeof texts === "string";
    const prompt = this.#prompt(options);
    const list = checkTexts(single ? [texts] : texts).map((text) => this.#normalise(prompt + text));
    const keep = checkPositive("truncate_dim", options.truncate_dim ?? this.truncate_dim);
    const size = checkPositive("batch_size", options.batch_size ?? DEFAULT_BATCH)!;
    const rows: Float32Array[] = new Array<Float32Array>(list.length);
    let done = 0;
    for (const batch of batchesByLength(list, size)) {
      const vectors = await this.#encodeBatch(
        batch.map((i) => list[i]!),
        prompt,
        options.signal,
      );
      const kept = keep === null ? vectors : vectors.slice(null, [0, keep]);
      const finished = options.normalize_embeddings === true ? normalizeVectors(kept) : kept;
      batch.forEach((i, row) => {
        rows[i] = finished.at(row)!.data as Float32Array;
      });
      done += batch.length;
      reportTexts(options.progress_callback, done, list.length);
    }
    const stacked = stackRows(rows);
    return single ? stacked.at(0)! : stacked;
  }

  /** As `encode`, with the prompt "query" where no prompt is named and the model has one. */
  encode_query(texts: string | readonly string[], options: EncodeOptions = {}): Promise<Tensor> {
    return this.encode(texts, this.#withPrompt(options, ["query"]));
  }

  /** As `encode`, with the prompt "document", "passage" or "corpus" where none is named and the model has one. */
  encode_document(texts: string | readonly string[], options: EncodeOptions = {}): Promise<Tensor> {
    return this.encode(texts, this.#withPrompt(options, DOCUMENT_PROMPTS));
  }

  /** Scores of every vector of `a` against every vector of `b` by `similarity_fn_name`: float32 [n, m]. */
  similarity(a: Tensor, b: Tensor): Tensor {
    return similarityMatrix(a, b, this.similarity_fn_name);
  }

  /** Makes the engine's session now instead of at the first call. */
  async prepare(): Promise<void> {
    await this.model.prepare?.();
  }

  async dispose(): Promise<void> {
    await this.model.dispose();
    for (const module of this.modules) await module.dispose();
  }

  /** Vectors of texts that have their prompt already. */
  async #encodeBatch(
    texts: readonly string[],
    prompt: string,
    signal: AbortSignal | undefined,
  ): Promise<Tensor> {
    signal?.throwIfAborted();
    const { input_ids, attention_mask } = this.tokenizer(texts, {
      padding: true,
      truncation: true,
      max_length: this.max_seq_length,
    });
    const { last_hidden_state } = await this.model({
      input_ids,
      attention_mask,
      use_cache: false,
      ...(signal === undefined ? {} : { signal }),
    });
    const features = {
      token_embeddings: last_hidden_state,
      attention_mask,
      prompt_length: this.#promptLength(prompt),
    };
    const { sentence_embedding } = await this.#applyModules(features, signal);
    if (sentence_embedding === undefined)
      throw new ConfigError("modules.json: there is no Pooling module: texts have no vector of their own");
    return sentence_embedding;
  }

  async #applyModules(
    start: Parameters<SentenceModule["apply"]>[0],
    signal: AbortSignal | undefined,
  ): ReturnType<SentenceModule["apply"]> {
    let features = start;
    for (const module of this.modules) features = await module.apply(features, signal);
    return features;
  }

  #normalise(text: string): string {
    return this.#lowerCase ? text.toLowerCase() : text;
  }

  /** Tokens of the prompt at the start of a row; the special token that may end a row is none of them. */
  #promptLength(prompt: string): number {
    if (prompt === "" || !this.modules.some((module) => module.excludesPrompt)) return 0;
    const ids = this.tokenizer.encode(this.#normalise(prompt));
    return this.tokenizer.all_special_ids.includes(ids.at(-1)!) ? ids.length - 1 : ids.length;
  }

  #prompt({ prompt, prompt_name }: EncodeOptions): string {
    if (prompt !== undefined && prompt !== null) return prompt;
    const name = prompt_name ?? this.default_prompt_name;
    return name === null ? "" : promptNamed(this.prompts, name);
  }

  #withPrompt(options: EncodeOptions, names: readonly string[]): EncodeOptions {
    const named = options.prompt ?? options.prompt_name;
    const found = names.find((name) => Object.hasOwn(this.prompts, name));
    return named === undefined || named === null ? { ...options, prompt_name: found ?? null } : options;
  }
}

function promptNamed(prompts: Readonly<Record<string, string>>, name: string): string {
  if (Object.hasOwn(prompts, name)) return prompts[name]!;
  const names = Object.keys(prompts);
  const near = nearestName(name, names);
  const hint = near === undefined ? "" : `did you mean "${near}"? `;
  throw new InputError(
    `prompt_name: the model has no prompt "${name}"; ${hint}there are ${names.join(", ")}`,
    { option: "prompt_name" },
  );
}

async function loadParts(id: string, options: SentenceTransformerOptions): Promise<SentenceTransformerParts> {
  const own = Object.fromEntries(LOAD_OPTIONS.map((name) => [name, options[name]]));
  const rest: PretrainedOptions = Object.fromEntries(
    Object.entries(options).filter(([name]) => !(name in own)),
  );
  const files = await ModelFiles.find(id, rest);
  const { modules, transformer } = await loadSentenceModules(files, rest).finally(() => files.close());
  const place = transformer === "" ? rest : { ...rest, subfolder: join(rest.subfolder ?? "", transformer) };
  try {
    const settings = await readSentenceSettings(files, transformer);
    const prompts = { ...settings.prompts, ...options.prompts };
    const default_prompt_name = options.default_prompt_name ?? settings.default_prompt_name;
    if (default_prompt_name !== null) promptNamed(prompts, default_prompt_name);
    const [model, tokenizer] = await together(
      AutoModel.from_pretrained(id, place),
      AutoTokenizer.from_pretrained(id, place),
    );
    const { max_position_embeddings } = model.config as { max_position_embeddings?: number };
    return {
      model,
      tokenizer,
      modules,
      prompts,
      default_prompt_name,
      similarity_fn_name: checkSimilarity(options.similarity_fn_name ?? settings.similarity_fn_name),
      truncate_dim: checkPositive("truncate_dim", options.truncate_dim ?? settings.truncate_dim),
      max_seq_length:
        settings.max_seq_length ??
        Math.min(tokenizer.model_max_length, max_position_embeddings ?? tokenizer.model_max_length),
      do_lower_case: settings.do_lower_case,
    };
  } catch (error) {
    for (const module of modules) await module.dispose();
    throw error;
  }
}

function checkTexts(texts: unknown): readonly string[] {
  if (Array.isArray(texts) && texts.every((text) => typeof text === "string")) return texts as string[];
  throw new InputError("encode: expected a text or a list of texts");
}
