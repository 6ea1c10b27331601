import { pythonString } from "../processing/python-repr.ts";

/** Everything that the printed picture shows. */
export interface MaskText {
  readonly model_type: string;
  /** The model as it was asked for. */
  readonly model_id: string;
  readonly model_class: string;
  /** The folder of transformers that the class lies in: part of the frame's width. */
  readonly family: string;
  readonly tokens: readonly string[];
  /** 1 where token i sees token j, [tokens, tokens]. */
  readonly full: Uint8Array;
  /** The same on sliding layers; undefined where the model has none. */
  readonly sliding: Uint8Array | undefined;
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
function matrixLines({ tokens, full, sliding }: MaskText): string[] {
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
  const rows = labels.map((label, i) => {
    const name = `${label}${" ".repeat(width - characters(label))}: ${String(i).padStart(2)} `;
    return name + cells(full, i, count) + between + (sliding === undefined ? "" : cells(sliding, i, count));
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

function cells(mask: Uint8Array, i: number, count: number): string {
  const row = Array.from({ length: count }, (_, j) =>
    i === j ? `${GREEN}${SEEN}${RESET}` : mask[i * count + j] === 1 ? SEEN : HIDDEN,
  );
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
