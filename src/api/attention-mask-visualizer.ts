import { attentionMask } from "../attention-masks.ts";
import { Callable } from "../callable.ts";
import { InputError, rejectUnknownOptions } from "../errors.ts";
import type { IdsInput } from "../generation/prompt.ts";
import { type AttentionConfig, readAttentionConfig } from "../models/attention-config.ts";
import { isJsonObject } from "../models/config-reader.ts";
import type { Processor } from "../processing/processor.ts";
import type { PreTrainedTokenizer } from "../processing/tokenizer.ts";
import { Tensor } from "../tensor.ts";
import {
  checkLength,
  holdsImages,
  IMAGE_TOKENS,
  imageBlocks,
  pictureOfText,
  pictureWithImages,
} from "./attention-mask-drawing.ts";
import type { AttentionMaskPicture } from "./attention-mask-picture.ts";
import { idRows } from "./inputs.ts";
import { ModelFiles } from "./model-files.ts";
import { checkPretrainedOptions, type PretrainedOptions } from "./options.ts";
import { AutoProcessor } from "./processors.ts";
import { AutoTokenizer } from "./tokenizers.ts";

/** How a picture is shown, besides being returned. */
export interface VisualizerDisplay {
  /** Whether it is written to `stream`. Default: true. */
  readonly print?: boolean | undefined;
  /** Default: standard output. */
  readonly stream?: { write(text: string): unknown } | undefined;
  /** ANSI colours, as HF prints them, on a terminal or not. Default: true. */
  readonly color?: boolean | undefined;
}

const DISPLAY: readonly (keyof VisualizerDisplay)[] = ["print", "stream", "color"];

/** Where to find the model, as for `from_pretrained`, and how to show its pictures. */
export type VisualizerOptions = PretrainedOptions & VisualizerDisplay;

/** A batch to make masks for, [batch, length], as a tokenizer gives it. */
export interface MaskInputs {
  readonly input_ids: IdsInput;
  /** 1 at tokens, 0 at padding. Default: no padding. */
  readonly attention_mask?: IdsInput | undefined;
  /** 1 at the tokens of images, as a processor gives it. Default: no images. */
  readonly token_type_ids?: IdsInput | undefined;
}

/** Masks [batch, query, key]: 1 where a query sees a key. */
export interface AttentionMasks {
  readonly full_attention: Tensor;
  /** Of sliding layers; absent where the model has no window. */
  readonly sliding_attention?: Tensor;
  /** int64 [batch, length]: the number of each token's image in its row, -1 for text; there with token_type_ids. */
  readonly block_sequence_ids?: Tensor;
}

type VisualizerCall = (text: string, display?: VisualizerDisplay) => Promise<AttentionMaskPicture>;

/**
 * HF's AttentionMaskVisualizer: `await visualizer("some text")` prints which tokens each token sees, and returns it. It
 * needs a model's configuration and tokenizer, no weights. Where a model is bidirectional, so is the picture; HF's
 * shows causal masks there.
 */
export class AttentionMaskVisualizer extends Callable<VisualizerCall> {
  /** The model as it was asked for; it stands in the title. */
  readonly model_id: string;
  readonly #display: VisualizerDisplay;
  readonly #config: Once<AttentionConfig>;
  readonly #tokenizer: Once<PreTrainedTokenizer>;
  readonly #processor: Once<Processor>;

  /** Files are read on the first call. The display's settings can be changed in every call. */
  constructor(model_id: string, options: VisualizerOptions = {}) {
    super();
    const { print, stream, color, ...others } = options;
    checkPretrainedOptions(others, "AttentionMaskVisualizer");
    this.model_id = model_id;
    this.#config = new Once(() => readConfig(model_id, others));
    this.#tokenizer = new Once(() => AutoTokenizer.from_pretrained(model_id, others));
    this.#processor = new Once(() =>
      AutoProcessor.from_pretrained(model_id, { ...others, image_seq_length: IMAGE_TOKENS }),
    );
    this.#display = { print, stream, color };
  }

  async _call(text: string, display: VisualizerDisplay = {}): Promise<AttentionMaskPicture> {
    rejectUnknownOptions(display, DISPLAY, "AttentionMaskVisualizer");
    const config = await this.#config.get();
    const color = display.color ?? this.#display.color ?? true;
    const context = { config, model_id: this.model_id, color };
    const picture = holdsImages(text, config)
      ? await pictureWithImages(text, await this.#processor.get(), context)
      : pictureOfText(text, await this.#tokenizer.get(), context);
    if (display.print ?? this.#display.print ?? true)
      (display.stream ?? this.#display.stream ?? process.stdout).write(picture.printed);
    return picture;
  }

  /** The masks that the model's layers use for a batch. What rows hold at queries that are padding is of no use. */
  async masks(inputs: MaskInputs): Promise<AttentionMasks> {
    const { input_ids, attention_mask, token_type_ids, ...others } = inputs;
    const media = ["pixel_values", "input_features", "input_features_mask"];
    rejectUnknownOptions(others, media, "AttentionMaskVisualizer.masks");
    const ids = idRows(input_ids, "input_ids");
    const length = ids[0]!.length;
    checkLength(length);
    const like = (given: IdsInput, option: string): number[][] => {
      const rows = idRows(given, option);
      if (rows.length === ids.length && rows[0]!.length === length) return rows;
      throw new InputError(
        `${option}: [${rows.length}, ${rows[0]!.length}] where input_ids are [${ids.length}, ${length}]`,
        { option },
      );
    };
    const keys =
      attention_mask === undefined
        ? ids.map((row) => row.map(() => 1))
        : like(attention_mask, "attention_mask");
    const blocks = token_type_ids && like(token_type_ids, "token_type_ids").map(imageBlocks);
    const { window, bidirectional, image_blocks } = await this.#config.get();
    const masks = (reach: number | null): Tensor => {
      const data = new Uint8Array(keys.length * length * length);
      for (const [r, row] of keys.entries()) {
        const own = image_blocks ? blocks?.[r] : undefined;
        data.set(
          attentionMask({ keys: row, window: reach, bidirectional, blocks: own }),
          r * length * length,
        );
      }
      return new Tensor("bool", data, [keys.length, length, length]);
    };
    return {
      full_attention: masks(null),
      ...(window !== null && { sliding_attention: masks(window) }),
      ...(blocks && {
        block_sequence_ids: new Tensor("int64", BigInt64Array.from(blocks.flat(), BigInt), [
          keys.length,
          length,
        ]),
      }),
    };
  }
}

/** Something read once; what failed is tried again by the next call. */
class Once<Value> {
  readonly #read: () => Promise<Value>;
  #value: Promise<Value> | undefined;

  constructor(read: () => Promise<Value>) {
    this.#read = read;
  }

  get(): Promise<Value> {
    this.#value ??= this.#read().catch((error: unknown) => {
      this.#value = undefined;
      throw error;
    });
    return this.#value;
  }
}

async function readConfig(id: string, options: PretrainedOptions): Promise<AttentionConfig> {
  if (isJsonObject(options.config)) return readAttentionConfig(options.config);
  const files = await ModelFiles.find(id, options, { weights: false });
  return readAttentionConfig(await files.config().finally(() => files.close()));
}
