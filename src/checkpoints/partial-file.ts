import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { HubError } from "../errors.ts";

/** A file's checksum: sha256 of its bytes, or the name that git gives a blob. */
export interface Digest {
  readonly algorithm: "sha256" | "git-sha1";
  readonly hex: string;
}

/** What a file under way has to become. */
export interface Expectation {
  partial: string;
  label: string;
  size?: number | undefined;
  maxSize?: number | undefined;
  digest?: Digest | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((loaded: number, total: number | undefined) => void) | undefined;
}

/** More bytes than there should be: nothing of them is worth keeping. */
export class OverlongError extends HubError {}

/** The growing file and the running checksum of what is in it. */
export class PartialFile {
  length = 0;
  size: number | undefined;
  private readonly handle: FileHandle;
  private readonly request: Expectation;
  private hash: Hash | undefined;

  static async open(request: Expectation): Promise<PartialFile> {
    const file = new PartialFile(await openForUpdate(request.partial), request);
    try {
      await file.readExisting();
    } catch (error) {
      await file.close();
      throw error;
    }
    return file;
  }

  private constructor(handle: FileHandle, request: Expectation) {
    this.handle = handle;
    this.request = request;
    this.size = request.size;
    this.hash = newHash(request);
  }

  async append(chunk: Uint8Array): Promise<void> {
    const limit = this.size ?? this.request.maxSize ?? Number.POSITIVE_INFINITY;
    if (this.length + chunk.length > limit) {
      throw new OverlongError(`${this.request.label}: more than the expected ${limit} bytes arrived`);
    }
    this.hash?.update(chunk);
    for (let done = 0; done < chunk.length; ) {
      const { bytesWritten } = await this.handle.write(chunk, done, chunk.length - done, this.length + done);
      done += bytesWritten;
    }
    this.length += chunk.length;
  }

  /** Takes note of the size that an answer announces. */
  expect(total: number): void {
    if (this.size !== undefined && this.size !== total) {
      throw new OverlongError(
        `${this.request.label}: the server offers ${total} bytes, expected ${this.size}`,
      );
    }
    const limit = this.request.maxSize ?? Number.POSITIVE_INFINITY;
    if (this.size === undefined && total > limit) {
      throw new OverlongError(`${this.request.label}: ${total} bytes are more than the allowed ${limit}`);
    }
    this.size = total;
  }

  async restart(): Promise<void> {
    await this.handle.truncate(0);
    this.length = 0;
    this.hash = newHash(this.request);
  }

  /** What is wrong with the whole file, if anything. */
  async check(): Promise<string | undefined> {
    const { digest, label } = this.request;
    if (digest === undefined) return undefined;
    if (this.hash === undefined) {
      // git's sum begins with the size, which is known only now.
      this.hash = newHash({ ...this.request, size: this.length });
      await this.readInto(this.hash, this.length);
    }
    const found = this.hash?.digest("hex");
    if (found === digest.hex) return undefined;
    return `${label}: wrong checksum (${digest.algorithm}): expected ${digest.hex}, got ${found}`;
  }

  async sync(): Promise<void> {
    await this.handle.sync();
  }

  async close(): Promise<void> {
    await this.handle.close();
  }

  private async readExisting(): Promise<void> {
    const { size } = await this.handle.stat();
    if (size === 0) return;
    if (this.size !== undefined && size > this.size) return await this.restart();
    await this.readInto(this.hash, size);
    this.length = size;
    this.request.onProgress?.(this.length, this.size);
  }

  private async readInto(hash: Hash | undefined, end: number): Promise<void> {
    const buffer = Buffer.allocUnsafe(2 ** 20);
    for (let position = 0; position < end; ) {
      this.request.signal?.throwIfAborted();
      const { bytesRead } = await this.handle.read(
        buffer,
        0,
        Math.min(buffer.length, end - position),
        position,
      );
      if (bytesRead === 0)
        throw new HubError(`${this.request.label}: the partial file shrank while it was read`);
      hash?.update(buffer.subarray(0, bytesRead));
      position += bytesRead;
    }
  }
}

async function openForUpdate(path: string): Promise<FileHandle> {
  try {
    return await open(path, "r+");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return await open(path, "wx+");
  }
}

function newHash(request: { digest?: Digest | undefined; size?: number | undefined }): Hash | undefined {
  const { digest, size } = request;
  if (digest?.algorithm === "sha256") return createHash("sha256");
  if (digest === undefined || size === undefined) return undefined;
  return createHash("sha1").update(`blob ${size}\0`);
}
