import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { NetworkLimits } from "../../src/checkpoints/http.ts";

/** Limits under which failing networks fail fast. */
export const QUICK: NetworkLimits = { attempts: 3, backoff: 5, headTimeout: 2000, stallTimeout: 300 };

export const COMMIT: string = "0123456789abcdef0123456789abcdef01234567";

export interface Seen {
  server: "hub" | "cdn";
  method: string;
  path: string;
  authorization: string | undefined;
  range: string | undefined;
}

/** What the stand-in does wrong; each may be changed between requests. */
export interface Mischief {
  /** Answers API and file requests of readers without this token with a refusal. */
  token?: string;
  refusal?: { status: number; header?: string; json?: string; filesOnly?: boolean };
  /** Statuses of the next answers. */
  busy?: number[];
  /** Bytes after which the CDN's next answers break off. */
  dropAfter?: number[];
  /** The CDN's next answers stop there but stay open. */
  stallAfter?: number;
  ignoreRange?: boolean;
  corrupt?: boolean;
  /** A mirror without listings of sizes and sums. */
  noTree?: boolean;
  /** Milliseconds between pieces of a body. */
  slow?: number;
}

/** The hub's HTTP interface to one model, with a second server in the place of its content network. */
export class HubStandIn {
  readonly seen: Seen[] = [];
  readonly mischief: Mischief = {};
  commit: string = COMMIT;
  endpoint = "";
  private cdn = "";
  private readonly id: string;
  private readonly files: Map<string, Buffer>;
  private readonly servers: Server[] = [];

  private constructor(id: string, files: Record<string, string | Buffer>) {
    this.id = id;
    this.files = new Map(Object.entries(files).map(([name, bytes]) => [name, Buffer.from(bytes)]));
  }

  static async start(id: string, files: Record<string, string | Buffer>): Promise<HubStandIn> {
    const hub = new HubStandIn(id, files);
    hub.endpoint = await hub.listen("hub", (request, response) => hub.answerHub(request, response));
    hub.cdn = await hub.listen("cdn", (request, response) => hub.answerCdn(request, response));
    return hub;
  }

  async stop(): Promise<void> {
    for (const server of this.servers) {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    }
  }

  gets(part: string): Seen[] {
    return this.seen.filter(({ method, path }) => method === "GET" && path.includes(part));
  }

  private async listen(
    name: Seen["server"],
    handle: (request: IncomingMessage, response: ServerResponse) => void,
  ): Promise<string> {
    const server = createServer((request, response) => {
      const { authorization, range } = request.headers;
      this.seen.push({
        server: name,
        method: request.method ?? "",
        path: request.url ?? "",
        authorization,
        range,
      });
      handle(request, response);
    });
    this.servers.push(server);
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  private answerHub(request: IncomingMessage, response: ServerResponse): void {
    const path = decodeURIComponent(new URL(request.url ?? "/", "http://x").pathname);
    const isFile = path.startsWith(`/${this.id}/resolve/`);
    const busy = this.mischief.busy?.shift();
    if (busy !== undefined) {
      response.writeHead(busy, { "retry-after": "0" }).end();
      return;
    }
    const { refusal, token } = this.mischief;
    if (refusal !== undefined && (isFile || refusal.filesOnly !== true)) {
      if (token === undefined || request.headers.authorization !== `Bearer ${token}`) {
        if (refusal.header !== undefined) response.setHeader("x-error-message", refusal.header);
        response.writeHead(refusal.status, { "content-type": "application/json" });
        response.end(JSON.stringify({ error: refusal.json ?? "no" }));
        return;
      }
    }
    const name = path.slice(`/${this.id}/resolve/${this.commit}/`.length);
    const bytes = isFile ? this.files.get(name) : undefined;
    if (path.startsWith(`/api/models/${this.id}/revision/`)) this.answerInfo(response);
    else if (path === `/api/models/${this.id}/tree/${this.commit}`) this.answerTree(response);
    else if (bytes === undefined) json(response, 404, { error: "Repository not found" });
    else this.answerFile(request, response, name, bytes);
  }

  private answerInfo(response: ServerResponse): void {
    const siblings = [...this.files.keys()].map((rfilename) => ({ rfilename }));
    json(response, 200, {
      _id: "1",
      id: this.id,
      sha: this.commit,
      siblings,
      lastModified: "2025-01-01T00:00:00.000Z",
    });
  }

  private answerTree(response: ServerResponse): void {
    const entries = [...this.files].map(([path, bytes]) => ({
      type: "file",
      path,
      size: bytes.length,
      oid: gitSum(bytes),
      ...(isLarge(path) ? { lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 130 } } : {}),
    }));
    if (this.mischief.noTree === true) json(response, 404, { error: "no such page" });
    else json(response, 200, entries);
  }

  private answerFile(request: IncomingMessage, response: ServerResponse, name: string, bytes: Buffer): void {
    response.setHeader("x-repo-commit", this.commit);
    if (isLarge(name)) {
      response.setHeader("x-linked-etag", `"${sha256(bytes)}"`);
      response.setHeader("x-linked-size", bytes.length);
      return void response
        .writeHead(302, { location: `${this.cdn}/${encodeURIComponent(name)}?signature=x` })
        .end();
    }
    response.setHeader("etag", `"${gitSum(bytes)}"`);
    response.setHeader("content-length", bytes.length);
    response.end(request.method === "HEAD" ? undefined : bytes);
  }

  private async answerCdn(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const whole = this.files.get(
      decodeURIComponent(new URL(request.url ?? "/", "http://x").pathname.slice(1)),
    );
    if (whole === undefined) throw new Error(`the hub never named ${request.url}`);
    const { mischief } = this;
    const content = mischief.corrupt === true ? Buffer.alloc(whole.length, 7) : whole;
    const range = mischief.ignoreRange === true ? null : /^bytes=(\d+)-$/.exec(request.headers.range ?? "");
    const start = Number(range?.[1] ?? 0);
    if (start >= whole.length) {
      response.writeHead(416).end();
      return;
    }
    const bytes = content.subarray(start);
    response.writeHead(range === null ? 200 : 206, {
      "content-length": bytes.length,
      ...(range === null ? {} : { "content-range": `bytes ${start}-${whole.length - 1}/${whole.length}` }),
    });
    const drop = mischief.dropAfter?.shift();
    const stall = mischief.stallAfter;
    delete mischief.stallAfter;
    if (drop !== undefined) {
      response.write(bytes.subarray(0, drop), () => setTimeout(() => response.destroy(), 20));
    } else if (stall !== undefined) {
      response.write(bytes.subarray(0, stall));
    } else {
      for (let at = 0; at < bytes.length; at += 4096) {
        response.write(bytes.subarray(at, at + 4096));
        if (mischief.slow !== undefined) await new Promise((done) => setTimeout(done, mischief.slow));
      }
      response.end();
    }
  }
}

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

export function gitSum(bytes: Uint8Array): string {
  return createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
}

function isLarge(name: string): boolean {
  return /\.(safetensors|gguf)$/.test(name);
}

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json; charset=utf-8" }).end(JSON.stringify(body));
}
