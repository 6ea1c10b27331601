import { ConfigError } from "../errors.ts";
import { normalProbability } from "../normal-distribution.ts";
import type { Checkpoint, MetadataValue } from "./checkpoint.ts";

/** Every 6th layer of Gemma 3 attends to the whole context; the file only says so when it differs. */
const GLOBAL_LAYER_PERIOD = 6;
/** And every 5th of Gemma 3n. */
const GEMMA3N_GLOBAL_LAYER_PERIOD = 5;
/** Base of the rotary embedding where files do not store it: in Gemma, and in the sliding layers of Gemma 3. */
const ROPE_THETA = 10_000;

type Config = Record<string, unknown>;

/** By `general.architecture`. */
const architectures: ReadonlyMap<string, (checkpoint: Checkpoint, keys: GgufKeys) => Config> = new Map([
  ["gemma", gemmaConfig],
  ["gemma3", gemma3Config],
  ["gemma3n", gemma3nConfig],
]);

/**
 * A GGUF file's metadata as the config.json that HF would have beside the same weights (transformers 5 spelling).
 * What llama.cpp leaves to the architecture's code is filled in.
 */
export function configFromGguf(checkpoint: Checkpoint): Config {
  const { metadata } = checkpoint;
  const architecture = new GgufKeys(metadata).text("general.architecture");
  const makeConfig = architectures.get(architecture);
  if (makeConfig === undefined) {
    const known = [...architectures.keys()].map((name) => `"${name}"`).join(" or ");
    throw new ConfigError(
      `GGUF general.architecture: "${architecture}" can't be configured, expected ${known}`,
    );
  }
  return makeConfig(checkpoint, new GgufKeys(metadata, `${architecture}.`));
}

/** Gemma (2B, 7B). Its files do not store the base of the rotary embedding. */
function gemmaConfig(checkpoint: Checkpoint, keys: GgufKeys): Config {
  return {
    architectures: ["GemmaForCausalLM"],
    model_type: "gemma",
    ...commonConfig(checkpoint, keys),
    intermediate_size: keys.size("feed_forward_length"),
    hidden_act: "gelu_pytorch_tanh",
    rope_parameters: { ...ropeScaling(keys), rope_theta: keys.numberOr("rope.freq_base", ROPE_THETA) },
  };
}

function gemma3Config(checkpoint: Checkpoint, keys: GgufKeys): Config {
  const common = commonConfig(checkpoint, keys);
  const layers = common.num_hidden_layers;
  return {
    architectures: ["Gemma3ForCausalLM"],
    model_type: "gemma3_text",
    ...common,
    intermediate_size: keys.size("feed_forward_length"),
    hidden_activation: "gelu_pytorch_tanh",
    attn_logit_softcapping: null,
    final_logit_softcapping: keys.optionalNumber("final_logit_softcapping", null),
    query_pre_attn_scalar: queryPreAttnScalar(layers, common),
    sliding_window: keys.size("attention.sliding_window"),
    layer_types: layerTypes(keys, layers),
    rope_parameters: {
      full_attention: { ...ropeScaling(keys), rope_theta: keys.number("rope.freq_base") },
      sliding_attention: {
        rope_type: "default",
        rope_theta: keys.numberOr("rope.freq_base_swa", ROPE_THETA),
      },
    },
  };
}

/** Gemma 3n's text model. Its files hold the sparsity as the bound that it comes to, in standard deviations. */
function gemma3nConfig(checkpoint: Checkpoint, keys: GgufKeys): Config {
  const common = commonConfig(checkpoint, keys);
  const layers = common.num_hidden_layers;
  const rows = (name: string): number => checkpoint.tensors.get(name)?.shape[0] ?? 0;
  return {
    architectures: ["Gemma3nForCausalLM"],
    model_type: "gemma3n_text",
    ...common,
    intermediate_size: feedForwardLengths(keys, layers),
    hidden_activation: "gelu_pytorch_tanh",
    final_logit_softcapping: keys.optionalNumber("final_logit_softcapping", 30),
    sliding_window: keys.size("attention.sliding_window"),
    layer_types: layerTypes(keys, layers, GEMMA3N_GLOBAL_LAYER_PERIOD),
    rope_parameters: {
      full_attention: { ...ropeScaling(keys), rope_theta: keys.number("rope.freq_base") },
      sliding_attention: {
        rope_type: "default",
        rope_theta: keys.numberOr("rope.freq_base_swa", ROPE_THETA),
      },
    },
    num_kv_shared_layers: keys.optionalNumber("attention.shared_kv_layers", 0),
    vocab_size_per_layer_input: rows("model.embed_tokens_per_layer.weight"),
    hidden_size_per_layer_input: keys.size("embedding_length_per_layer_input"),
    altup_num_inputs: keys.size("altup.num_inputs"),
    altup_active_idx: keys.optionalNumber("altup.active_idx", 0),
    laurel_rank: rows("model.layers.0.laurel.linear_left.weight"),
    activation_sparsity_pattern: sparsityPattern(keys, layers),
  };
}

/** One number, or one for each layer (MatFormer). */
function feedForwardLengths(keys: GgufKeys, layers: number): number | number[] {
  const value = keys.value("feed_forward_length");
  if (typeof value === "number") return keys.size("feed_forward_length");
  if ((value instanceof Int32Array || value instanceof Uint32Array) && value.length === layers)
    return [...value];
  return keys.fail("feed_forward_length", `is neither a number nor a list of ${layers}`);
}

/** Shares from quantiles; layers without sparsity have -inf. Undefined, so that HF's default holds, where nothing is said. */
function sparsityPattern(keys: GgufKeys, layers: number): number[] | undefined {
  const scales = keys.value("activation_sparsity_scale");
  if (scales === undefined) return undefined;
  if (!(scales instanceof Float32Array) || scales.length !== layers || scales.some(Number.isNaN))
    return keys.fail("activation_sparsity_scale", `is no list of ${layers} numbers`);
  // The file keeps float32: 1.64485 is 0.95.
  return [...scales].map((scale) => Number(normalProbability(scale).toPrecision(6)));
}

/** What every architecture has: sizes, tokens, and whether the output layer shares the embedding's weights. */
function commonConfig(checkpoint: Checkpoint, keys: GgufKeys) {
  const tokenizer = new GgufKeys(checkpoint.metadata, "tokenizer.ggml.");
  const hidden_size = keys.size("embedding_length");
  return {
    vocab_size: vocabSize(checkpoint, keys, hidden_size),
    hidden_size,
    ...headSizes(keys),
    num_hidden_layers: layerCount(checkpoint, keys),
    max_position_embeddings: keys.size("context_length"),
    rms_norm_eps: keys.number("attention.layer_norm_rms_epsilon"),
    attention_bias: false,
    tie_word_embeddings: !checkpoint.tensors.has("lm_head.weight"),
    bos_token_id: tokenizer.optionalNumber("bos_token_id", 2),
    eos_token_id: eosTokenIds(tokenizer),
    pad_token_id: tokenizer.optionalNumber("padding_token_id", 0),
  };
}

function headSizes(keys: GgufKeys) {
  const sizes = {
    num_attention_heads: keys.size("attention.head_count"),
    num_key_value_heads: keys.size("attention.head_count_kv"),
    head_dim: keys.size("attention.key_length"),
  };
  if (sizes.num_attention_heads % sizes.num_key_value_heads !== 0) {
    keys.fail("attention.head_count_kv", `does not divide the ${sizes.num_attention_heads} heads`);
  }
  if (keys.optionalNumber("attention.value_length", sizes.head_dim) !== sizes.head_dim) {
    keys.fail("attention.value_length", `differs from attention.key_length, ${sizes.head_dim}`);
  }
  return sizes;
}

/** Checked against the tensors before anything is made that long. */
function layerCount(checkpoint: Checkpoint, keys: GgufKeys): number {
  const layers = keys.size("block_count");
  const present = new Set<string>();
  for (const name of checkpoint.tensors.keys()) {
    const layer = /^model\.layers\.(\d+)\./.exec(name)?.[1];
    if (layer !== undefined) present.add(layer);
  }
  if (present.size !== layers)
    keys.fail("block_count", `is ${layers}, but the file has ${present.size} layers`);
  return layers;
}

function vocabSize(checkpoint: Checkpoint, keys: GgufKeys, hiddenSize: number): number {
  const [vocabulary, hidden] = checkpoint.tensors.get("model.embed_tokens.weight")?.shape ?? [];
  if (vocabulary === undefined) throw new ConfigError("GGUF token_embd.weight: missing");
  if (hidden !== hiddenSize) {
    keys.fail("embedding_length", `is ${hiddenSize}, but token_embd.weight has rows of ${hidden}`);
  }
  return vocabulary;
}

/** Not in the file. Gemma 3 scales by 1/sqrt(head_dim), only the 27B by 1/sqrt(hidden_size / heads). */
function queryPreAttnScalar(
  layers: number,
  size: { hidden_size: number; num_attention_heads: number; head_dim: number },
): number {
  const is27B = layers === 62 && size.hidden_size === 5376 && size.num_attention_heads === 32;
  return is27B ? size.hidden_size / size.num_attention_heads : size.head_dim;
}

function layerTypes(keys: GgufKeys, layers: number, period = GLOBAL_LAYER_PERIOD): string[] {
  const pattern = keys.value("attention.sliding_window_pattern") ?? period;
  let isSliding: (layer: number) => boolean;
  if (pattern instanceof Uint8Array && pattern.length === layers) isSliding = (layer) => pattern[layer] === 1;
  else if (typeof pattern === "number" && pattern > 0) isSliding = (layer) => (layer + 1) % pattern !== 0;
  else return keys.fail("attention.sliding_window_pattern", `is neither a period nor ${layers} booleans`);
  return Array.from({ length: layers }, (_, i) => (isSliding(i) ? "sliding_attention" : "full_attention"));
}

function ropeScaling(keys: GgufKeys): Config {
  const type = keys.value("rope.scaling.type") ?? "none";
  const factor = keys.optionalNumber("rope.scaling.factor", 1);
  if (type !== "none" && type !== "linear")
    keys.fail("rope.scaling.type", `"${type}" is not known for Gemma`);
  return type === "linear" && factor !== 1 ? { rope_type: "linear", factor } : { rope_type: "default" };
}

/** Instruction-tuned files name <end_of_turn> apart from <eos>; HF's configs list both. */
function eosTokenIds(tokenizer: GgufKeys): number | null | (number | null)[] {
  const eos = tokenizer.optionalNumber("eos_token_id", 1);
  const endOfTurn = tokenizer.optionalNumber("eot_token_id", eos);
  return endOfTurn === eos ? eos : [eos, endOfTurn];
}

/** Typed access to the metadata under one prefix; failures name the whole key. */
export class GgufKeys {
  readonly #metadata: ReadonlyMap<string, MetadataValue>;
  readonly #prefix: string;

  constructor(metadata: ReadonlyMap<string, MetadataValue>, prefix = "") {
    this.#metadata = metadata;
    this.#prefix = prefix;
  }

  value(key: string): MetadataValue | undefined {
    return this.#metadata.get(this.#prefix + key);
  }

  fail(key: string, problem: string): never {
    throw new ConfigError(`GGUF ${this.#prefix}${key}: ${problem}`);
  }

  text(key: string): string {
    const value = this.value(key);
    return typeof value === "string" ? value : this.fail(key, `${described(value)}, expected a string`);
  }

  /** A finite positive number. */
  number(key: string): number {
    const value = this.value(key);
    if (typeof value !== "number" || !Number.isFinite(value) || value <= 0) {
      return this.fail(key, `${described(value)}, expected a positive number`);
    }
    // The file keeps float32: 9.999999974752427e-7 was 1e-6 in config.json.
    return Number.isInteger(value) ? value : Number(value.toPrecision(7));
  }

  size(key: string): number {
    const value = this.number(key);
    return Number.isSafeInteger(value) ? value : this.fail(key, `${value}, expected an integer`);
  }

  /** As `number`, or `otherwise` where the file says nothing. */
  numberOr(key: string, otherwise: number): number {
    return this.value(key) === undefined ? otherwise : this.number(key);
  }

  optionalNumber<T>(key: string, otherwise: T): number | T {
    const value = this.value(key);
    if (value === undefined) return otherwise;
    return typeof value === "number" && Number.isFinite(value)
      ? value
      : this.fail(key, `${described(value)}, expected a number`);
  }
}

function described(value: MetadataValue | undefined): string {
  if (value === undefined) return "missing";
  return typeof value === "object" ? "an array" : String(value).slice(0, 80);
}
