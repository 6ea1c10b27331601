import { groupByMeasure, type Row, ratio, short, title } from "./results.ts";

const WIDTH = 760;
const LABEL = 150;
const BAR = 20;
const GAP = 8;
const HEAD = 34;
const COLOURS: Readonly<Record<string, string>> = {
  lapidary: "#b3286e",
  "lapidary-q4": "#d66aa0",
  "onnxruntime-node": "#8a7fb5",
};
const OTHER = "#9aa4ad";

/** An SVG with a group of bars for each measure: medians, with lines from the least to the largest value. */
export function drawChart(rows: readonly Row[], heading: string): string {
  const parts: string[] = [];
  let y = 40;
  for (const group of groupByMeasure(rows)) {
    parts.push(text(16, y + 18, title(group[0]!), "font-weight='600'"));
    y += HEAD;
    const scale = (WIDTH - LABEL - 130) / Math.max(...group.map(({ max }) => max), Number.MIN_VALUE);
    for (const row of group) {
      parts.push(bar(row, group, y, scale));
      y += BAR + GAP;
    }
    y += 14;
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" font-family="system-ui, sans-serif" font-size="13">`,
    "<title>lapidary beside other engines</title>",
    `<rect width="${WIDTH}" height="${y}" fill="#ffffff"/>`,
    text(16, 26, heading, "fill='#59636b'"),
    ...parts,
    "</svg>\n",
  ].join("\n");
}

function bar(row: Row, group: readonly Row[], y: number, scale: number): string {
  const middle = y + BAR / 2;
  const at = (value: number): string => (LABEL + value * scale).toFixed(1);
  const multiple = ratio(row, group);
  const note = `${short(row.median)} ${row.unit}${multiple === undefined ? "" : `, ${multiple.toFixed(2)}x`}`;
  const width = (row.median * scale).toFixed(1);
  return [
    text(LABEL - 10, middle + 4, row.engine, "text-anchor='end'"),
    `<rect x="${LABEL}" y="${y}" width="${width}" height="${BAR}" rx="2" fill="${COLOURS[row.engine] ?? OTHER}"/>`,
    `<line x1="${at(row.min)}" x2="${at(row.max)}" y1="${middle}" y2="${middle}" stroke="#22282c" stroke-width="1.5"/>`,
    text(Number(at(row.max)) + 8, middle + 4, note),
  ].join("\n");
}

function text(x: number, y: number, content: string, attributes = ""): string {
  const escaped = content.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]!);
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${attributes}>${escaped}</text>`;
}
