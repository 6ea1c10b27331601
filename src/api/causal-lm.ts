import { Callable } from "../callable.ts";
import { ConfigError, rejectUnknownOptions } from "../errors.ts";
import { type GenerateOptions, generate } from "../generation/generate.ts";
import { GenerationConfig } from "../generation/generation-config.ts";
import { KeyValueCache } from "../generation/kv-cache.ts";
import type { GenerateOutput } from "../generation/output.ts";
import { TransformerDecoder } from "../generation/transformer-decoder.ts";
import type { JsonObject } from "../models/config-reader.ts";
import type { Device } from "../runtime/session.ts";
import type { Tensor } from "../tensor.ts";
import { causalLoss, type DecoderForwardInputs, forwardDecoder } from "./decoder-forward.ts";
import { type DecoderParts, DecoderSessions } from "./decoder-sessions.ts";
import { idRows } from "./inputs.ts";
import type { LoadedModel } from "./pretrained-model.ts";

/** What calling a causal language model gives, as HF's CausalLMOutputWithPast. */
export interface CausalLMOutput {
  /** float32 [batch, kept, vocab_size] */
  readonly logits: Tensor;
  /** A scalar, when labels were given. */
  readonly loss?: Tensor;
  readonly hidden_states?: readonly Tensor[];
  readonly past_key_values?: KeyValueCache;
}

const FORWARD_INPUTS: readonly (keyof DecoderForwardInputs)[] = [
  "input_ids",
  "attention_mask",
  "position_ids",
  "labels",
  "past_key_values",
  "use_cache",
  "output_hidden_states",
  "logits_to_keep",
  "signal",
];

/** Where a model's memory goes, in bytes. */
export interface ModelMemory {
  /** Weights by way of storage, e.g. { "q8 (block 32)": 288276480 }. */
  readonly weights: Readonly<Record<string, number>>;
  /** Keys and values of one position more, in a context longer than every window. */
  readonly cache_bytes_per_token: number;
}

/** A decoder with a language-model head: called for logits, or asked to generate. */
export abstract class CausalLM<Config extends object> extends Callable<
  (inputs: DecoderForwardInputs) => Promise<CausalLMOutput>
> {
  readonly config: Config;
  readonly generation_config: GenerationConfig;
  readonly device: Device;
  /** "onnxruntime 1.30.0 (native)" or the fallback. */
  readonly engine: string;
  /** One line: where the weights came from. */
  readonly source: string;
  readonly #sessions: DecoderSessions;
  readonly #decoder: TransformerDecoder;
  readonly #loaded: LoadedModel;

  protected constructor(loaded: LoadedModel, config: Config, parts: Omit<DecoderParts, "weights" | "pack">) {
    super();
    this.config = config;
    this.generation_config = GenerationConfig.from_object(
      loaded.generation_config ?? tokenIds(loaded.config),
    );
    this.device = loaded.options.device;
    this.engine = loaded.engine.name;
    this.source = loaded.source;
    this.#loaded = loaded;
    const { engine, options } = loaded;
    const threads = options.threads === undefined ? {} : { threads: options.threads };
    this.#sessions = new DecoderSessions(
      { ...parts, weights: loaded.weights.weights, pack: loaded.weights.pack },
      { engine, device: options.device, ...threads },
    );
    this.#decoder = new TransformerDecoder(this.#sessions);
  }

  async _call(inputs: DecoderForwardInputs): Promise<CausalLMOutput> {
    rejectUnknownOptions(inputs, FORWARD_INPUTS, `${this.constructor.name}`);
    const { logits, hidden_states, past_key_values } = await forwardDecoder(this.#decoder, inputs);
    if (inputs.use_cache === false && !inputs.past_key_values) past_key_values.dispose();
    return {
      logits,
      ...(inputs.labels === undefined ? {} : { loss: causalLoss(logits, idRows(inputs.labels, "labels")) }),
      ...(hidden_states === undefined ? {} : { hidden_states }),
      ...(inputs.use_cache === false ? {} : { past_key_values }),
    };
  }

  /** HF's name of the call. */
  forward(inputs: DecoderForwardInputs): Promise<CausalLMOutput> {
    return this._call(inputs);
  }

  /** Continues `input_ids`; see GenerationConfig for the options. */
  generate(options: GenerateOptions & { return_dict_in_generate: true }): Promise<GenerateOutput>;
  generate(options: GenerateOptions & { return_dict_in_generate?: false | undefined }): Promise<Tensor>;
  generate(options: GenerateOptions): Promise<Tensor | GenerateOutput>;
  generate(options: GenerateOptions): Promise<Tensor | GenerateOutput> {
    const { max_position_embeddings } = this.config as { max_position_embeddings?: number };
    return generate(this.#decoder, options, {
      generation_config: this.generation_config,
      max_position_embeddings,
    });
  }

  /** As in HF; a model stays on the device that it was loaded on. */
  to(device: string): this {
    if (device !== this.device && device !== "auto")
      throw new ConfigError(`the model is on ${this.device}; load it with device: "${device}" instead`);
    return this;
  }

  /** As in HF; models here only ever evaluate. */
  eval(): this {
    return this;
  }

  /** Bytes of weights and cache. */
  memory(): ModelMemory {
    const perToken = this.#sessions.layers
      .filter((layer) => layer.window === null)
      .reduce((sum, layer) => sum + 8 * layer.kv_heads * layer.head_dim, 0);
    return {
      weights: Object.fromEntries(this.#loaded.weights.bytesByStorage),
      cache_bytes_per_token: perToken,
    };
  }

  /** Bytes that the cache of a context takes: sliding layers hold their window and a chunk at most. */
  cacheBytes(context_length: number, batch = 1): number {
    return KeyValueCache.bytes(this.#sessions.layers, batch, context_length);
  }

  /** The ONNX model that runs, with references to the weights' files, and the folder these are relative to. */
  exportOnnx(): { model: Uint8Array; externalDataFolder: string } {
    return this.#sessions.serialize({ output_hidden_states: false });
  }

  /** Makes the engine's session now instead of at the first call. */
  async prepare(): Promise<void> {
    await this.#sessions.session({ output_hidden_states: false });
  }

  /** Releases everything that the engine holds. Caches of this model can't be used afterwards. */
  async dispose(): Promise<void> {
    await this.#sessions.dispose();
  }
}

/** Without generation_config.json the model's own configuration says which tokens begin, end and pad. */
function tokenIds({ bos_token_id, eos_token_id, pad_token_id }: JsonObject): JsonObject {
  const ids = { bos_token_id, eos_token_id, pad_token_id };
  return Object.fromEntries(Object.entries(ids).filter(([, id]) => id !== undefined && id !== null));
}
