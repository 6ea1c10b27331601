import { setTimeout as wait } from "node:timers/promises";
import { HubError } from "../errors.ts";

/** How long and how often the network is tried. */
export interface NetworkLimits {
  /** Tries of one request, the first included. */
  attempts: number;
  /** Milliseconds before the second try; doubled for each further one. */
  backoff: number;
  /** Milliseconds for the head of an answer. */
  headTimeout: number;
  /** Milliseconds without a byte after which a body counts as dropped. */
  stallTimeout: number;
}

export const DEFAULT_LIMITS: Readonly<NetworkLimits> = {
  attempts: 5,
  backoff: 500,
  headTimeout: 30_000,
  stallTimeout: 30_000,
};

/** No answer came at all: the name does not resolve, nothing listens, or the connection breaks or hangs. */
export class UnreachableError extends HubError {}

export interface RequestOptions {
  method?: "GET" | "HEAD";
  headers?: Record<string, string>;
  /** Value of the authorization header; sent to the first address' origin only. */
  authorization?: string | undefined;
  signal?: AbortSignal | undefined;
  limits?: Readonly<NetworkLimits> | undefined;
  /** Returns the redirect itself where it leads to another origin (the hub puts facts about a file there). */
  stopAtForeignRedirect?: boolean;
}

/** The last answer of a chain of redirects. */
export interface Answer {
  readonly response: Response;
  /** Where it came from. */
  readonly url: URL;
  /** Drops the connection. */
  abort(reason: unknown): void;
  /** Fires when the connection is dropped, by `abort` or by the request's own signal. */
  readonly signal: AbortSignal;
}

const MAX_REDIRECTS = 10;
const MAX_WAIT = 60_000;
const RETRIED_STATUSES = new Set([408, 425, 429, 500, 502, 503, 504]);
/** Failures before a connection stands: trying more than twice only makes people wait. */
const NO_CONNECTION = new Set([
  "ENOTFOUND",
  "EAI_AGAIN",
  "EAI_FAIL",
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "EHOSTDOWN",
  "ENETUNREACH",
  "ENETDOWN",
  "EADDRNOTAVAIL",
  "ETIMEDOUT",
  "UND_ERR_CONNECT_TIMEOUT",
]);
const BROKEN_CONNECTION = new Set([
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "UND_ERR_SOCKET",
  "UND_ERR_HEADERS_TIMEOUT",
  "UND_ERR_BODY_TIMEOUT",
  "UND_ERR_RES_CONTENT_LENGTH_MISMATCH",
]);

/**
 * Sends a request, follows redirects and tries again after busy answers and broken connections. Any answer that is
 * left in the end is returned, whatever its status.
 */
export async function send(address: string, options: RequestOptions = {}): Promise<Answer> {
  const { attempts, backoff } = options.limits ?? DEFAULT_LIMITS;
  for (let attempt = 1; ; attempt++) {
    options.signal?.throwIfAborted();
    let pause = backoff * 2 ** (attempt - 1) * (0.75 + Math.random() / 2);
    try {
      const answer = await sendOnce(address, options);
      if (!RETRIED_STATUSES.has(answer.response.status) || attempt >= attempts) return answer;
      pause = Math.max(pause, retryAfter(answer.response));
      answer.abort(new Error("trying again"));
    } catch (error) {
      options.signal?.throwIfAborted();
      const kind = networkFailure(error);
      if (kind === undefined) throw requestError(address, error);
      if (attempt >= (kind === "no connection" ? Math.min(2, attempts) : attempts)) {
        throw unreachable(address, error);
      }
    }
    await sleep(Math.min(pause, MAX_WAIT), options.signal);
  }
}

/** The bytes of an answer; a stalled body is dropped and reported like a broken connection. */
export async function* bodyOf(
  answer: Answer,
  limits: Readonly<NetworkLimits> = DEFAULT_LIMITS,
): AsyncGenerator<Uint8Array> {
  const { body } = answer.response;
  if (body === null) return;
  const stalled = setTimeout(
    () => answer.abort(new StallError(`no data for ${limits.stallTimeout / 1000} s`)),
    limits.stallTimeout,
  );
  const reader = (body as ReadableStream<Uint8Array>).getReader();
  let drop: (() => void) | undefined;
  // fetch() can leave a read pending for good when it is aborted just as the last byte arrives.
  const dropped = new Promise<never>((_, reject) => {
    drop = () => reject(answer.signal.reason);
    answer.signal.addEventListener("abort", drop, { once: true });
  });
  dropped.catch(() => undefined);
  try {
    answer.signal.throwIfAborted();
    for (;;) {
      const { done, value } = await Promise.race([reader.read(), dropped]);
      if (done) return;
      stalled.refresh();
      yield value;
      stalled.refresh(); // the time that the reader took does not count
    }
  } finally {
    clearTimeout(stalled);
    if (drop !== undefined) answer.signal.removeEventListener("abort", drop);
    reader.cancel().catch(() => undefined);
  }
}

/** A body in memory, or undefined where it has more than `limit` bytes. */
export async function bytesOf(
  answer: Answer,
  limit: number,
  limits?: Readonly<NetworkLimits>,
): Promise<Buffer | undefined> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of bodyOf(answer, limits)) {
    length += chunk.length;
    if (length > limit) {
      answer.abort(new Error("too long"));
      return undefined;
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** A short body as text; more than `limit` bytes are refused. */
export async function textOf(
  answer: Answer,
  limit: number,
  limits?: Readonly<NetworkLimits>,
): Promise<string> {
  const bytes = await bytesOf(answer, limit, limits);
  if (bytes === undefined) throw new HubError(`${answer.url.href}: the answer is longer than ${limit} bytes`);
  return bytes.toString("utf8");
}

/** Whether an error is the network's fault: before a connection stood, or on it. */
export function networkFailure(error: unknown): "no connection" | "broken" | undefined {
  if (error instanceof StallError) return "broken";
  for (const link of causes(error)) {
    const code = (link as { code?: unknown }).code;
    if (typeof code === "string" && NO_CONNECTION.has(code)) return "no connection";
    if (typeof code === "string" && BROKEN_CONNECTION.has(code)) return "broken";
    if (link instanceof StallError) return "broken";
  }
  return undefined;
}

/** What a refused request said for itself: the hub's header, a JSON error, or a line of plain text. */
export async function refusal(answer: Answer): Promise<string> {
  const { response } = answer;
  const header = response.headers.get("x-error-message");
  const body = await textOf(answer, 64 * 1024).catch(() => "");
  if (header !== null && header !== "") return header;
  const type = response.headers.get("content-type") ?? "";
  if (type.includes("json")) {
    try {
      const { error, message } = JSON.parse(body) as { error?: unknown; message?: unknown };
      const text = error ?? message;
      if (typeof text === "string") return text;
    } catch {
      // not JSON after all
    }
  }
  const line = body.trim().split("\n", 1)[0] ?? "";
  return type.startsWith("text/plain") && line !== "" ? line.slice(0, 300) : response.statusText;
}

/** Waits; rejects with the signal's reason. */
export async function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  try {
    await wait(milliseconds, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

class StallError extends Error {}

async function sendOnce(address: string, options: RequestOptions): Promise<Answer> {
  const limits = options.limits ?? DEFAULT_LIMITS;
  const controller = new AbortController();
  const signal =
    options.signal === undefined ? controller.signal : AbortSignal.any([options.signal, controller.signal]);
  const abort = (reason: unknown): void => controller.abort(reason);
  const origin = new URL(address).origin;
  let url = new URL(address);
  let trusted = true;
  for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
    // Compressed answers would spoil sizes and ranges.
    const headers: Record<string, string> = {
      "accept-encoding": "identity",
      "user-agent": "lapidary",
      ...options.headers,
    };
    trusted &&= url.origin === origin;
    if (trusted && options.authorization !== undefined) headers.authorization = options.authorization;
    const timer = setTimeout(
      () => abort(new StallError(`no answer for ${limits.headTimeout / 1000} s`)),
      limits.headTimeout,
    );
    let response: Response;
    try {
      response = await fetch(url, { method: options.method ?? "GET", headers, redirect: "manual", signal });
    } finally {
      clearTimeout(timer);
    }
    const next = redirectTarget(response, url);
    if (next === undefined || (options.stopAtForeignRedirect === true && next.origin !== origin)) {
      return { response, url, abort, signal };
    }
    await response.body?.cancel();
    url = next;
  }
  throw new HubError(`${address}: more than ${MAX_REDIRECTS} redirects`);
}

function redirectTarget(response: Response, from: URL): URL | undefined {
  const location = response.headers.get("location");
  if (![301, 302, 303, 307, 308].includes(response.status) || location === null) return undefined;
  const next = URL.canParse(location, from.href) ? new URL(location, from.href) : undefined;
  const allowed = from.protocol === "https:" ? ["https:"] : ["https:", "http:"];
  if (next === undefined || !allowed.includes(next.protocol)) {
    throw new HubError(`${from.href}: redirects to ${location}, which is not followed`);
  }
  return next;
}

/** Milliseconds that the server asks to wait, 0 where it does not. */
function retryAfter(response: Response): number {
  const header = response.headers.get("retry-after");
  if (header === null) return 0;
  const seconds = Number(header);
  const pause = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - Date.now();
  return Number.isFinite(pause) ? Math.max(0, pause) : 0;
}

function* causes(error: unknown): Generator<object> {
  let link = error;
  for (let depth = 0; depth < 8 && typeof link === "object" && link !== null; depth++) {
    yield link;
    // Node tries several addresses of a name and bundles their failures.
    if (link instanceof AggregateError) {
      for (const inner of link.errors) if (typeof inner === "object" && inner !== null) yield inner;
    }
    link = (link as { cause?: unknown }).cause;
  }
}

function unreachable(address: string, error: unknown): UnreachableError {
  const proxy = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"].find(
    (name) => process.env[name] !== undefined,
  );
  const hint =
    proxy === undefined || process.env.NODE_USE_ENV_PROXY !== undefined
      ? ""
      : ` (${proxy} is set, but Node uses it only from version 22.21 or 24 on, with NODE_USE_ENV_PROXY=1)`;
  return new UnreachableError(`${new URL(address).origin} can't be reached: ${reasonOf(error)}${hint}`, {
    cause: error,
  });
}

function requestError(address: string, error: unknown): unknown {
  if (error instanceof HubError) return error;
  const reason = reasonOf(error);
  const hint = /certificate|self.signed/i.test(reason)
    ? "; for a certificate authority of your own set NODE_EXTRA_CA_CERTS"
    : "";
  return new HubError(`${new URL(address).origin}: the request failed: ${reason}${hint}`, { cause: error });
}

/** fetch() says only "fetch failed"; what happened is the innermost cause. */
function reasonOf(error: unknown): string {
  let reason = String(error);
  for (const link of causes(error)) {
    const { message, code } = link as { message?: unknown; code?: unknown };
    if (typeof message === "string" && message !== "") reason = message;
    else if (typeof code === "string") reason = code;
  }
  return reason;
}
