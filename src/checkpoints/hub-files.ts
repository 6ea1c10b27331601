import { HubError } from "../errors.ts";

/** Which part of a repository is asked for. */
export interface Wanted {
  /** Folder of the repository that holds the model. */
  subfolder?: string | undefined;
  /** A .gguf file, relative to the subfolder. */
  file?: string | undefined;
  /** A quantisation of a GGUF repository, e.g. `Q4_K_M`; as in llama.cpp's `-hf owner/name:quant`. */
  quant?: string | undefined;
  /** False: configuration and tokenizer are enough, where they are files of their own. */
  weights?: boolean | undefined;
}

/** What to take of a repository; names are relative to its root. */
export type Choice =
  | { kind: "gguf"; files: readonly string[] }
  | { kind: "small"; small: readonly string[] }
  | { kind: "safetensors" | "flax"; small: readonly string[]; weights: string; sharded: boolean };

/** Files whose absence in a revision is worth remembering, so that a cached start asks nobody. */
export const EXPECTED_FILES: readonly string[] = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.json",
  "chat_template.jinja",
  "preprocessor_config.json",
  "processor_config.json",
];

const SMALL_FILES: readonly RegExp[] = [
  /^(config|generation_config|special_tokens_map|added_tokens|preprocessor_config|processor_config)\.json$/,
  /^(video_preprocessor_config|adapter_config)\.json$/,
  /^tokenizer[^/]*\.json$/,
  /^chat_template[^/]*$/,
  /^additional_chat_templates\/[^/]+\.jinja$/,
  // What sentence-transformers keeps beside a model: its steps after the transformer, a folder each.
  /^(modules|config_sentence_transformers|sentence_bert_config)\.json$/,
  /^\d+_[A-Za-z]+\/(config\.json|model\.safetensors)$/,
];

/** Weight files in the order in which they are looked for, as in HF. */
const WEIGHTS: readonly string[] = [
  "model.safetensors",
  "model.safetensors.index.json",
  "adapter_model.safetensors",
];

/** What must be there for a model to be of use without weights. */
const WITHOUT_WEIGHTS: readonly string[] = ["config.json", "tokenizer.json"];

/** Flax's own, for repositories that hold nothing else. */
const FLAX_WEIGHTS: readonly string[] = ["flax_model.msgpack", "flax_model.msgpack.index.json"];

/** llama.cpp's choice where none is named. */
const DEFAULT_QUANT = "Q4_K_M";

/** Files of GGUF repositories that are no language models. */
const NO_MODEL = /mmproj|imatrix/i;
const SPLIT = /-(\d{5})-of-(\d{5})(?=\.gguf$)/i;

/**
 * Refuses a file name that could leave the folder it is put in, under any system's rules. Names come from servers
 * and from index files.
 */
export function checkFileName(name: string, origin: string): void {
  const segments = name.split("/");
  const harmless =
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
    !/[\\:*?"<>|\u0000-\u001f]/.test(name) &&
    segments.every((part) => part !== "" && !/^\.+$/.test(part) && !/[. ]$/.test(part));
  if (!harmless) throw new HubError(`${origin}: refusing the file name ${JSON.stringify(name)}`);
}

/** Picks a model's files from a listing; undefined where it holds no weights that lapidary reads. */
export function chooseFiles(names: readonly string[], wanted: Wanted, origin: string): Choice | undefined {
  const prefix = folderPrefix(wanted);
  if (wanted.file !== undefined || wanted.quant !== undefined) {
    return { kind: "gguf", files: chooseGguf(names, wanted, origin) };
  }
  const small = names.filter((name) => name.startsWith(prefix) && isSmall(name.slice(prefix.length)));
  if (wanted.weights === false && WITHOUT_WEIGHTS.every((name) => names.includes(prefix + name))) {
    return { kind: "small", small };
  }
  const choose = (kind: "safetensors" | "flax", candidates: readonly string[]): Choice | undefined => {
    const weights = candidates.map((name) => prefix + name).find((name) => names.includes(name));
    return weights === undefined ? undefined : { kind, small, weights, sharded: weights.endsWith(".json") };
  };
  const safetensors = choose("safetensors", WEIGHTS);
  if (safetensors !== undefined) return safetensors;
  if (ggufModels(names, prefix).length > 0) {
    return { kind: "gguf", files: chooseGguf(names, wanted, origin) };
  }
  return choose("flax", FLAX_WEIGHTS);
}

/** The parts of the GGUF file that is meant, the first one first. */
export function chooseGguf(names: readonly string[], wanted: Wanted, origin: string): readonly string[] {
  const prefix = folderPrefix(wanted);
  const models = ggufModels(names, prefix);
  const parts = (first: string): readonly string[] => allParts(first, names, origin);
  if (wanted.file !== undefined) {
    const found = names.find((name) => name === prefix + wanted.file);
    if (found !== undefined) return parts(found);
    throw new HubError(`${origin}: there is no file ${prefix}${wanted.file}${offer(models)}`);
  }
  const quant = wanted.quant ?? DEFAULT_QUANT;
  const suffix = new RegExp(`(^|[-._/])${quant.replaceAll(".", "\\.")}$`, "i");
  const stem = (name: string): string => name.replace(SPLIT, "").slice(0, -".gguf".length);
  // The shortest name: "UD-Q4_K_M" and the like are other files.
  const [match] = models.filter((name) => suffix.test(stem(name))).sort((a, b) => a.length - b.length);
  if (match !== undefined) return parts(match);
  if (wanted.quant === undefined && models[0] !== undefined) return parts(models[0]);
  throw new HubError(`${origin}: no .gguf file is quantised as ${quant}${offer(models)}`);
}

/** The shard files that an index names, relative to the index's folder, each once. */
export function shardsOf(index: string, origin: string): readonly string[] {
  let map: unknown;
  try {
    map = (JSON.parse(index) as { weight_map?: unknown } | null)?.weight_map;
  } catch (error) {
    throw new HubError(`${origin}: not JSON`, { cause: error });
  }
  if (typeof map !== "object" || map === null || Array.isArray(map)) {
    throw new HubError(`${origin}: has no weight_map`);
  }
  const shards = new Set<string>();
  for (const shard of Object.values(map as Record<string, unknown>)) {
    if (typeof shard !== "string")
      throw new HubError(`${origin}: weight_map holds something other than file names`);
    checkFileName(shard, origin);
    shards.add(shard);
  }
  if (shards.size === 0) throw new HubError(`${origin}: weight_map is empty`);
  return [...shards].sort();
}

/** The subfolder with a slash, or nothing. */
export function folderPrefix(wanted: Wanted): string {
  const folder = (wanted.subfolder ?? "").replace(/^\.?\/+|\/+$/g, "");
  if (folder !== "" && folder !== ".") checkFileName(folder, "subfolder");
  return folder === "" || folder === "." ? "" : `${folder}/`;
}

/** A folder's .gguf language models, one name a model (the first part of a split one), sorted. */
export function ggufModels(names: readonly string[], prefix = ""): string[] {
  return names
    .filter((name) => name.startsWith(prefix) && /\.gguf$/i.test(name) && !NO_MODEL.test(name))
    .filter((name) => Number(SPLIT.exec(name)?.[1] ?? 1) === 1)
    .sort();
}

function isSmall(name: string): boolean {
  return SMALL_FILES.some((pattern) => pattern.test(name));
}

function allParts(name: string, names: readonly string[], origin: string): readonly string[] {
  const count = Number(SPLIT.exec(name)?.[2] ?? 1);
  if (count === 1) return [name];
  if (count > 10_000) throw new HubError(`${origin}: ${name} claims ${count} parts`);
  const parts = Array.from({ length: count }, (_, i) =>
    name.replace(SPLIT, (_match, _part, of: string) => `-${String(i + 1).padStart(5, "0")}-of-${of}`),
  );
  const missing = parts.find((part) => !names.includes(part));
  if (missing !== undefined) throw new HubError(`${origin}: the part ${missing} is missing`);
  return parts;
}

function offer(models: readonly string[]): string {
  if (models.length === 0) return "; it holds no .gguf model";
  const shown = models.slice(0, 12).join(", ");
  return `; there are: ${shown}${models.length > 12 ? ", …" : ""}`;
}
