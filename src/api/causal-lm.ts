import type { Cache } from "../generation/cache.ts";
import type { Decoder } from "../generation/decoder.ts";
import {
  type GenerateContext,
  type GenerateOptions,
  type GenerateResult,
  generate,
} from "../generation/generate.ts";
import { GenerationConfig } from "../generation/generation-config.ts";
import type { GenerateOutput } from "../generation/output.ts";
import type { JsonObject } from "../models/config-reader.ts";
import type { ModelConfig } from "../models/text-config.ts";
import type { Tensor } from "../tensor.ts";
import { HeadedModel } from "./base-model.ts";
import type { DecoderForwardInputs } from "./decoder-forward.ts";
import { GENERATION } from "./decoder-sessions.ts";
import { labelTensor } from "./inputs.ts";
import { causalLoss } from "./losses.ts";
import { type MediaInputs, type MediaReader, refuseMedia } from "./media.ts";
import { commonOutputs, type ModelOutput, type TextModelCore } from "./pretrained-decoder.ts";

/** What calling a causal language model gives, as HF's CausalLMOutputWithPast. */
export interface CausalLMOutput extends ModelOutput {
  /** float32 [batch, kept, vocab_size] */
  readonly logits: Tensor;
  /** A scalar, when labels were given. */
  readonly loss?: Tensor;
}

/** What `generate` gives with `return_dict_in_generate`. */
export type CausalLMGenerateOutput = GenerateOutput & { readonly past_key_values?: Cache };

/** Options of `generate`, and what models take besides text. */
export type ModelGenerateOptions = GenerateOptions & Omit<MediaInputs, "signal">;

/** A decoder with a language-model head: called for logits, or asked to generate. */
export abstract class CausalLM<Config extends ModelConfig = ModelConfig> extends HeadedModel<
  Config,
  CausalLMOutput
> {
  readonly generation_config: GenerationConfig;

  protected constructor(core: TextModelCore<Config>) {
    super(core);
    this.generation_config = GenerationConfig.from_object(core.generation_config ?? tokenIds(core.config));
  }

  async _call(inputs: DecoderForwardInputs): Promise<CausalLMOutput> {
    const { labels } = inputs;
    const result = await this.run(inputs, { logits: this.core.logits_size, last_hidden_state: false });
    const { logits } = result;
    return {
      logits,
      ...(labels == null ? {} : { loss: causalLoss(logits, labelTensor(labels)) }),
      ...commonOutputs(result),
    };
  }

  /** Continues `input_ids`; see GenerationConfig for the options. */
  generate(
    options: ModelGenerateOptions & { return_dict_in_generate: true },
  ): Promise<CausalLMGenerateOutput>;
  generate(options: ModelGenerateOptions & { return_dict_in_generate?: false | undefined }): Promise<Tensor>;
  generate(options: ModelGenerateOptions): Promise<Tensor | CausalLMGenerateOutput>;
  async generate(options: ModelGenerateOptions): Promise<Tensor | CausalLMGenerateOutput> {
    const { generation_config } = this;
    const { max_position_embeddings } = this.config.get_text_config();
    const { decoder, media } = this.core;
    if (media === undefined) refuseMedia(options, "generate");
    const context = { generation_config, max_position_embeddings };
    // The decoder makes no other caches.
    return (await (media === undefined
      ? generate(decoder, options, context)
      : generateWithMedia(decoder, options, context, media))) as Tensor | CausalLMGenerateOutput;
  }

  /** What `generate` runs. It lets this model stand as another's `assistant_model`. */
  get decoder(): Decoder {
    return this.core.decoder;
  }

  /** The ONNX model that runs, with references to the weights' files, and the folder these are relative to. */
  exportOnnx(): { model: Uint8Array; externalDataFolder: string } {
    return this.core.sessions.serialize(GENERATION);
  }

  /** Makes the engine's session now instead of at the first call. */
  async prepare(): Promise<void> {
    await this.core.sessions.prepare();
  }
}

/** Without generation_config.json the model's own configuration says which tokens begin, end and pad. */
function tokenIds(config: ModelConfig): JsonObject {
  const { bos_token_id, eos_token_id, pad_token_id } = config;
  const ids = { bos_token_id, eos_token_id, pad_token_id };
  return Object.fromEntries(Object.entries(ids).filter(([, id]) => id !== null));
}

/** Generates from a prompt in which a model finds images or sounds; those that a cache holds are not encoded again. */
function generateWithMedia(
  decoder: Decoder,
  options: ModelGenerateOptions,
  context: GenerateContext,
  reader: MediaReader,
): Promise<GenerateResult> {
  const own = Object.entries(options).filter(([name]) => !reader.inputNames.includes(name));
  const media: GenerateContext["media"] = async (prompt, held) => {
    const { tokens, spans } = prompt;
    // A prompt of vectors alone has no columns of ids.
    const length = prompt.length || prompt.mask[0]!.length;
    const columns = spans.map(([start, end]) => ({ start, end }));
    return (await reader.read(options, { tokens, spans: columns, length, held })).rows;
  };
  return generate(decoder, Object.fromEntries(own), { ...context, media });
}
