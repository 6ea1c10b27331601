import { COLOURS, imagesOf, type MaskDrawing, type Panel, panelsOf } from "./attention-mask-panels.ts";
import { tokenLabel } from "./attention-mask-text.ts";

/** Sizes in units of the drawing. */
const CELL = 14;
const MARGIN = 16;
const GAP = 28;
const FONT = 11;
/** Advance of a character in a monospace font; East Asian ones take two. */
const ADVANCE = 0.61 * FONT;
const TITLE_LINE = 20;
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\u{1f300}-\u{3ffff}]/u;

/** The picture as an SVG document: a square for each kind of layer, tokens beside the rows and above the columns. */
export function maskSvg(picture: MaskDrawing): string {
  const { model_type, model_id, model_class, tokens } = picture;
  const labels = tokens.map((token, i) => `${tokenLabel(token)} ${i}`);
  const room = Math.ceil(Math.max(...labels.map(textWidth)));
  const panels = panelsOf(picture);
  const images = imagesOf(picture.blocks);
  const side = tokens.length * CELL;
  const left = MARGIN + room + 4;
  const top = MARGIN + 2 * TITLE_LINE + room + 4;
  const title = `${model_type}:${model_id} ${model_class}`;
  const squares = left + panels.length * side + (panels.length - 1) * GAP;
  const width = Math.max(squares, Math.ceil(MARGIN + textWidth(title))) + MARGIN;
  const height = top + side + MARGIN;
  const rowLabels = labels.map((label, i) =>
    textAt(label, left - 4, top + (i + 0.75) * CELL, ' text-anchor="end"'),
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="monospace" font-size="${FONT}">`,
    `<title>Attention visualization for ${escapeXml(title)}</title>`,
    `<rect width="100%" height="100%" fill="${rgb("paper")}"/>`,
    textAt(title, MARGIN, MARGIN + FONT, ' font-weight="bold"'),
    ...rowLabels,
    ...panels.map((panel, p) => panelSvg(panel, labels, images, left + p * (side + GAP), top)),
    "</svg>\n",
  ].join("\n");
}

/** A square with its heading and its columns' labels; runs of cells are one rectangle, the grid is drawn over them. */
function panelSvg(
  { title, mask }: Panel,
  labels: readonly string[],
  images: readonly [number, number][],
  left: number,
  top: number,
): string {
  const count = labels.length;
  const side = count * CELL;
  const square = (x: number, y: number, length: number): string => `M${x} ${y}h${length}v${CELL}h-${length}z`;
  const seen = labels.flatMap((_, i) =>
    runsOf(mask.subarray(i * count, (i + 1) * count)).map(([from, to]) =>
      square(from * CELL, i * CELL, (to - from) * CELL),
    ),
  );
  const inside = images.flatMap(([start, end]) =>
    labels.slice(start, end).flatMap((_, row) => {
      const from = (start + row) * count;
      return runsOf(mask.subarray(from + start, from + end)).map(([first, last]) =>
        square((start + first) * CELL, (start + row) * CELL, (last - first) * CELL),
      );
    }),
  );
  const self = labels.map((_, i) => square(i * CELL, i * CELL, CELL));
  const grid = labels.map((_, i) => `M0 ${i * CELL}h${side}M${i * CELL} 0v${side}`);
  const columns = labels.map((label, i) => {
    const x = (i + 0.75) * CELL;
    return textAt(label, x, -4, ` transform="rotate(-90 ${x} -4)"`);
  });
  return [
    `<g transform="translate(${left} ${top})">`,
    textAt(title, 0, MARGIN + TITLE_LINE + FONT - top, ""),
    ...columns,
    `<rect width="${side}" height="${side}" fill="${rgb("hidden")}"/>`,
    `<path fill="${rgb("seen")}" d="${seen.join("")}"/>`,
    `<path fill="${rgb("self")}" d="${self.join("")}"/>`,
    ...(inside.length === 0 ? [] : [`<path fill="${rgb("image")}" d="${inside.join("")}"/>`]),
    `<path stroke="${rgb("paper")}" d="${grid.join("")}"/>`,
    "</g>",
  ].join("\n");
}

/** Stretches of ones as [start, end). */
function runsOf(row: Uint8Array): [number, number][] {
  const runs: [number, number][] = [];
  for (let from = row.indexOf(1); from >= 0; from = row.indexOf(1, runs.at(-1)![1])) {
    const end = row.indexOf(0, from);
    runs.push([from, end < 0 ? row.length : end]);
  }
  return runs;
}

function textAt(text: string, x: number, y: number, attributes: string): string {
  return `<text x="${x}" y="${y}"${attributes} style="white-space:pre">${escapeXml(text)}</text>`;
}

function textWidth(text: string): number {
  return [...text].reduce((sum, character) => sum + (WIDE.test(character) ? 2 : 1), 0) * ADVANCE;
}

function rgb(colour: keyof typeof COLOURS): string {
  return `rgb(${COLOURS[colour].join(",")})`;
}

/** XML knows no control characters, not even escaped; a model's name may hold some, labels never do. */
function escapeXml(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
  };
  return text.replace(/[&<>"]/g, (character) => entities[character]!).replace(/\p{C}/gu, "\ufffd");
}
