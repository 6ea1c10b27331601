import { pythonString } from "../processing/python-repr.ts";

/** Which model a picture is about. */
export interface MaskTitle {
  readonly model_type: string;
  /** The model as it was asked for. */
  readonly model_id: string;
  readonly model_class: string;
  /** The folder of transformers that the class lies in: part of the frame's width. */
  readonly family: string;
}

/** Everything that the printed picture shows. */
export interface MaskText extends MaskTitle {
  readonly tokens: readonly string[];
  /** Not 0 where token i sees token j, [tokens, tokens]. */
  readonly full: Uint8Array;
  /** The same on sliding layers; undefined where none are printed. */
  readonly sliding: Uint8Array | undefined;
  /** The token that HF takes for an image's. */
  readonly image_token: string;
}

const GREEN = "\u001b[92m";
const YELLOW = "\u001b[93m";
const BOLD = "\u001b[1m";
const RESET = "\u001b[0m";
const SEEN = "■";
const HIDDEN = "⬚";
const COLOUR_LENGTH = YELLOW.length + RESET.length;

/**
 * The picture in characters with ANSI colours, exactly as transformers 5.18.0 prints it (attention_visualizer.py),
 * oddities included: the frame is twice as wide as its text with the Python class's full name, escapes count as
 * characters where the title is centred, and words are shown by their Python repr.
 */
export function maskText(picture: MaskText): string {
  const { model_type, model_class, family } = picture;
  const pythonClass = `<class 'transformers.models.${family}.modeling_${family}.${model_class}'>`;
  const border = "##".repeat(`Attention visualization for ${model_type} | ${pythonClass}`.length + 4);
  const title = `  Attention visualization for ${BOLD}${model_type}:${picture.model_id}${RESET} ${model_class}`;
  const lines = ["", border, `##${centre(title, border.length)}    ##`, border, ...matrixLines(picture)];
  return `${lines.join("\n")}\n${border}\n`;
}

/** A token as a label: quoted, with what can't be printed escaped. */
export function tokenLabel(token: string): string {
  return pythonString(token);
}

/** Legend, headings, numbers of the columns, and a line for each token. */
function matrixLines({ tokens, full, sliding, image_token }: MaskText): string[] {
  const count = tokens.length;
  const labels = tokens.map(tokenLabel);
  const width = Math.max(...labels.map(characters));
  const indent = " ".repeat(width + 5);
  const digits = String(count).length;
  const numbers = tokens.map((_, j) => String(j).padStart(digits));
  const between = "    |    ";
  const header = Array.from({ length: digits }, (_, digit) => {
    const row = numbers.map((number) => number[digit]).join(" ");
    return sliding === undefined ? "" : indent + row + between + row;
  });
  const isImage = tokens.map((token) => token.includes(image_token));
  const rows = labels.map((label, i) => {
    const padded = label + " ".repeat(width - characters(label));
    const name = `${isImage[i] ? `${YELLOW}${padded}${RESET}` : padded}: ${String(i).padStart(2)} `;
    const panels = sliding === undefined ? [full] : [full, sliding];
    const [first, second = ""] = panels.map((mask) => cells(mask, i, isImage));
    return name + first + between + second;
  });
  // HF takes half the length of a row in which one cell is coloured, escapes and all.
  const heading = "Attention Matrix".padEnd(Math.floor((2 * count - 1 + COLOUR_LENGTH) / 2));
  return [
    ` ${GREEN}${SEEN}${RESET}: i == j (diagonal)   ${YELLOW}${SEEN}${RESET}: token_type_ids`,
    indent + heading + (sliding === undefined ? "" : "Sliding Window Mask"),
    ...header,
    ...rows,
  ];
}

function cells(mask: Uint8Array, i: number, isImage: readonly boolean[]): string {
  const row = isImage.map((image, j) => {
    const seen = mask[i * isImage.length + j] !== 0;
    if (seen && image && isImage[i]) return `${YELLOW}${SEEN}${RESET}`;
    return i === j ? `${GREEN}${SEEN}${RESET}` : seen ? SEEN : HIDDEN;
  });
  return row.join(" ");
}

/** Python's len(): code points. */
function characters(text: string): number {
  return [...text].length;
}

/** Python's str.center for an even width: the odd blank goes to the right. */
function centre(text: string, width: number): string {
  const margin = Math.max(0, width - characters(text));
  const left = Math.floor(margin / 2);
  return " ".repeat(left) + text + " ".repeat(margin - left);
}
