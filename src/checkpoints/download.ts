import { mkdir, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { HubError } from "../errors.ts";
import { checkRoom, diskError, syncFolder } from "./disk.ts";
import {
  type Answer,
  bodyOf,
  DEFAULT_LIMITS,
  type NetworkLimits,
  networkFailure,
  refusal,
  send,
  sleep,
  UnreachableError,
} from "./http.ts";
import { type Digest, OverlongError, PartialFile } from "./partial-file.ts";

/** A step of loading, in Transformers.js' form. `progress` is in percent. */
export type ProgressInfo =
  | { status: "initiate"; name: string; file: string }
  | { status: "download"; name: string; file: string }
  | { status: "progress"; name: string; file: string; progress: number; loaded: number; total: number }
  | { status: "done"; name: string; file: string }
  | { status: "ready"; task?: string; model: string };

export type ProgressCallback = (progress: ProgressInfo) => void;

export interface DownloadRequest {
  url: string;
  /** Where the whole, checked file appears; never before. */
  target: string;
  /** Where the bytes gather; what an interrupted download left there is continued. */
  partial: string;
  /** What errors call the file. */
  label: string;
  size?: number | undefined;
  /** Bytes that a file of unknown size may have. */
  maxSize?: number | undefined;
  digest?: Digest | undefined;
  authorization?: string | undefined;
  signal?: AbortSignal | undefined;
  limits?: Readonly<NetworkLimits> | undefined;
  onProgress?: ((loaded: number, total: number | undefined) => void) | undefined;
  /** Makes the error of an answer that is not a success. */
  onRefusal?: ((answer: Answer) => Promise<Error>) | undefined;
}

/** Most connections for one file, however far each of them gets. */
const MAX_CONNECTIONS = 200;

/** Fetches one file: continues partial files, follows dropped connections up, checks size and sum, then renames. */
export async function download(request: DownloadRequest): Promise<void> {
  await mkdir(dirname(request.target), { recursive: true });
  await mkdir(dirname(request.partial), { recursive: true });
  try {
    const inherited = await transfer(request);
    // A partial file that another program left may have holes: it deserves one fresh try.
    if (inherited === "mismatch after resuming") await transfer(request);
    await rename(request.partial, request.target);
    await syncFolder(dirname(request.target));
  } catch (error) {
    request.signal?.throwIfAborted();
    throw diskError(error, request);
  }
}

/** A throttled `progress_callback` for one file: at most ten calls a second, and one at the end. */
export function progressOf(
  callback: ProgressCallback | undefined,
  name: string,
  file: string,
): (loaded: number, total: number | undefined) => void {
  let last = 0;
  return (loaded, total = 0) => {
    const now = Date.now();
    if (callback === undefined || (now - last < 100 && loaded !== total)) return;
    last = now;
    callback({
      status: "progress",
      name,
      file,
      progress: total === 0 ? 0 : (100 * loaded) / total,
      loaded,
      total,
    });
  };
}

async function transfer(request: DownloadRequest): Promise<"good" | "mismatch after resuming"> {
  const file = await PartialFile.open(request);
  const resumed = file.length > 0;
  let keep = false;
  try {
    const missing = Math.max(0, (request.size ?? 0) - file.length);
    await checkRoom(dirname(request.partial), missing, request.label);
    await fill(file, request);
    const problem = await file.check();
    if (problem === undefined) {
      await file.sync();
      keep = true;
      return "good";
    }
    if (resumed) return "mismatch after resuming";
    throw new HubError(problem);
  } catch (error) {
    // What came before a broken connection is worth keeping, except where its sum is known to be wrong.
    keep = file.length > 0 && file.length !== file.size && !(error instanceof OverlongError);
    throw error;
  } finally {
    await file.close();
    if (!keep) await rm(request.partial, { force: true });
  }
}

/** Connects until the file is whole. */
async function fill(file: PartialFile, request: DownloadRequest): Promise<void> {
  const { attempts, backoff } = request.limits ?? DEFAULT_LIMITS;
  let failures = 0;
  for (let connection = 1; file.length !== file.size; connection++) {
    const before = file.length;
    let cause: unknown;
    try {
      await receive(file, request);
      file.size ??= file.length; // the server never said: what came is all
    } catch (error) {
      request.signal?.throwIfAborted();
      if (networkFailure(error) === undefined) throw error;
      if (error instanceof UnreachableError && connection === 1) {
        // Not an UnreachableError any more: who named this address was there.
        throw new HubError(`${request.label}: ${error.message}`, { cause: error });
      }
      cause = error;
    }
    if (file.length === file.size) return;
    failures = file.length > before ? 0 : failures + 1;
    if (failures >= attempts || connection >= MAX_CONNECTIONS) {
      throw new HubError(
        `${request.label}: the connection broke ${connection} times, the last time at byte ${file.length}; ` +
          "the next try goes on from there",
        { cause },
      );
    }
    await sleep(backoff * 2 ** failures, request.signal);
  }
}

/** One connection: asks for the rest of the file and appends what comes. */
async function receive(file: PartialFile, request: DownloadRequest): Promise<void> {
  const { limits, signal, authorization } = request;
  const headers = file.length > 0 ? { range: `bytes=${file.length}-` } : {};
  const answer = await send(request.url, { headers, authorization, signal, limits });
  const { status } = answer.response;
  if (status === 416) {
    answer.abort(new Error("range refused"));
    await file.restart();
    return;
  }
  if (status !== 200 && status !== 206) {
    throw request.onRefusal === undefined
      ? new HubError(`${request.label}: ${answer.url.origin} answered ${status}: ${await refusal(answer)}`, {
          status,
        })
      : await request.onRefusal(answer);
  }
  try {
    const { start, total } = extent(answer.response);
    if (start !== file.length) await file.restart();
    if (start !== file.length)
      throw new HubError(`${request.label}: the server sent another range than asked for`);
    if (total !== undefined) file.expect(total);
    for await (const chunk of bodyOf(answer, limits)) {
      await file.append(chunk);
      request.onProgress?.(file.length, file.size);
    }
  } finally {
    answer.abort(new Error("done"));
  }
}

/** First byte and whole length that an answer announces. */
function extent(response: Response): { start: number; total: number | undefined } {
  if (response.status === 206) {
    const match = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get("content-range") ?? "");
    if (match === null) return { start: -1, total: undefined };
    return { start: Number(match[1]), total: match[2] === "*" ? undefined : Number(match[2]) };
  }
  const encoded = response.headers.get("content-encoding") ?? "identity";
  const length = response.headers.get("content-length");
  return { start: 0, total: length === null || encoded !== "identity" ? undefined : Number(length) };
}
