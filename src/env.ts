import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";

/** Settings of the whole process, under Transformers.js' names. Defaults follow the HF_* variables at each use. */
export interface Environment {
  /** Whether models may be fetched; false works like `local_files_only` everywhere. */
  allowRemoteModels: boolean;
  /** Whether paths and `localModelPath` are looked at. */
  allowLocalModels: boolean;
  /** Folder in which an id is looked for before the caches. */
  localModelPath: string;
  /** The hub cache, as Python's huggingface_hub lays it out. Null goes back to HF_HUB_CACHE or HF_HOME. */
  get cacheDir(): string;
  set cacheDir(folder: string | null);
  /** The hub's address, with a slash at the end. Null goes back to HF_ENDPOINT or the public hub. */
  get remoteHost(): string;
  set remoteHost(address: string | null);
}

let cacheDir: string | null = null;
let remoteHost: string | null = null;

/** Process-wide settings; assign to change them. */
export const env: Environment = {
  allowRemoteModels: true,
  allowLocalModels: true,
  localModelPath: "./models/",
  get cacheDir(): string {
    return cacheDir ?? hubCacheFromVariables();
  },
  set cacheDir(folder: string | null) {
    cacheDir = folder;
  },
  get remoteHost(): string {
    const host = remoteHost ?? variable("HF_ENDPOINT") ?? "https://huggingface.co";
    return `${host.replace(/\/+$/, "")}/`;
  },
  set remoteHost(address: string | null) {
    remoteHost = address;
  },
};

/** HF_HOME, or Hugging Face's folder in the user's cache. */
export function hfHome(): string {
  const home = variable("HF_HOME");
  if (home !== undefined) return resolve(expandHome(home));
  const caches = variable("XDG_CACHE_HOME");
  return join(caches === undefined ? join(homedir(), ".cache") : resolve(expandHome(caches)), "huggingface");
}

/** The hub's token: HF_TOKEN, else the file that `hf auth login` writes. */
export function hubToken(): string | undefined {
  if (isTrue(variable("HF_HUB_DISABLE_IMPLICIT_TOKEN"))) return undefined;
  const given = variable("HF_TOKEN") ?? variable("HUGGING_FACE_HUB_TOKEN");
  if (given !== undefined) return given;
  const path = variable("HF_TOKEN_PATH");
  try {
    const text = readFileSync(path === undefined ? join(hfHome(), "token") : expandHome(path), "utf8").trim();
    return text === "" ? undefined : text;
  } catch {
    return undefined; // not logged in
  }
}

/** Whether HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids the network. */
export function isOffline(): boolean {
  return isTrue(variable("HF_HUB_OFFLINE")) || isTrue(variable("TRANSFORMERS_OFFLINE"));
}

/** An environment variable without surrounding space, undefined where it is unset or empty. */
export function variable(name: string): string | undefined {
  const value = process.env[name]?.trim();
  return value === "" ? undefined : value;
}

/** `~` and `~/…` as the user's home folder. */
export function expandHome(path: string): string {
  return path === "~" || /^~[\\/]/.test(path) ? join(homedir(), path.slice(1)) : path;
}

function hubCacheFromVariables(): string {
  const folder = variable("HF_HUB_CACHE") ?? variable("HUGGINGFACE_HUB_CACHE");
  return folder === undefined ? join(hfHome(), "hub") : resolve(expandHome(folder));
}

/** huggingface_hub's reading of its switches. */
function isTrue(value: string | undefined): boolean {
  return value !== undefined && ["1", "ON", "YES", "TRUE"].includes(value.toUpperCase());
}
