import { env, hubToken } from "../env.ts";
import { HubError } from "../errors.ts";
import {
  type Answer,
  DEFAULT_LIMITS,
  type NetworkLimits,
  networkFailure,
  refusal,
  send,
  textOf,
} from "./http.ts";
import { checkCommit } from "./hub-cache.ts";
import type { Digest } from "./partial-file.ts";

/** What the hub says about a file. The etag names its blob in the cache. */
export interface RemoteFile {
  readonly name: string;
  readonly etag: string;
  readonly size: number | undefined;
  readonly digest: Digest | undefined;
}

/** A revision of a repository. Facts about a file may have to be asked for one by one. */
export interface Listing {
  readonly commit: string;
  readonly names: readonly string[];
  facts(name: string): Promise<RemoteFile>;
}

const MAX_ANSWER = 64 * 2 ** 20;
const MAX_FILES = 100_000;

/** The hub's HTTP interface to one model repository. */
export class HubApi {
  readonly endpoint: string;
  /** Value of the authorization header, where there is a token. */
  readonly authorization: string | undefined;
  private readonly id: string;
  private readonly signal: AbortSignal | undefined;
  private readonly limits: Readonly<NetworkLimits>;

  constructor(id: string, signal?: AbortSignal, limits: Readonly<NetworkLimits> = DEFAULT_LIMITS) {
    const token = hubToken();
    this.id = id;
    this.endpoint = env.remoteHost.replace(/\/$/, "");
    this.authorization = token === undefined ? undefined : `Bearer ${token}`;
    this.signal = signal;
    this.limits = limits;
    if (!/^https?:$/.test(URL.canParse(this.endpoint) ? new URL(this.endpoint).protocol : "")) {
      throw new HubError(`HF_ENDPOINT (or env.remoteHost) is not an http address: ${this.endpoint}`);
    }
  }

  /** Where a file's bytes are. */
  address(commit: string, name: string): string {
    const path = name.split("/").map(encodeURIComponent).join("/");
    return `${this.endpoint}/${this.id}/resolve/${encodeURIComponent(commit)}/${path}`;
  }

  async list(revision: string): Promise<Listing> {
    const hub = await import("@huggingface/hub");
    const common = { hubUrl: this.endpoint, fetch: this.fetch };
    try {
      const info = await hub.modelInfo({
        ...common,
        name: this.id,
        revision,
        additionalFields: ["sha", "filePaths"],
      });
      const commit = checkCommit(info.sha, this.id);
      const files = await this.tree(
        hub.listFiles({ ...common, repo: this.id, revision: commit, recursive: true }),
      );
      const names = files === undefined ? (info.filePaths ?? []) : [...files.keys()];
      return { commit, names, facts: async (name) => files?.get(name) ?? (await this.ask(commit, name)) };
    } catch (error) {
      this.signal?.throwIfAborted();
      if (error instanceof HubError) throw error;
      throw new HubError(`${this.id}: ${this.endpoint} does not answer as the hub does: ${String(error)}`, {
        cause: error,
      });
    }
  }

  /** The error that a refused request deserves: the hub's own words, then what can be done. */
  readonly refused = async (answer: Answer): Promise<HubError> => {
    const { status } = answer.response;
    const lines = [`${this.id}: the hub answered ${status}: ${await refusal(answer)}`];
    if (status === 401 || status === 403) {
      lines.push(
        `The model may be gated, private or not there. To get at a gated one: accept its licence at ` +
          `${this.endpoint}/${this.id}, make a token at ${this.endpoint}/settings/tokens, then set HF_TOKEN or ` +
          "log in with `hf auth login`.",
      );
      if (this.authorization !== undefined) {
        lines.push("A token was sent: it may be expired or lack the right to read this model.");
      }
    }
    return new HubError(lines.join("\n"), { status });
  };

  /** A listing's entries by name; undefined where a mirror does not offer it. */
  private async tree(
    entries: AsyncIterable<{
      type: string;
      path: string;
      size: number;
      oid?: string;
      lfs?: { oid: string; size: number };
    }>,
  ): Promise<Map<string, RemoteFile> | undefined> {
    const files = new Map<string, RemoteFile>();
    try {
      for await (const { type, path, size, oid, lfs } of entries) {
        if (type !== "file") continue;
        if (files.size >= MAX_FILES)
          throw new HubError(`${this.id}: the repository lists over ${MAX_FILES} files`);
        files.set(path, this.remoteFile(path, lfs?.oid ?? oid, lfs?.size ?? size));
      }
    } catch (error) {
      if (error instanceof HubError && [404, 405, 501].includes(error.status ?? 0)) return undefined;
      throw error;
    }
    return files;
  }

  private async ask(commit: string, name: string): Promise<RemoteFile> {
    const answer = await send(this.address(commit, name), {
      method: "HEAD",
      authorization: this.authorization,
      signal: this.signal,
      limits: this.limits,
      stopAtForeignRedirect: true,
    });
    const { headers, status } = answer.response;
    if (status >= 400) throw await this.refused(answer);
    const etag = headers.get("x-linked-etag") ?? headers.get("etag") ?? undefined;
    const size = headers.get("x-linked-size") ?? (status === 200 ? headers.get("content-length") : null);
    return this.remoteFile(name, etag, size === null ? undefined : Number(size));
  }

  private remoteFile(name: string, rawEtag: unknown, size: unknown): RemoteFile {
    const etag = typeof rawEtag === "string" ? rawEtag.replace(/^W\//, "").replaceAll('"', "") : "";
    if (!/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$/.test(etag)) {
      throw new HubError(`${this.id}: ${name}: the server gives no usable etag: ${JSON.stringify(rawEtag)}`);
    }
    if (size !== undefined && !(Number.isSafeInteger(size) && (size as number) >= 0)) {
      throw new HubError(`${this.id}: ${name}: the server's size is not one: ${JSON.stringify(size)}`);
    }
    return { name, etag, size: size as number | undefined, digest: digestOf(etag) };
  }

  /** What @huggingface/hub calls: our retries and errors, and no token for other origins. */
  private readonly fetch = async (input: RequestInfo | URL): Promise<Response> => {
    const address = input instanceof Request ? input.url : String(input);
    const ours = new URL(address).origin === new URL(this.endpoint).origin;
    const { signal, limits } = this;
    for (let attempt = 1; ; attempt++) {
      const answer = await send(address, {
        headers: { accept: "application/json" },
        authorization: ours ? this.authorization : undefined,
        signal,
        limits,
      });
      if (!answer.response.ok) throw await this.refused(answer);
      try {
        const { status, headers } = answer.response;
        return new Response(await textOf(answer, MAX_ANSWER, limits), { status, headers });
      } catch (error) {
        signal?.throwIfAborted();
        if (networkFailure(error) === undefined || attempt >= limits.attempts) throw error;
      }
    }
  };
}

/** LFS files are named by their sha256, the others by git's sum; mirrors may name them in ways that say nothing. */
function digestOf(etag: string): Digest | undefined {
  if (/^[0-9a-f]{64}$/.test(etag)) return { algorithm: "sha256", hex: etag };
  if (/^[0-9a-f]{40}$/.test(etag)) return { algorithm: "git-sha1", hex: etag };
  return undefined;
}
