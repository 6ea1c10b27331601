import { stripVTControlCharacters } from "node:util";
import { Tensor } from "../tensor.ts";
import type { MaskDrawing } from "./attention-mask-panels.ts";
import { maskPng } from "./attention-mask-png.ts";
import { maskSvg } from "./attention-mask-svg.ts";
import { type MaskText, maskText } from "./attention-mask-text.ts";

/** What a picture is made of. */
export interface MaskPictureParts {
  /** What is printed, as HF prints it. */
  readonly text: MaskText;
  /** What is drawn. */
  readonly drawing: MaskDrawing;
  readonly matrix: Tensor;
  readonly token_type_ids?: Tensor | undefined;
  /** Whether what is printed has colours. */
  readonly color: boolean;
}

/** Which tokens of a text each of them sees. */
export class AttentionMaskPicture {
  /** The labels of rows and columns: the text's own tokens as in HF, or with images all of them. */
  readonly tokens: readonly string[];
  /**
   * 1 where a position sees another on full layers, [ids, ids], <bos> first. With images it is HF's, which has causal
   * masks there too, and 2 at the tokens that it takes for an image's.
   */
  readonly matrix: Tensor;
  /** 1 where a token sees another on full layers, as it is drawn: [tokens, tokens]. */
  readonly full_attention: Tensor;
  /** The same on sliding layers. Undefined where the model has no window. */
  readonly sliding_window_matrix: Tensor | undefined;
  /** 1 at the tokens of images, [1, tokens]; undefined in a text without any. */
  readonly token_type_ids: Tensor | undefined;
  /** What is (or would be) printed. */
  readonly printed: string;
  readonly #drawing: MaskDrawing;

  constructor({ text, drawing, matrix, token_type_ids, color }: MaskPictureParts) {
    const { tokens, full, sliding } = drawing;
    const square = (mask: Uint8Array): Tensor => new Tensor("uint8", mask, [tokens.length, tokens.length]);
    this.tokens = tokens;
    this.matrix = matrix;
    this.full_attention = square(full);
    this.sliding_window_matrix = sliding && square(sliding);
    this.token_type_ids = token_type_ids;
    const printed = maskText(text);
    this.printed = color ? printed : stripVTControlCharacters(printed);
    this.#drawing = drawing;
  }

  /** An SVG document with the tokens as labels. */
  toSVG(): string {
    return maskSvg(this.#drawing);
  }

  /** The bytes of a PNG file; it has no labels. */
  toPNG(): Promise<Uint8Array> {
    return maskPng(this.#drawing);
  }
}
