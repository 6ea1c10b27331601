/** One call at a time, in order of arrival. */

interface Waiter {
  start(): void;
}

/** Serialises asynchronous calls. A call that waits can be given up through its signal. */
export class RunQueue {
  #busy = false;
  readonly #waiters: Waiter[] = [];
  readonly #idle: (() => void)[] = [];

  /** Runs `task` when its turn has come. Rejects with the signal's reason when aborted before. */
  async run(task: () => Promise<void>, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#busy) await this.#turn(signal);
    this.#busy = true;
    try {
      await task();
    } finally {
      this.#next();
    }
  }

  /** Resolves when no call runs and none waits. */
  async idle(): Promise<void> {
    while (this.#busy) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        this.#waiters.splice(this.#waiters.indexOf(waiter), 1);
        reject(signal?.reason);
      };
      const waiter: Waiter = {
        start: () => {
          signal?.removeEventListener("abort", giveUp);
          resolve();
        },
      };
      this.#waiters.push(waiter);
      signal?.addEventListener("abort", giveUp, { once: true });
    });
  }

  /** Hands the turn on without letting go of it, so that nobody slips in between. */
  #next(): void {
    const waiter = this.#waiters.shift();
    if (waiter !== undefined) {
      waiter.start();
      return;
    }
    this.#busy = false;
    for (const resolve of this.#idle.splice(0)) resolve();
  }
}
