import { nearestName } from "../errors.ts";
import type { Wanted } from "./hub-files.ts";
import { PACKAGES } from "./pinned-packages.ts";

/** A hub repository and the part of it that an id names. */
export interface HubId extends Wanted {
  readonly id: string;
}

/** Repositories that slips of the pen are compared with. Not a list of what works. */
const WELL_KNOWN: readonly string[] = [
  "google/gemma-2b",
  "google/gemma-2b-it",
  "google/gemma-7b",
  "google/gemma-7b-it",
  "google/gemma-3-270m",
  "google/gemma-3-270m-it",
  "google/gemma-3-1b-pt",
  "google/gemma-3-1b-it",
  "google/gemma-3-4b-pt",
  "google/gemma-3-4b-it",
  "google/gemma-3-12b-pt",
  "google/gemma-3-12b-it",
  "google/gemma-3-27b-pt",
  "google/gemma-3-27b-it",
  "google/gemma-3n-E2B",
  "google/gemma-3n-E2B-it",
  "google/gemma-3n-E4B",
  "google/gemma-3n-E4B-it",
  "google/embeddinggemma-300m",
];

const SEGMENT = "[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?";
const HUB_ID = new RegExp(`^(${SEGMENT}/${SEGMENT})(?::([A-Za-z0-9._-]+)|/(.+\\.gguf))?$`, "i");

/** Reads `owner/name`, `owner/name:Q4_K_M` or `owner/name/file.gguf`; undefined where it is none of them. */
export function parseHubId(text: string): HubId | undefined {
  const match = HUB_ID.exec(text);
  const id = match?.[1];
  if (id === undefined || id.length > 96 || id.includes("--") || id.includes("..")) return undefined;
  // A repository's name does not end so; a file's does.
  if (/\.(gguf|safetensors|json)$/i.test(id)) return undefined;
  return { id, quant: match?.[2], file: match?.[3] };
}

/** Whether a name can only be a path. */
export function isPathLike(text: string): boolean {
  if (/^(\.{0,2}[\\/]|~|[A-Za-z]:[\\/])|\\|^\.{1,2}$/.test(text)) return true;
  return /\.(gguf|safetensors|json)$/i.test(text) && parseHubId(text) === undefined;
}

/** `; did you mean …?`, or nothing. */
export function suggestion(name: string): string {
  const known = [...PACKAGES.map((model) => model.name), ...WELL_KNOWN];
  const bare = new Map(known.map((id) => [id.slice(id.indexOf("/") + 1).toLowerCase(), id]));
  const whole = nearestName(name, known);
  const near =
    bare.get(name.toLowerCase()) ?? whole ?? bare.get(nearestName(name.toLowerCase(), bare.keys()) ?? "");
  return near === undefined || near === name ? "" : `; did you mean "${near}"?`;
}
