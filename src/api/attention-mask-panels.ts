import type { MaskTitle } from "./attention-mask-text.ts";

/** One square of a drawn picture. */
export interface Panel {
  readonly title: string;
  /** 1 where token i sees token j, [tokens, tokens]. */
  readonly mask: Uint8Array;
}

/** Colours of the drawings, red, green and blue: a token itself, an image, what is seen, what is not, and the paper. */
export const COLOURS = {
  self: [46, 160, 67],
  image: [227, 164, 22],
  seen: [36, 41, 47],
  hidden: [225, 228, 232],
  paper: [255, 255, 255],
} as const;

/** What the drawings show. */
export interface MaskDrawing extends MaskTitle {
  readonly tokens: readonly string[];
  /** 1 where token i sees token j, [tokens, tokens]. */
  readonly full: Uint8Array;
  /** The same on sliding layers; undefined where the model has none. */
  readonly sliding: Uint8Array | undefined;
  /** For each token the number of its image, -1 for text. */
  readonly blocks: readonly number[];
}

/** The squares side by side, with the headings of the printed picture. */
export function panelsOf({ full, sliding }: MaskDrawing): Panel[] {
  const first = { title: "Attention Matrix", mask: full };
  return sliding === undefined ? [first] : [first, { title: "Sliding Window Mask", mask: sliding }];
}

/** Stretches of tokens that are one image, as [start, end). */
export function imagesOf(blocks: readonly number[]): [number, number][] {
  const starts = blocks.flatMap((block, i) => (block >= 0 && block !== blocks[i - 1] ? [i] : []));
  return starts.map((start) => {
    const length = blocks.slice(start).findIndex((block) => block !== blocks[start]);
    return [start, length < 0 ? blocks.length : start + length];
  });
}
