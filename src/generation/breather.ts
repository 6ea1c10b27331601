/** Longest stretch of arithmetic on the event loop's thread, in ms: well under the 20 ms that an interface forgives. */
const STRETCH = 8;

/** Lets the event loop run between the parts of long work. */
export class Breather {
  #since: number = performance.now();

  /** Returns at once, or after a turn of the event loop when it has been kept waiting. */
  async pause(): Promise<void> {
    if (performance.now() - this.#since < STRETCH) return;
    await turn();
    this.#since = performance.now();
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === "function") setImmediate(resolve);
    else setTimeout(resolve, 0);
  });
}
