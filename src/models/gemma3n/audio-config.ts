import { ConfigReader, type JsonObject } from "../config-reader.ts";

/** A size in time and one in frequency. */
export type TimeAndFrequency = readonly [time: number, frequency: number];

/** Keys that change nothing here: training and bookkeeping. */
const KEYS_WITHOUT_EFFECT: readonly string[] = [
  "model_type",
  "initializer_range",
  "dtype",
  "torch_dtype",
  "transformers_version",
  "_name_or_path",
];

/** Steps that attention reaches at most, in a block or beside it: masks of the square of it are made. Released: 12 and 13. */
const MOST_STEPS = 1024;

/** There are two convolutions. */
const CONVOLUTIONS = 2;

/** Configuration of Gemma 3n's audio encoder and of what embeds its features. Defaults are HF's. */
export class Gemma3nAudioConfig {
  readonly model_type = "gemma3n_audio";
  /** Ids from `vocab_offset` on, so many, that stand for audio's vectors of fixed kinds. */
  readonly vocab_size: number;
  readonly vocab_offset: number;
  /** Mel bands. */
  readonly input_feat_size: number;
  readonly hidden_size: number;
  /** Of the light convolutions' norms and of those that embed features; the others have 1e-6. */
  readonly rms_norm_eps: number;
  /** Bound of activations between the parts of a block. */
  readonly gradient_clipping: number;
  /** Steps of a block of queries. */
  readonly conf_attention_chunk_size: number;
  /** Steps that a query sees, itself included, back in time. */
  readonly conf_attention_context_left: number;
  /** Steps that a query sees after itself. */
  readonly conf_attention_context_right: number;
  readonly conf_attention_logit_cap: number;
  readonly conf_num_attention_heads: number;
  readonly conf_num_hidden_layers: number;
  readonly conf_conv_kernel_size: number;
  /** Of the encoder's steps every so many-th is given. */
  readonly conf_reduction_factor: number;
  /** Weight of the feed-forward layers beside their residual. */
  readonly conf_residual_weight: number;
  readonly sscp_conv_channel_size: readonly number[];
  readonly sscp_conv_group_norm_eps: number;
  readonly sscp_conv_kernel_size: readonly TimeAndFrequency[];
  readonly sscp_conv_stride_size: readonly TimeAndFrequency[];
  /** Keys of config.json that the class does not know; they have no effect. */
  readonly unknown_keys: readonly string[];

  constructor(config: JsonObject = {}) {
    const read: ConfigReader = new ConfigReader(config, "audio_config");
    this.vocab_size = read.positiveInt("vocab_size", 128);
    this.vocab_offset = read.positiveInt("vocab_offset", 262_272);
    this.input_feat_size = read.positiveInt("input_feat_size", 128);
    this.hidden_size = read.positiveInt("hidden_size", 1536);
    this.rms_norm_eps = read.positiveNumber("rms_norm_eps", 1e-6);
    this.gradient_clipping = read.positiveNumber("gradient_clipping", 1e10);
    this.conf_attention_chunk_size = read.positiveInt("conf_attention_chunk_size", 12);
    this.conf_attention_context_left = read.id("conf_attention_context_left", 13)!;
    this.conf_attention_context_right = read.id("conf_attention_context_right", 0)!;
    this.conf_attention_logit_cap = read.positiveNumber("conf_attention_logit_cap", 50);
    this.conf_num_attention_heads = read.positiveInt("conf_num_attention_heads", 8);
    this.conf_num_hidden_layers = read.layerCount("conf_num_hidden_layers", 12);
    this.conf_conv_kernel_size = read.positiveInt("conf_conv_kernel_size", 5);
    this.conf_reduction_factor = read.positiveInt("conf_reduction_factor", 4);
    this.conf_residual_weight = read.positiveNumber("conf_residual_weight", 0.5);
    this.sscp_conv_channel_size = readList(read, "sscp_conv_channel_size", [128, 32], isSize, "sizes");
    this.sscp_conv_group_norm_eps = read.positiveNumber("sscp_conv_group_norm_eps", 1e-3);
    this.sscp_conv_kernel_size = readPairs(read, "sscp_conv_kernel_size", [3, 3]);
    this.sscp_conv_stride_size = readPairs(read, "sscp_conv_stride_size", [2, 2]);
    for (const key of KEYS_WITHOUT_EFFECT) read.raw(key);
    this.unknown_keys = read.unknownKeys();
    const { hidden_size, conf_num_attention_heads: heads } = this;
    if (hidden_size % 2 !== 0 || hidden_size % heads !== 0)
      read.fail("hidden_size", `${hidden_size} must be even and a multiple of ${heads} attention heads`);
    const reach = [
      "conf_attention_chunk_size",
      "conf_attention_context_left",
      "conf_attention_context_right",
    ] as const;
    for (const key of reach)
      if (this[key] > MOST_STEPS) read.fail(key, `${this[key]} steps are too many; at most ${MOST_STEPS}`);
    if (this.frequencies.some((size) => size < 1))
      read.fail("input_feat_size", `${this.input_feat_size} bands are too few for the two convolutions`);
  }

  get head_dim(): number {
    return this.hidden_size / this.conf_num_attention_heads;
  }

  /** Steps before itself that a query sees. */
  get past_steps(): number {
    return Math.max(0, this.conf_attention_context_left - 1);
  }

  /** Keys that a block of queries has at hand. */
  get context_size(): number {
    return this.conf_attention_chunk_size + this.past_steps + this.conf_attention_context_right;
  }

  /** Frequencies that each convolution leaves: one zero stands at both ends. */
  get frequencies(): readonly number[] {
    let size = this.input_feat_size;
    return this.sscp_conv_stride_size.map(([, stride], i) => {
      size = Math.floor((size + 2 - this.sscp_conv_kernel_size[i]![1]) / stride) + 1;
      return size;
    });
  }
}

function readPairs(read: ConfigReader, key: string, fallback: TimeAndFrequency): TimeAndFrequency[] {
  const isPair = (value: unknown): value is TimeAndFrequency =>
    Array.isArray(value) && value.length === 2 && value.every(isSize);
  return readList(read, key, [fallback, fallback], isPair, "pairs of sizes, [time, frequency]");
}

function readList<T>(
  read: ConfigReader,
  key: string,
  fallback: readonly T[],
  isItem: (value: unknown) => value is T,
  what: string,
): T[] {
  const list = read.raw(key) ?? fallback;
  if (!Array.isArray(list) || list.length !== CONVOLUTIONS || !list.every(isItem))
    read.fail(key, `expected ${CONVOLUTIONS} ${what}, got ${JSON.stringify(list)}`);
  return list;
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}
