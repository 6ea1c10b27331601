import { expect, test } from "vitest";
import { RunQueue } from "./run-queue.ts";

/** A task that ends when told to, and notes when it began. */
function task(log: string[], name: string): { run: () => Promise<void>; end: () => void } {
  let end: () => void = () => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  return {
    end,
    run: async () => {
      log.push(name);
      await ended;
    },
  };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("starts at once when idle, else in order", async () => {
  const queue = new RunQueue();
  const log: string[] = [];
  const [a, b, c] = [task(log, "a"), task(log, "b"), task(log, "c")];
  const all = [queue.run(a.run), queue.run(b.run), queue.run(c.run)];
  expect(log).toEqual(["a"]);
  a.end();
  await turn();
  expect(log).toEqual(["a", "b"]);
  b.end();
  c.end();
  await Promise.all(all);
  expect(log).toEqual(["a", "b", "c"]);
});

test("a failing task lets the next one go", async () => {
  const queue = new RunQueue();
  const failing = queue.run(() => Promise.reject(new Error("no")));
  const next = queue.run(() => Promise.resolve());
  await expect(failing).rejects.toThrow("no");
  await next;
});

test("idle waits for those that run and those that wait", async () => {
  const queue = new RunQueue();
  await queue.idle();
  const log: string[] = [];
  const [a, b] = [task(log, "a"), task(log, "b")];
  void queue.run(a.run);
  void queue.run(b.run);
  const idle = queue.idle().then(() => log.push("idle"));
  a.end();
  await turn();
  expect(log).toEqual(["a", "b"]);
  b.end();
  await idle;
  expect(log).toEqual(["a", "b", "idle"]);
});

test("an aborted waiter leaves the line", async () => {
  const queue = new RunQueue();
  const log: string[] = [];
  const [a, b, c] = [task(log, "a"), task(log, "b"), task(log, "c")];
  const controller = new AbortController();
  const running = queue.run(a.run);
  const waiting = queue.run(b.run, controller.signal);
  const last = queue.run(c.run);
  controller.abort(new Error("enough"));
  await expect(waiting).rejects.toThrow("enough");
  a.end();
  c.end();
  await Promise.all([running, last]);
  expect(log).toEqual(["a", "c"]);
});
