/** One line of the results. */
export interface Row {
  readonly engine: string;
  readonly metric: string;
  /** Tokens in the cache when the measured part starts. */
  readonly depth: number;
  readonly batch: number;
  /** Tokens that the measured part handles, in each row. */
  readonly tokens: number;
  readonly unit: "tok/s" | "s" | "MB";
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** What is measured, apart from the engine. */
export type Measure = Pick<Row, "metric" | "depth" | "batch" | "tokens" | "unit">;

/** The engine that the others are compared with. */
export const REFERENCE = "node-llama-cpp";

/** A row from the values of all rounds. */
export function summarise(engine: string, measure: Measure, values: readonly number[]): Row {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  const { metric, depth, batch, tokens, unit } = measure;
  return { engine, metric, depth, batch, tokens, unit, median, min: sorted[0]!, max: sorted.at(-1)! };
}

/** Rows that differ in the engine only, group by group in the order of their first rows. */
export function groupByMeasure(rows: readonly Row[]): Row[][] {
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    const key = title(row);
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups.values()];
}

/** What a group of rows shows, in words. */
export function title({ metric, depth, batch, tokens, unit }: Measure): string {
  const rows = batch === 1 ? "" : `, batch of ${batch}`;
  const direction = unit === "tok/s" ? "higher is better" : "lower is better";
  const what: Readonly<Record<string, string>> = {
    prefill: `prefill of ${tokens} tokens${rows}`,
    decode: `decode of ${tokens} tokens after ${depth}${rows}`,
    first_token: "process start to first token, everything cached",
    memory: "peak anonymous memory",
    memory_file: "peak file-backed memory",
  };
  return `${what[metric] ?? metric}, ${unit} (${direction})`;
}

/** The median as a multiple of the reference engine's. */
export function ratio(row: Row, group: readonly Row[]): number | undefined {
  const reference = group.find(({ engine }) => engine === REFERENCE);
  return reference === undefined ? undefined : row.median / reference.median;
}

/** The rows as text for a terminal. */
export function table(rows: readonly Row[]): string {
  return groupByMeasure(rows)
    .map((group) => {
      const lines = group.map((row) => {
        const multiple = ratio(row, group);
        return [
          `  ${row.engine.padEnd(18)}`,
          `${short(row.median).padStart(8)}   ${short(row.min)} to ${short(row.max)}`.padEnd(32),
          multiple === undefined ? "" : `${multiple.toFixed(2)}x ${REFERENCE}`,
        ].join("");
      });
      return [title(group[0]!), ...lines].join("\n");
    })
    .join("\n\n");
}

/** Three significant digits, whole numbers from 100 on. */
export function short(value: number): string {
  return value >= 100 ? String(Math.round(value)) : value.toPrecision(3);
}
