/** Rows that hold more than text: some of their tokens stand for an image or a sound. */

/** A stretch of a row's new tokens that are not plain text. */
export interface MediaSpan {
  readonly start: number;
  readonly end: number;
  /** [end - start, hidden_size] in place of the tokens' own vectors; undefined: the tokens' own. */
  readonly vectors: Float32Array | undefined;
  /** Whether they see each other in both directions, as the tokens of an image do in Gemma 3. */
  readonly together: boolean;
}

/** The stretches of one row, in order. */
export type RowMedia = readonly MediaSpan[];

/** A stretch of a row that is computed in one go: plain text, or a span of media. */
export interface Segment {
  readonly start: number;
  readonly end: number;
  readonly media: MediaSpan | undefined;
}

/** A row of so many tokens as text and media in turn. */
export function segmentsOf(length: number, media: RowMedia): Segment[] {
  const segments: Segment[] = [];
  let done = 0;
  const text = (end: number): void => {
    if (end > done) segments.push({ start: done, end, media: undefined });
  };
  for (const span of media) {
    text(span.start);
    segments.push({ start: span.start, end: span.end, media: span });
    done = span.end;
  }
  text(length);
  return segments;
}

/** The media of a row without its first `count` tokens. */
export function withoutFirst(media: RowMedia, count: number): RowMedia {
  return media.flatMap(({ start, end, vectors, together }) => {
    if (end <= count) return [];
    const cut = Math.max(0, count - start);
    const width = vectors === undefined ? 0 : vectors.length / (end - start);
    return [
      { start: start + cut - count, end: end - count, vectors: vectors?.subarray(cut * width), together },
    ];
  });
}

/** For each token of a row, the number of the span that it sees in both directions; -1 at others. */
export function blocksOf(length: number, media: RowMedia): number[] {
  const blocks = new Array<number>(length).fill(-1);
  for (const [i, { start, end, together }] of media.entries()) if (together) blocks.fill(i, start, end);
  return blocks;
}
