import { attentionMask } from "../attention-masks.ts";
import { InputError } from "../errors.ts";
import type { AttentionConfig } from "../models/attention-config.ts";
import { countOf } from "../processing/media-rows.ts";
import type { Processor } from "../processing/processor.ts";
import { RawImage } from "../processing/raw-image.ts";
import type { PreTrainedTokenizer } from "../processing/tokenizer.ts";
import { Tensor } from "../tensor.ts";
import { AttentionMaskPicture } from "./attention-mask-picture.ts";
import { IMAGE_TYPE, runsOf } from "./media.ts";

/** What HF puts an image in the place of. */
export const IMAGE_MARK = "<img>";
/** Tokens that HF's visualizer gives an image. */
export const IMAGE_TOKENS = 5;
/** Masks grow with the square of the text. */
const MAX_TOKENS = 4096;

/** A model, and whether what is printed about it has colours. */
export interface PictureContext {
  readonly model_id: string;
  readonly config: AttentionConfig;
  readonly color: boolean;
}

/** Whether a text holds images for this model. */
export function holdsImages(text: string, { image_placeholder }: AttentionConfig): boolean {
  return image_placeholder !== null && (text.includes(IMAGE_MARK) || text.includes(image_placeholder));
}

/**
 * As in HF, labels are the text's own tokens, while masks are made for all ids, special tokens included: the drawing
 * shows their first rows and columns, which are the same for any text.
 */
export function pictureOfText(
  text: string,
  tokenizer: PreTrainedTokenizer,
  { model_id, config, color }: PictureContext,
): AttentionMaskPicture {
  const tokens = tokenizer.tokenize(text);
  const count = tokens.length;
  if (count === 0) throw new InputError("AttentionMaskVisualizer: the text has no tokens");
  const size = tokenizer.encode(text).length;
  checkLength(size);
  const { window, bidirectional } = config;
  const mask = (length: number, reach: number | null): Uint8Array =>
    attentionMask({ keys: new Uint8Array(length).fill(1), window: reach, bidirectional });
  const full = mask(count, null);
  const sliding = window === null ? undefined : mask(count, window);
  const drawing = { ...config, model_id, tokens, full, sliding, blocks: tokens.map(() => -1) };
  return new AttentionMaskPicture({
    text: { ...drawing, full: markImages(tokens, full), image_token: IMAGE_MARK },
    drawing,
    matrix: new Tensor("uint8", markImages(tokens, mask(size, null)), [size, size]),
    color,
  });
}

/**
 * A text with images. It is printed as HF prints it: with causal masks, in which one token for each image (Gemma 3) or
 * all of its tokens (Gemma 3n) are marked. The drawings show what the model's layers do.
 */
export async function pictureWithImages(
  text: string,
  processor: Processor,
  { model_id, config, color }: PictureContext,
): Promise<AttentionMaskPicture> {
  const { image_token } = processor;
  const prompt = text.replaceAll(IMAGE_MARK, image_token);
  const images = new Array<RawImage>(countOf(prompt, image_token)).fill(BLANK);
  const inputs = await processor(prompt, images, { images_kwargs: { size: 1, do_resize: true } });
  const ids = [...inputs.input_ids.data].map(Number);
  const types = [...inputs.token_type_ids.data].map(Number);
  const count = ids.length;
  checkLength(count);
  const tokens = processor.tokenizer.convert_ids_to_tokens(ids);
  const blocks = imageBlocks(types);
  const keys = new Uint8Array(count).fill(1);
  const { window, image_blocks } = config;
  const mask = (reach: number | null): Uint8Array =>
    attentionMask({ keys, window: reach, blocks: image_blocks ? blocks : undefined });
  const drawing = {
    ...config,
    model_id,
    tokens,
    full: mask(null),
    sliding: window === null ? undefined : mask(window),
    blocks,
  };
  const printed = markImages(tokens, attentionMask({ keys }), image_token);
  return new AttentionMaskPicture({
    text: { ...drawing, full: printed, sliding: undefined, image_token },
    drawing,
    matrix: new Tensor("uint8", printed, [count, count]),
    token_type_ids: inputs.token_type_ids,
    color,
  });
}

/** The pixels of an image say nothing about who sees whom. */
const BLANK = new RawImage(new Uint8Array(3), 1, 1, 3);

/** For each token the number of the image that it belongs to, -1 for none. */
export function imageBlocks(types: readonly number[]): number[] {
  return runsOf(types, (type) => type === IMAGE_TYPE);
}

/** A copy of a mask with 2 where transformers 5.18.0 marks images, slips included: a first token is no image, a last one is. */
function markImages(
  tokens: readonly string[],
  mask: Uint8Array,
  image_token: string = IMAGE_MARK,
): Uint8Array {
  const marked = mask.slice();
  const side = Math.sqrt(mask.length);
  let first = 0;
  tokens.forEach((token, i) => {
    const isLast = i === tokens.length - 1;
    if (token === image_token && first === 0) {
      first = i;
      marked[i * side + i] = 2;
    }
    if (first === 0 || (token === image_token && !isLast)) return;
    const end = isLast ? i + 1 : i;
    for (let row = first; row < end; row++) marked.fill(2, row * side + first, row * side + end);
    first = 0;
  });
  return marked;
}

/** Throws for texts whose masks would be too large. */
export function checkLength(length: number): void {
  if (length <= MAX_TOKENS) return;
  throw new InputError(
    `AttentionMaskVisualizer: ${length} tokens are too many to draw; up to ${MAX_TOKENS} are`,
  );
}
