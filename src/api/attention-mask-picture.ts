import { stripVTControlCharacters } from "node:util";
import { Tensor } from "../tensor.ts";
import { maskPng } from "./attention-mask-png.ts";
import { maskSvg } from "./attention-mask-svg.ts";
import { type MaskText, maskText } from "./attention-mask-text.ts";

/** Which tokens of a text each of them sees. */
export class AttentionMaskPicture {
  /** The text's own tokens, as HF labels rows and columns: without <bos> and the like. */
  readonly tokens: readonly string[];
  /** 1 where a position sees another on full layers. It counts the special tokens: [ids, ids], <bos> first. */
  readonly matrix: Tensor;
  /** The same on sliding layers, as it is drawn: [tokens, tokens]. Undefined where the model has no window. */
  readonly sliding_window_matrix: Tensor | undefined;
  /** What is (or would be) printed. */
  readonly printed: string;
  readonly #text: MaskText;

  constructor(text: MaskText, matrix: Tensor, color: boolean) {
    const { tokens, sliding } = text;
    this.tokens = tokens;
    this.matrix = matrix;
    this.sliding_window_matrix =
      sliding === undefined ? undefined : new Tensor("uint8", sliding, [tokens.length, tokens.length]);
    const printed = maskText(text);
    this.printed = color ? printed : stripVTControlCharacters(printed);
    this.#text = text;
  }

  /** An SVG document with the tokens as labels. */
  toSVG(): string {
    return maskSvg(this.#text);
  }

  /** The bytes of a PNG file; it has no labels. */
  toPNG(): Promise<Uint8Array> {
    return maskPng(this.#text);
  }
}
