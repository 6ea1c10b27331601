/** One line of the results. */
export interface Row {
  readonly engine: string;
  readonly metric: string;
  /** Tokens in the cache when the measured part starts. */
  readonly depth: number;
  readonly batch: number;
  /** Tokens that the measured part handles, in each row. */
  readonly tokens: number;
  readonly unit: "tok/s" | "s" | "MB" | "GB/s";
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** What is measured, apart from the engine. */
export type Measure = Pick<Row, "metric" | "depth" | "batch" | "tokens" | "unit">;

/** The engines that the others are compared with: the first that took part. */
const REFERENCES: readonly string[] = ["llama-bench", "node-llama-cpp"];

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
  const direction = unit.endsWith("/s") ? "higher is better" : "lower is better";
  const what: Readonly<Record<string, string>> = {
    prefill: `prefill of ${tokens} tokens${rows}`,
    decode: `decode of ${tokens} tokens after ${depth}${rows}`,
    first_start: "process start to first token, nothing prepared",
    first_token: "process start to first token, everything cached",
    bandwidth: "memory bandwidth",
    memory: "peak anonymous memory",
    memory_file: "peak file-backed memory",
  };
  return `${what[metric] ?? metric}, ${unit} (${direction})`;
}

function referenceOf(group: readonly Row[]): Row | undefined {
  return REFERENCES.flatMap((name) => group.filter(({ engine }) => engine === name))[0];
}

/** The median as a multiple of the reference engine's. */
export function ratio(row: Row, group: readonly Row[]): number | undefined {
  const reference = referenceOf(group);
  return reference === undefined ? undefined : row.median / reference.median;
}

/**
 * Decoded tokens as a share of what memory allows that is read at the measured bandwidth, `bytes` (the file's) for each
 * token; undefined where there is no such limit.
 */
function shareOfLimit(row: Row, rows: readonly Row[], bytes: number): number | undefined {
  const bandwidth = rows.find(({ metric }) => metric === "bandwidth");
  if (bandwidth === undefined || row.metric !== "decode" || row.batch !== 1) return undefined;
  return row.median / ((bandwidth.median * 1e9) / bytes);
}

/** The rows as text for a terminal; `bytes`: size of the file that the engines run. */
export function table(rows: readonly Row[], bytes: number): string {
  return groupByMeasure(rows)
    .map((group) => {
      const lines = group.map((row) => {
        const multiple = ratio(row, group);
        const share = shareOfLimit(row, rows, bytes);
        return [
          `  ${row.engine.padEnd(18)}`,
          `${short(row.median).padStart(8)}   ${short(row.min)} to ${short(row.max)}`.padEnd(32),
          (multiple === undefined ? "" : `${multiple.toFixed(2)}x ${referenceOf(group)!.engine}`).padEnd(24),
          share === undefined ? "" : `${(100 * share).toFixed(0)} % of the bandwidth limit`,
        ]
          .join("")
          .trimEnd();
      });
      return [title(group[0]!), ...lines].join("\n");
    })
    .join("\n\n");
}

/** Three significant digits, whole numbers from 100 on. */
export function short(value: number): string {
  return value >= 100 ? String(Math.round(value)) : value.toPrecision(3);
}
