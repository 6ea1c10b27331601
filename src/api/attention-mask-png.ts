import { COLOURS, type MaskDrawing, panelsOf } from "./attention-mask-panels.ts";

/** Pixels of a square's side that large pictures are fitted into, as far as a pixel a token allows. */
const TARGET_SIDE = 2048;
const LARGEST_CELL = 16;
/** Below this size cells touch. */
const SMALLEST_SPACED_CELL = 4;

const PALETTE = [COLOURS.paper, COLOURS.hidden, COLOURS.seen, COLOURS.self, COLOURS.image].map((colour) => [
  ...colour,
]);
const [PAPER, HIDDEN, SEEN, SELF, IMAGE] = [0, 1, 2, 3, 4] as const;

/** The squares as a PNG file of five colours. It has no text: labels are in the SVG. */
export async function maskPng(picture: MaskDrawing): Promise<Uint8Array> {
  // Most pictures are only printed, so the encoder is loaded when it is needed.
  const { encode } = await import("fast-png");
  const count = picture.tokens.length;
  const cell = Math.min(LARGEST_CELL, Math.max(1, Math.floor(TARGET_SIDE / count)));
  const panels = panelsOf(picture);
  const { blocks } = picture;
  const side = count * cell;
  const margin = LARGEST_CELL;
  const width = margin + panels.length * (side + margin);
  const height = side + 2 * margin;
  const data = new Uint8Array(width * height).fill(PAPER);
  const inner = cell >= SMALLEST_SPACED_CELL ? cell - 1 : cell;
  for (const [p, { mask }] of panels.entries()) {
    const left = margin + p * (side + margin);
    for (let i = 0; i < count; i++) {
      for (let j = 0; j < count; j++) {
        const seen = mask[i * count + j] === 1;
        const inImage = seen && blocks[i]! >= 0 && blocks[i] === blocks[j];
        const colour = inImage ? IMAGE : i === j ? SELF : seen ? SEEN : HIDDEN;
        const start = (margin + i * cell) * width + left + j * cell;
        for (let y = 0; y < inner; y++) data.fill(colour, start + y * width, start + y * width + inner);
      }
    }
  }
  return encode({ width, height, data, depth: 8, channels: 1, palette: PALETTE });
}
