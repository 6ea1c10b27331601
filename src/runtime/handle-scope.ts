/** Native handles with one owner. */
import type { OrtApi, Pointer } from "./ort-api.ts";
import type { FunctionName } from "./ort-functions.ts";

interface Handle {
  readonly releaseFunction: FunctionName;
  holds: number;
  ended: boolean;
}

/** Remembers how to release each handle, and keeps those that somebody else still holds. */
export class HandleScope {
  readonly #api: OrtApi;
  readonly #handles = new Map<Pointer, Handle>();

  constructor(api: OrtApi) {
    this.#api = api;
  }

  /** Takes ownership of a handle, and returns it. */
  add(pointer: Pointer, releaseFunction: FunctionName): Pointer {
    this.#handles.set(pointer, { releaseFunction, holds: 0, ended: false });
    return pointer;
  }

  /** Keeps the handle alive until as many calls of `drop`. */
  hold(pointer: Pointer): void {
    const handle = this.#handles.get(pointer);
    if (handle !== undefined) handle.holds++;
  }

  /** Takes back one `hold`. */
  drop(pointer: Pointer): void {
    const handle = this.#handles.get(pointer);
    if (handle === undefined) return;
    handle.holds--;
    if (handle.ended) this.release(pointer);
  }

  /** Releases the handle, now or when nobody holds it any more. */
  release(pointer: Pointer): void {
    const handle = this.#handles.get(pointer);
    if (handle === undefined) return;
    handle.ended = true;
    if (handle.holds === 0) this.#free(pointer, handle);
  }

  /** Releases every handle, the newest first. */
  releaseAll(): void {
    for (const pointer of [...this.#handles.keys()].reverse()) this.release(pointer);
  }

  /** As `releaseAll`, without regard for holders: for when all of them have been collected. */
  abandon(): void {
    for (const [pointer, handle] of [...this.#handles].reverse()) this.#free(pointer, handle);
  }

  #free(pointer: Pointer, handle: Handle): void {
    this.#handles.delete(pointer);
    this.#api.release(handle.releaseFunction, pointer);
  }
}
