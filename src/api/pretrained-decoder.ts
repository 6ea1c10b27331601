import { Callable } from "../callable.ts";
import { ConfigError, rejectUnknownOptions } from "../errors.ts";
import type { Cache } from "../generation/cache.ts";
import { KeyValueCache } from "../generation/kv-cache.ts";
import type { IdsInput } from "../generation/prompt.ts";
import { TransformerDecoder } from "../generation/transformer-decoder.ts";
import type { JsonObject } from "../models/config-reader.ts";
import type { ModelConfig } from "../models/text-config.ts";
import type { Device } from "../runtime/session.ts";
import { Tensor } from "../tensor.ts";
import {
  adaptableLayers,
  DEFAULT_ADAPTER,
  findAdapter,
  LOAD_ADAPTER_OPTIONS,
  type LoadAdapterOptions,
  readAdapter,
} from "./adapter-files.ts";
import { Adapters, type AdapterWeights } from "./adapters.ts";
import {
  type DecoderForwardInputs,
  type DecoderForwardResult,
  type ForwardWants,
  forwardDecoder,
} from "./decoder-forward.ts";
import { DecoderSessions } from "./decoder-sessions.ts";
import { idRows } from "./inputs.ts";
import { type MediaReader, refuseMedia } from "./media.ts";
import type { PretrainedOptions } from "./options.ts";
import { type Head, type LoadedTextModel, loadTextModel, type TextFamily } from "./text-models.ts";

const FORWARD_INPUTS: readonly (keyof DecoderForwardInputs)[] = [
  "input_ids",
  "inputs_embeds",
  "attention_mask",
  "token_type_ids",
  "position_ids",
  "labels",
  "past_key_values",
  "use_cache",
  "output_hidden_states",
  "output_attentions",
  "logits_to_keep",
  "signal",
];

/** Where a model's memory goes, in bytes. */
export interface ModelMemory {
  /** Weights by way of storage, e.g. { "q8 (block 32)": 288276480 }. */
  readonly weights: Readonly<Record<string, number>>;
  /** Tables that stay in their file, of which single rows are read (Gemma 3n's per-layer embeddings). */
  readonly on_disk: Readonly<Record<string, number>>;
  /** Keys and values of one position more, in a context longer than every window. */
  readonly cache_bytes_per_token: number;
  /** Parts that are loaded when they are first needed: bytes of their tensors in the checkpoint. */
  readonly parts?: Readonly<Record<string, { readonly bytes: number; readonly loaded: boolean }>>;
}

/** What all outputs may have, as HF's ModelOutput classes. */
export interface ModelOutput {
  /**
   * float32 [batch, length, hidden_size] each: the embeddings first, the normed output last. Gemma 3n's are its four
   * streams [4, batch, length, hidden_size], and the last is not normed.
   */
  readonly hidden_states?: readonly Tensor[];
  /** float32 [batch, heads, length, keys] each. */
  readonly attentions?: readonly Tensor[];
  readonly past_key_values?: Cache;
  /** float32 [images, tokens, hidden_size]: the vectors of the images that came with the call. */
  readonly image_hidden_states?: Tensor;
  /** float32 [clips, tokens, hidden_size]: the vectors of the sounds that came with the call. */
  readonly audio_hidden_states?: Tensor;
}

/** A loaded model: what the classes of its parts (with a head, without) share. */
export class TextModelCore<Config extends ModelConfig> {
  readonly config: Config;
  readonly device: Device;
  readonly engine: string;
  readonly source: string;
  readonly generation_config: JsonObject | undefined;
  readonly weightBytes: ReadonlyMap<string, number>;
  readonly diskBytes: ReadonlyMap<string, number>;
  readonly logits_size: number;
  readonly adapters: Adapters;
  /** Reads an adapter that is to run beside the weights. */
  readonly readAdapter: (path: string, options: LoadAdapterOptions) => Promise<AdapterWeights>;
  readonly sessions: DecoderSessions;
  readonly decoder: TransformerDecoder;
  /** How images and sounds are read; undefined where the model takes text alone. */
  readonly media: MediaReader | undefined;

  constructor({ loaded, config, module, logits_size, media }: LoadedTextModel<Config>) {
    const { engine, options, weights } = loaded;
    this.config = config;
    this.device = options.device;
    this.engine = engine.name;
    this.source = loaded.source;
    this.generation_config = loaded.generation_config;
    this.weightBytes = weights.bytesByStorage;
    this.diskBytes = weights.bytesOnDisk;
    this.logits_size = logits_size;
    const layers = adaptableLayers(module);
    this.adapters = new Adapters(layers);
    if (loaded.adapter !== undefined) this.adapters.add(loaded.adapter.name, loaded.adapter.weights);
    this.readAdapter = async (path, where) => {
      const adapter = await findAdapter(path, loaded.base, where);
      return readAdapter(adapter, layers).finally(() => adapter.checkpoint.close());
    };
    const threads = options.threads === undefined ? {} : { threads: options.threads };
    this.sessions = new DecoderSessions(
      {
        config: config.get_text_config(),
        module,
        logits_size,
        weights: weights.weights,
        pack: weights.pack,
        adapters: this.adapters,
      },
      { engine, device: options.device, ...threads },
    );
    this.media = media?.((row) => this.decoder.embed([row]));
    this.decoder = new TransformerDecoder(this.sessions, this.media?.hardIds);
  }

  /** Loads what a class of this family and head needs; `name` is the class', for messages. */
  static async load<Config extends ModelConfig>(
    id: string,
    options: PretrainedOptions | undefined,
    name: string,
    family: TextFamily<Config>,
    head: Head,
  ): Promise<TextModelCore<Config>> {
    return new TextModelCore(await loadTextModel(id, options ?? {}, name, family, head));
  }
}

/** A model, whatever stands on it: what HF's PreTrainedModel offers besides its call. */
export abstract class PretrainedDecoder<Config extends ModelConfig, Output> extends Callable<
  (inputs: DecoderForwardInputs) => Promise<Output>
> {
  readonly config: Config;
  readonly device: Device;
  /** "onnxruntime 1.30.0 (native)" or the fallback. */
  readonly engine: string;
  /** One line: where the weights came from. */
  readonly source: string;
  protected readonly core: TextModelCore<Config>;

  protected constructor(core: TextModelCore<Config>) {
    super();
    this.core = core;
    this.config = core.config;
    this.device = core.device;
    this.engine = core.engine;
    this.source = core.source;
  }

  abstract _call(inputs: DecoderForwardInputs): Promise<Output>;

  /** HF's name of the call. Inputs that are null count as absent, as in HF. */
  forward(inputs: DecoderForwardInputs): Promise<Output> {
    return this._call(inputs);
  }

  /** Runs the graph; checks the inputs' names. */
  protected run(
    inputs: DecoderForwardInputs,
    wants: Omit<ForwardWants, "hidden_size">,
  ): Promise<DecoderForwardResult> {
    const { media, decoder } = this.core;
    if (media === undefined) refuseMedia(inputs, this.constructor.name);
    rejectUnknownOptions(inputs, [...FORWARD_INPUTS, ...(media?.inputNames ?? [])], this.constructor.name);
    const given = Object.fromEntries(Object.entries(inputs).filter(([, value]) => value !== null));
    return forwardDecoder(decoder, given, { ...wants, hidden_size: decoder.hidden_size }, media);
  }

  /** The embedding as a function: ids to float32 [batch, length, hidden_size], as `inputs_embeds` takes them. */
  get_input_embeddings(): (input_ids: IdsInput) => Promise<Tensor> {
    return async (input_ids) => {
      const rows = idRows(input_ids, "input_ids");
      const { decoder } = this.core;
      const shape = [rows.length, rows[0]!.length, decoder.hidden_size];
      return new Tensor("float32", await decoder.embed(rows), shape);
    };
  }

  /**
   * Loads a LoRA adapter, a folder or a hub id, to run beside the weights, and chooses it. Wait for running calls
   * first: the engine's session is made anew where the adapter changes layers that no other changes.
   */
  async load_adapter(
    path: string,
    adapter_name: string = DEFAULT_ADAPTER,
    options: LoadAdapterOptions = {},
  ): Promise<void> {
    rejectUnknownOptions(options, LOAD_ADAPTER_OPTIONS, "load_adapter");
    await this.core.adapters.load(adapter_name, () => this.core.readAdapter(path, options));
  }

  /** Chooses the adapter, or several that add up, that runs from the next call on. */
  set_adapter(adapter_name: string | readonly string[]): void {
    this.core.adapters.choose(typeof adapter_name === "string" ? [adapter_name] : adapter_name);
  }

  /** Runs the weights alone until `enable_adapters`. */
  disable_adapters(): void {
    this.core.adapters.enable(false);
  }

  enable_adapters(): void {
    this.core.adapters.enable(true);
  }

  /** Names of the chosen adapters, also while they are disabled. */
  active_adapters(): string[] {
    return this.core.adapters.active;
  }

  /** Forgets adapters; where no chosen one is left, the first of the others is chosen. */
  delete_adapter(adapter_names: string | readonly string[]): void {
    this.core.adapters.remove(typeof adapter_names === "string" ? [adapter_names] : adapter_names);
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
    const perToken = this.core.sessions.layers
      .filter((layer) => layer.window === null)
      .reduce((sum, layer) => sum + 8 * layer.kv_heads * layer.head_dim, 0);
    const parts = [...(this.core.media?.parts ?? [])].map(
      ([name, { bytes, loaded }]) => [name, { bytes, loaded }] as const,
    );
    return {
      weights: Object.fromEntries(this.core.weightBytes),
      on_disk: Object.fromEntries(this.core.diskBytes),
      cache_bytes_per_token: perToken,
      ...(parts.length > 0 && { parts: Object.fromEntries(parts) }),
    };
  }

  /** Bytes that the cache of a context takes: sliding layers hold their window and a chunk at most. */
  cacheBytes(context_length: number, batch = 1): number {
    return KeyValueCache.bytes(this.core.sessions.layers, batch, context_length);
  }

  /** Releases everything that the engine holds. Caches of this model can't be used afterwards. */
  async dispose(): Promise<void> {
    await this.core.sessions.dispose();
    for (const part of this.core.media?.parts.values() ?? []) await part.dispose();
  }
}

/** The parts of an output that every class has. */
export function commonOutputs({
  hidden_states,
  attentions,
  past_key_values,
  media,
}: DecoderForwardResult): ModelOutput {
  return {
    ...media,
    ...(hidden_states && { hidden_states }),
    ...(attentions && { attentions }),
    ...(past_key_values && { past_key_values }),
  };
}
