import { attentionMask } from "../attention-masks.ts";
import { Callable } from "../callable.ts";
import { InputError, rejectUnknownOptions } from "../errors.ts";
import type { IdsInput } from "../generation/prompt.ts";
import { type AttentionConfig, readAttentionConfig } from "../models/attention-config.ts";
import { isJsonObject } from "../models/config-reader.ts";
import type { PreTrainedTokenizer } from "../processing/tokenizer.ts";
import { Tensor } from "../tensor.ts";
import { AttentionMaskPicture } from "./attention-mask-picture.ts";
import { idRows } from "./inputs.ts";
import { IMAGE_TYPE, runsOf } from "./media.ts";
import { ModelFiles } from "./model-files.ts";
import { checkPretrainedOptions, type PretrainedOptions } from "./options.ts";
import { AutoTokenizer } from "./tokenizers.ts";

/** Masks grow with the square of the text. */
const MAX_TOKENS = 4096;
/** What HF puts an image in the place of. */
const IMAGE_MARK = "<img>";

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
  /** 1 at the tokens of an image, which see each other in both directions. Default: text alone. */
  readonly token_type_ids?: IdsInput | undefined;
}

/** Masks [batch, query, key]: 1 where a query sees a key. */
export interface AttentionMasks {
  readonly full_attention: Tensor;
  /** Of sliding layers; absent where the model has no window. */
  readonly sliding_attention?: Tensor;
  /** int64 [batch, length]: the number of the image that a token belongs to, -1 at text; where token_type_ids were given. */
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
  readonly #options: PretrainedOptions;
  readonly #display: VisualizerDisplay;
  #config: Promise<AttentionConfig> | undefined;
  #tokenizer: Promise<PreTrainedTokenizer> | undefined;

  /** Files are read on the first call. The display's settings can be changed in every call. */
  constructor(model_id: string, options: VisualizerOptions = {}) {
    super();
    const { print, stream, color, ...others } = options;
    checkPretrainedOptions(others, "AttentionMaskVisualizer");
    this.model_id = model_id;
    this.#options = others;
    this.#display = { print, stream, color };
  }

  async _call(text: string, display: VisualizerDisplay = {}): Promise<AttentionMaskPicture> {
    rejectUnknownOptions(display, DISPLAY, "AttentionMaskVisualizer");
    const config = await this.#loadConfig();
    // A text without images is drawn for every model; images will need the processor's tokens and blocks.
    if (config.takes_images && text.includes(IMAGE_MARK))
      throw new InputError(`AttentionMaskVisualizer: images (${IMAGE_MARK}) are not supported yet`);
    const tokenizer = await this.#loadTokenizer();
    const color = display.color ?? this.#display.color ?? true;
    const picture = drawText(text, this.model_id, config, tokenizer, color);
    if (display.print ?? this.#display.print ?? true)
      (display.stream ?? this.#display.stream ?? process.stdout).write(picture.printed);
    return picture;
  }

  /** The masks that the model's layers use for a batch. What rows hold at queries that are padding is of no use. */
  async masks(inputs: MaskInputs): Promise<AttentionMasks> {
    rejectUnknownOptions(inputs, MASK_INPUTS, "AttentionMaskVisualizer.masks");
    const ids = idRows(inputs.input_ids, "input_ids");
    const length = ids[0]!.length;
    checkLength(length);
    const rows =
      inputs.attention_mask === undefined
        ? ids.map((row) => row.map(() => 1))
        : idRows(inputs.attention_mask, "attention_mask");
    if (rows.length !== ids.length || rows[0]!.length !== length) {
      throw new InputError(
        `attention_mask: [${rows.length}, ${rows[0]!.length}] where input_ids are [${ids.length}, ${length}]`,
        { option: "attention_mask" },
      );
    }
    const blocks = inputs.token_type_ids && imageBlocks(inputs.token_type_ids, ids);
    const { window, bidirectional } = await this.#loadConfig();
    const masks = (reach: number | null): Tensor => {
      const data = new Uint8Array(rows.length * length * length);
      for (const [r, keys] of rows.entries())
        data.set(
          attentionMask({ keys, window: reach, bidirectional, blocks: blocks?.[r] }),
          r * length * length,
        );
      return new Tensor("bool", data, [rows.length, length, length]);
    };
    return {
      full_attention: masks(null),
      ...(window === null ? {} : { sliding_attention: masks(window) }),
      ...(blocks && {
        block_sequence_ids: new Tensor("int64", BigInt64Array.from(blocks.flat(), BigInt), [
          rows.length,
          length,
        ]),
      }),
    };
  }

  /** Read once; what failed is tried again by the next call. */
  #loadConfig(): Promise<AttentionConfig> {
    this.#config ??= readConfig(this.model_id, this.#options).catch((error: unknown) => {
      this.#config = undefined;
      throw error;
    });
    return this.#config;
  }

  #loadTokenizer(): Promise<PreTrainedTokenizer> {
    this.#tokenizer ??= AutoTokenizer.from_pretrained(this.model_id, this.#options).catch(
      (error: unknown) => {
        this.#tokenizer = undefined;
        throw error;
      },
    );
    return this.#tokenizer;
  }
}

const MASK_INPUTS: readonly (keyof MaskInputs)[] = ["input_ids", "attention_mask", "token_type_ids"];

/** For each token the number of its image, -1 at text. */
function imageBlocks(token_type_ids: IdsInput, ids: readonly (readonly number[])[]): number[][] {
  const types = idRows(token_type_ids, "token_type_ids");
  if (types.length !== ids.length || types[0]!.length !== ids[0]!.length) {
    throw new InputError(
      `token_type_ids: [${types.length}, ${types[0]!.length}] where input_ids are [${ids.length}, ${ids[0]!.length}]`,
      { option: "token_type_ids" },
    );
  }
  return types.map((row) => runsOf(row, (type) => type === IMAGE_TYPE));
}

async function readConfig(id: string, options: PretrainedOptions): Promise<AttentionConfig> {
  if (isJsonObject(options.config)) return readAttentionConfig(options.config);
  const files = await ModelFiles.find(id, options, { weights: false });
  return readAttentionConfig(await files.config().finally(() => files.close()));
}

/**
 * As in HF, labels are the text's own tokens, while masks are made for all ids, special tokens included: the drawing
 * shows their first rows and columns, which are the same for any text.
 */
function drawText(
  text: string,
  model_id: string,
  config: AttentionConfig,
  tokenizer: PreTrainedTokenizer,
  color: boolean,
): AttentionMaskPicture {
  const tokens = tokenizer.tokenize(text);
  const count = tokens.length;
  if (count === 0) throw new InputError("AttentionMaskVisualizer: the text has no tokens");
  const size = tokenizer.encode(text).length;
  checkLength(size);
  const { window, bidirectional } = config;
  const mask = (length: number, reach: number | null): Uint8Array =>
    attentionMask({ keys: new Uint8Array(length).fill(1), window: reach, bidirectional });
  const drawn = {
    ...config,
    model_id,
    tokens,
    full: mask(count, null),
    sliding: window === null ? undefined : mask(count, window),
  };
  return new AttentionMaskPicture(drawn, new Tensor("uint8", mask(size, null), [size, size]), color);
}

function checkLength(length: number): void {
  if (length <= MAX_TOKENS) return;
  throw new InputError(
    `AttentionMaskVisualizer: ${length} tokens are too many to draw; up to ${MAX_TOKENS} are`,
  );
}
