import { Callable } from "../callable.ts";
import type { KeyValueCache } from "../generation/kv-cache.ts";
import { Gemma3TextConfig } from "../models/gemma3/config.ts";
import { Gemma3CausalLMModule, layerCaches } from "../models/gemma3/text.ts";
import { alignHeadDim } from "../nn/head-dim.ts";
import type { Tensor } from "../tensor.ts";
import { CausalLM } from "./causal-lm.ts";
import type { DecoderForwardInputs } from "./decoder-forward.ts";
import type { PretrainedOptions } from "./options.ts";
import { type LoadedModel, loadModel } from "./pretrained-model.ts";

/** Gemma 3's text model with its language-model head (270M, 1B). */
export class Gemma3ForCausalLM extends CausalLM<Gemma3TextConfig> {
  /** Loads a model: a folder, a .gguf file, a hub id, or the name of a pinned package. */
  static async from_pretrained(id: string, options: PretrainedOptions = {}): Promise<Gemma3ForCausalLM> {
    const makeModule = (config: object): Gemma3CausalLMModule => new Gemma3CausalLMModule(textConfig(config));
    return new Gemma3ForCausalLM(
      await loadModel(id, options, "Gemma3ForCausalLM.from_pretrained", makeModule),
    );
  }

  private constructor(loaded: LoadedModel) {
    const config = textConfig(loaded.config);
    const rope = [...new Set(config.layer_types)].map((kind) => {
      const { rope_theta, factor } = config.rope_parameters[kind];
      return [
        kind,
        { rope_theta, factor, head_dim: config.head_dim, aligned_head_dim: alignHeadDim(config.head_dim) },
      ] as const;
    });
    super(loaded, config, {
      module: new Gemma3CausalLMModule(config),
      vocab_size: config.vocab_size,
      hidden_size: config.hidden_size,
      layers: layerCaches(config),
      rope: Object.fromEntries(rope),
    });
  }
}

/** Gemma 3's text model without its head. */
export class Gemma3TextModel extends Callable<(inputs: BaseModelInputs) => Promise<BaseModelOutput>> {
  readonly config: Gemma3TextConfig;
  readonly #model: Gemma3ForCausalLM;

  static async from_pretrained(id: string, options: PretrainedOptions = {}): Promise<Gemma3TextModel> {
    return new Gemma3TextModel(await Gemma3ForCausalLM.from_pretrained(id, options));
  }

  private constructor(model: Gemma3ForCausalLM) {
    super();
    this.#model = model;
    this.config = model.config;
  }

  /** The normed output of the last layer: float32 [batch, length, hidden_size]. */
  async _call(inputs: BaseModelInputs): Promise<BaseModelOutput> {
    const { output_hidden_states, ...rest } = inputs;
    // One row of logits is the least that the graph gives.
    const output = await this.#model({ ...rest, output_hidden_states: true, logits_to_keep: 1 });
    const hidden_states = output.hidden_states!;
    return {
      last_hidden_state: hidden_states.at(-1)!,
      ...(output_hidden_states === true ? { hidden_states } : {}),
      ...(output.past_key_values === undefined ? {} : { past_key_values: output.past_key_values }),
    };
  }

  dispose(): Promise<void> {
    return this.#model.dispose();
  }
}

/** Inputs of a model without a head. */
export type BaseModelInputs = Omit<DecoderForwardInputs, "labels" | "logits_to_keep">;

/** As HF's BaseModelOutputWithPast. */
export interface BaseModelOutput {
  readonly last_hidden_state: Tensor;
  readonly hidden_states?: readonly Tensor[];
  readonly past_key_values?: KeyValueCache;
}

function textConfig(config: object): Gemma3TextConfig {
  return config instanceof Gemma3TextConfig
    ? config
    : new Gemma3TextConfig(config as Record<string, unknown>);
}
