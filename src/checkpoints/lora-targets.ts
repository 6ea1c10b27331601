/** Which modules an adapter's configuration means, by PEFT's rules. */
import { runInNewContext } from "node:vm";
import { CheckpointError } from "../errors.ts";
import type { LoraConfig } from "./lora-config.ts";

/** Patterns come from files, and a hostile one can keep an engine busy for ever. */
const MAX_MS = 500;
/** Names of layers that score classes or tokens: "all-linear" leaves them out. */
const HEADS = /(^|\.)(lm_head|score|classifier)$/;

/** The modules, of `names`, that an adapter changes by low-rank products. */
export function targetedModules(config: LoraConfig, names: readonly string[]): Set<string> {
  const { target_modules: targets, exclude_modules: excluded, modules_to_save } = config;
  const left = new Set(excluded === undefined ? [] : named(excluded, names, config));
  const saved = modules_to_save.map((module) => `^(?:.*\\.)?${module}(?:$|\\..*)`);
  for (const matches of matchAll(saved, names, config)) for (const name of matches.keys()) left.add(name);
  const candidates = names.filter((name) => !left.has(name));
  if (targets === undefined) return new Set(candidates);
  if (typeof targets === "string") {
    if (targets.toLowerCase() === "all-linear")
      return new Set(candidates.filter((name) => !HEADS.test(name)));
    return new Set(named(targets, candidates, config));
  }
  const layers = layerNumbers(config, candidates);
  const wanted = new Set(config.layers_to_transform);
  const found = named(targets, candidates, config).filter(
    (name) => targets.includes(name) || wanted.size === 0 || wanted.has(layers.get(name) ?? -1),
  );
  return new Set(found);
}

/** The value of the first pattern that fits each name; names that none fits are left out. */
export function patternValues(
  pattern: ReadonlyMap<string, number>,
  names: readonly string[],
  config: LoraConfig,
): Map<string, number> {
  const expressions = [...pattern.keys()].map((key) => `^(?:.*\\.)?(?:${key})$`);
  const values = new Map<string, number>();
  const found = matchAll(expressions, names, config);
  for (const [i, value] of [...pattern.values()].entries())
    for (const name of found[i]!.keys()) if (!values.has(name)) values.set(name, value);
  return values;
}

/** Names that a regular expression fits whole, or that end in one of a list. */
function named(
  wanted: string | readonly string[],
  names: readonly string[],
  config: LoraConfig,
): readonly string[] {
  if (typeof wanted === "string") return [...matchAll([`^(?:${wanted})$`], names, config)[0]!.keys()];
  const ends = new Set(wanted);
  return names.filter((name) => ends.has(name) || wanted.some((end) => name.endsWith(`.${end}`)));
}

/** The number of the layer that each module lies in: the first number in its name, after one of `layers_pattern`. */
function layerNumbers(config: LoraConfig, names: readonly string[]): Map<string, number> {
  if (config.layers_to_transform.length === 0) return new Map();
  const expressions =
    config.layers_pattern.length === 0
      ? ["^.*?\\.[^.]*\\.(?<index>\\d+)\\."]
      : config.layers_pattern.map((pattern) => `^(?:.*?\\.)?${pattern}\\.(?<index>\\d+)\\.`);
  const numbers = new Map<string, number>();
  for (const matches of matchAll(expressions, names, config))
    for (const [name, index] of matches) if (!numbers.has(name)) numbers.set(name, Number(index));
  return numbers;
}

/** For every expression the names that it fits, each with its group `index`; stopped when it takes too long. */
function matchAll(
  expressions: readonly string[],
  names: readonly string[],
  config: LoraConfig,
): ReadonlyMap<string, string>[] {
  if (expressions.length === 0) return [];
  const script = `JSON.stringify(expressions.map((source) => {
    const expression = new RegExp(source);
    return names.flatMap((name) => {
      const match = expression.exec(name);
      return match === null ? [] : [[name, match.groups?.index ?? ""]];
    });
  }))`;
  // Python's spelling of a named group.
  const sources = expressions.map((source) => source.replaceAll("(?P<", "(?<"));
  try {
    const found = runInNewContext(script, { expressions: sources, names }, { timeout: MAX_MS }) as string;
    return (JSON.parse(found) as [string, string][][]).map((matches) => new Map(matches));
  } catch (cause) {
    const { code, message } = cause as { code?: string; message: string };
    const problem = code === "ERR_SCRIPT_EXECUTION_TIMEOUT" ? "its patterns take too long to match" : message;
    throw new CheckpointError(problem, { file: config.file, cause });
  }
}
