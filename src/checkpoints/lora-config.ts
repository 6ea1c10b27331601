import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointError } from "../errors.ts";
import { reasonOf } from "./open-files.ts";
import { excerpt, isJsonObject } from "./strict-json.ts";

const CONFIG_FILE = "adapter_config.json";
/** Lists of module names are the longest that a configuration holds. */
const MAX_BYTES = 4 * 2 ** 20;

/** What PEFT's LoraConfig says that matters after training; names are PEFT's. */
export interface LoraConfig {
  /** Path of adapter_config.json, for messages. */
  readonly file: string;
  readonly r: number;
  readonly lora_alpha: number;
  /** Ranks and alphas of modules that differ, by a name or a regular expression. */
  readonly rank_pattern: ReadonlyMap<string, number>;
  readonly alpha_pattern: ReadonlyMap<string, number>;
  /** Scale by alpha / sqrt(r) instead of alpha / r. */
  readonly use_rslora: boolean;
  readonly use_dora: boolean;
  /** A regular expression, "all-linear", or ends of module names; undefined where the file alone says. */
  readonly target_modules: string | readonly string[] | undefined;
  readonly exclude_modules: string | readonly string[] | undefined;
  readonly modules_to_save: readonly string[];
  readonly layers_to_transform: readonly number[];
  readonly layers_pattern: readonly string[];
}

/** Settings that change what an adapter computes and that nothing here computes: any value but these is refused. */
const NOT_SUPPORTED: readonly string[] = [
  "fan_in_fan_out",
  "lora_bias",
  "use_qalora",
  "use_bdlora",
  "alora_invocation_tokens",
  "layer_replication",
  "target_parameters",
  "trainable_token_indices",
  "arrow_config",
  "kasa_config",
  "monteclora_config",
];

/** These change the base weights too when training starts; PEFT's save_pretrained can convert them to plain LoRA. */
const CHANGES_BASE = /^(pissa|olora|corda|loftq|lora_ga)/i;

/** Reads and checks a folder's adapter_config.json. Throws a CheckpointError that says what is wrong with it. */
export async function readLoraConfig(folder: string): Promise<LoraConfig> {
  const file = join(folder, CONFIG_FILE);
  const config = await readJson(file);
  const reader = new Reader(config, file);
  const { peft_type, bias = "none", init_lora_weights } = config;
  if (peft_type !== "LORA") reader.fail("peft_type", `only "LORA" is supported, not ${excerpt(peft_type)}`);
  if (bias !== "none") reader.fail("bias", `only "none" is supported, not ${excerpt(bias)}`);
  for (const key of NOT_SUPPORTED) if (isSet(config[key])) reader.fail(key, "is not supported");
  if (typeof init_lora_weights === "string" && CHANGES_BASE.test(init_lora_weights)) {
    const advice = "save it with path_initial_model_for_weight_conversion";
    reader.fail("init_lora_weights", `${excerpt(init_lora_weights)} changed the base weights too; ${advice}`);
  }
  return {
    file,
    r: reader.rank("r", config.r ?? 8),
    lora_alpha: reader.number("lora_alpha", config.lora_alpha ?? 8),
    rank_pattern: reader.pattern("rank_pattern", (value, key) => reader.rank(key, value)),
    alpha_pattern: reader.pattern("alpha_pattern", (value, key) => reader.number(key, value)),
    use_rslora: config.use_rslora === true,
    use_dora: config.use_dora === true,
    target_modules: reader.modules("target_modules"),
    exclude_modules: reader.modules("exclude_modules"),
    modules_to_save: reader.strings("modules_to_save"),
    layers_to_transform: reader.indices("layers_to_transform"),
    layers_pattern: reader.strings("layers_pattern"),
  };
}

async function readJson(file: string): Promise<Record<string, unknown>> {
  let value: unknown;
  try {
    const { size } = await stat(file);
    if (size > MAX_BYTES) throw new CheckpointError(`${size} bytes are too many`, { file });
    value = JSON.parse(await readFile(file, "utf8"));
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    const problem = cause instanceof SyntaxError ? `not valid JSON: ${cause.message}` : reasonOf(cause);
    throw new CheckpointError(`${problem}; a LoRA adapter is a folder as PEFT saves it`, { file, cause });
  }
  if (!isJsonObject(value)) throw new CheckpointError("expected an object", { file });
  return value;
}

/** Whether a setting is anything but off. */
function isSet(value: unknown): boolean {
  if (value === undefined || value === null || value === false) return false;
  return typeof value !== "object" || Object.keys(value).length > 0;
}

/** Checks of single values, which name the key. */
class Reader {
  readonly #config: Record<string, unknown>;
  readonly #file: string;

  constructor(config: Record<string, unknown>, file: string) {
    this.#config = config;
    this.#file = file;
  }

  fail(key: string, problem: string): never {
    throw new CheckpointError(`${key}: ${problem}`, { file: this.#file });
  }

  rank(key: string, value: unknown): number {
    if (Number.isSafeInteger(value) && (value as number) > 0) return value as number;
    return this.fail(key, `expected a positive integer, got ${excerpt(value)}`);
  }

  number(key: string, value: unknown): number {
    if (typeof value === "number" && Number.isFinite(value)) return value;
    return this.fail(key, `expected a number, got ${excerpt(value)}`);
  }

  pattern(key: string, read: (value: unknown, key: string) => number): Map<string, number> {
    const value = this.#config[key] ?? {};
    if (!isJsonObject(value)) return this.fail(key, `expected an object, got ${excerpt(value)}`);
    return new Map(Object.entries(value).map(([name, item]) => [name, read(item, `${key}.${name}`)]));
  }

  /** A regular expression, a list of names, or nothing. */
  modules(key: string): string | readonly string[] | undefined {
    const value = this.#config[key] ?? undefined;
    return value === undefined || typeof value === "string" ? value : this.strings(key);
  }

  /** A list; one name alone stands for a list of one. */
  strings(key: string): readonly string[] {
    const value = this.#config[key] ?? [];
    const list = typeof value === "string" ? [value] : value;
    if (Array.isArray(list) && list.every((item) => typeof item === "string")) return list;
    return this.fail(key, `expected names, got ${excerpt(value)}`);
  }

  indices(key: string): readonly number[] {
    const value = this.#config[key] ?? [];
    const list = typeof value === "number" ? [value] : value;
    if (Array.isArray(list) && list.every((item) => Number.isSafeInteger(item) && item >= 0)) return list;
    return this.fail(key, `expected layer numbers, got ${excerpt(value)}`);
  }
}
