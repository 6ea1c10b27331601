import type { MediaSpan, RowMedia } from "./media.ts";

/** Ids whose vectors are not in the embedding table: those of Gemma 3n beyond the text, which stand for images and sounds. */
export interface HardIds {
  /** The first of them; all that follow are such, too. */
  readonly first: number;
  /** The vectors of ids, [ids, hidden_size]. */
  embed(ids: readonly number[], signal?: AbortSignal): Promise<Float32Array>;
}

/** Whether a row has such an id. */
export function hasHardIds(rows: readonly (readonly number[])[], { first }: HardIds): boolean {
  return rows.some((row) => row.some((id) => id >= first));
}

/** The rows' media, and the vectors of hard ids that these do not cover. */
export async function withHardIds(
  rows: readonly (readonly number[])[],
  media: readonly RowMedia[] | undefined,
  hard: HardIds,
  signal: AbortSignal | undefined,
): Promise<RowMedia[]> {
  return Promise.all(
    rows.map(async (row, r) => {
      const spans = media?.[r] ?? [];
      const covered = new Set(spans.flatMap(({ start, end, vectors }) => (vectors ? range(start, end) : [])));
      const places = [...row.keys()].filter((i) => row[i]! >= hard.first && !covered.has(i));
      const ids = places.map((i) => row[i]!);
      const vectors = await hard.embed(ids, signal);
      const width = vectors.length / ids.length;
      const added = places.map((start, i) => ({
        start,
        end: start + 1,
        vectors: vectors.subarray(i * width, (i + 1) * width),
        together: false,
      }));
      return joined([...spans, ...added].sort((a, b) => a.start - b.start));
    }),
  );
}

/** Spans of vectors that follow one another as one, so that they are computed in one run. */
function joined(spans: readonly MediaSpan[]): MediaSpan[] {
  const groups: MediaSpan[][] = [];
  for (const span of spans) {
    const last = groups.at(-1);
    const previous = last?.at(-1);
    const fits =
      previous?.end === span.start && [previous, span].every(({ vectors, together }) => vectors && !together);
    if (fits) last!.push(span);
    else groups.push([span]);
  }
  return groups.map((group) => {
    const [first] = group as [MediaSpan, ...MediaSpan[]];
    if (group.length === 1) return first;
    const vectors = new Float32Array(group.reduce((sum, span) => sum + span.vectors!.length, 0));
    let offset = 0;
    for (const span of group) {
      vectors.set(span.vectors!, offset);
      offset += span.vectors!.length;
    }
    return { ...first, end: group.at(-1)!.end, vectors };
  });
}

function range(start: number, end: number): number[] {
  return Array.from({ length: end - start }, (_, i) => start + i);
}
