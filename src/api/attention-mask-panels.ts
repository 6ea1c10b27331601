import type { MaskText } from "./attention-mask-text.ts";

/** One square of a drawn picture. */
export interface Panel {
  readonly title: string;
  /** 1 where token i sees token j, [tokens, tokens]. */
  readonly mask: Uint8Array;
}

/** Colours of the drawings, red, green and blue: a token itself, what it sees, what it does not, and the paper. */
export const COLOURS = {
  self: [46, 160, 67],
  seen: [36, 41, 47],
  hidden: [225, 228, 232],
  paper: [255, 255, 255],
} as const;

/** The squares side by side, with the headings of the printed picture. */
export function panelsOf({ full, sliding }: MaskText): Panel[] {
  const first = { title: "Attention Matrix", mask: full };
  return sliding === undefined ? [first] : [first, { title: "Sliding Window Mask", mask: sliding }];
}
