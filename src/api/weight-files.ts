import { dirname, parse, sep } from "node:path";
import { fileRanges, staysOnDisk, type WeightSource } from "../graph/weights.ts";

/**
 * Casts of weights that are stored in half precision must not be folded: the folded constants would hold the whole
 * model as float32 in memory, which is what half-precision storage is to avoid.
 */
export function sessionConfig(weights: WeightSource): Record<string, string> {
  // Of a table that is looked up only the rows are cast.
  const half = [...weights.values()].some(
    (weight) => weight.kind === "float" && weight.dtype !== "float32" && !staysOnDisk(weight),
  );
  return half ? { "optimization.disable_specified_optimizers": "ConstantFolding" } : {};
}

/** The deepest folder above all weight files: locations in the graph can't climb out of their folder. */
export function commonFolder(weights: WeightSource): string {
  const files = new Set([...weights.values()].flatMap(fileRanges).map(({ file }) => file));
  const folders = [...files].map((file) => dirname(file));
  const [first] = folders;
  if (first === undefined) return process.cwd();
  const { root } = parse(first);
  const parts = first.slice(root.length).split(sep);
  while (
    parts.length > 0 &&
    !folders.every((folder) => `${folder}${sep}`.startsWith(`${root}${parts.join(sep)}${sep}`))
  )
    parts.pop();
  return root + parts.join(sep);
}
