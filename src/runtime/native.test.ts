import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, expect, test } from "vitest";
import { RuntimeError } from "../errors.ts";
import { findLibrary } from "./library.ts";
import { createNativeEngine } from "./native.ts";
import { loadOrtApi } from "./ort-api.ts";
import type { Session, SessionOptions } from "./session.ts";
import { bindSlow, fixture, floats, numbers, value, zeros } from "./testing/fixtures.ts";

const engine = createNativeEngine();
const sessions: Session[] = [];
setFlagsFromString("--expose-gc");
const collectGarbage: () => void = runInNewContext("gc");

async function open(model: string, options: Partial<SessionOptions> = {}): Promise<Session> {
  const session = await engine.createSession({ model: fixture(model), threads: 1, ...options });
  sessions.push(session);
  return session;
}

afterEach(async () => {
  await Promise.all(sessions.splice(0).map((session) => session.dispose()));
});

test("names the library's version", () => {
  expect(engine.name).toMatch(/^onnxruntime 1\.\d+\.\d+ \(native\)$/);
});

test("an abort stops a run within a moment, and the session stays usable", async () => {
  const session = await open("slow.onnx");
  const endless = bindSlow(session, 1e9, 64);
  for (let turn = 0; turn < 5; turn++) {
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error("stop it")), 20);
    const start = performance.now();
    await expect(endless.run({ signal: controller.signal })).rejects.toThrow("stop it");
    expect(performance.now() - start).toBeLessThan(1000);
  }
  const short = bindSlow(session, 2, 8);
  await short.run();
  await short.run({ signal: new AbortController().signal });
});

test("an abort right after the call stops the run as well", async () => {
  const session = await open("slow.onnx");
  const controller = new AbortController();
  const run = bindSlow(session, 1e9, 64).run({ signal: controller.signal });
  controller.abort();
  await expect(run).rejects.toMatchObject({ name: "AbortError" });
});

test("an abort gives up a run that waits for its turn, without touching the one that runs", async () => {
  const session = await open("slow.onnx");
  const first = new AbortController();
  const second = new AbortController();
  const running = bindSlow(session, 1e9, 64).run({ signal: first.signal });
  const waiting = bindSlow(session, 1, 8).run({ signal: second.signal });
  const last = bindSlow(session, 1, 8).run();
  second.abort(new Error("given up"));
  await expect(waiting).rejects.toThrow("given up");
  first.abort(new Error("stopped"));
  await expect(running).rejects.toThrow("stopped");
  await last;
});

test("listeners of a signal do not pile up", async () => {
  const session = await open("slow.onnx");
  const binding = bindSlow(session, 1, 8);
  const controller = new AbortController();
  const warnings: Error[] = [];
  process.on("warning", (warning) => warnings.push(warning));
  for (let turn = 0; turn < 50; turn++) await binding.run({ signal: controller.signal });
  await Promise.all(Array.from({ length: 9 }, () => binding.run({ signal: controller.signal })));
  controller.abort();
  await binding.run();
  expect(warnings).toEqual([]);
});

test("a load can be aborted while it runs", async () => {
  const controller = new AbortController();
  const load = open("attention.onnx", { signal: controller.signal });
  controller.abort(new Error("changed my mind"));
  await expect(load).rejects.toThrow("changed my mind");
});

test("the event loop stays free during a run", async () => {
  const session = await open("slow.onnx");
  const controller = new AbortController();
  let ticks = 0;
  const timer = setInterval(() => {
    if (++ticks === 20) controller.abort();
  }, 5);
  await expect(bindSlow(session, 1e9, 64).run({ signal: controller.signal })).rejects.toThrow();
  clearInterval(timer);
  // A few more may come until the run has wound down.
  expect(ticks).toBeGreaterThanOrEqual(20);
});

test("sessions of one process run at the same time", async () => {
  const [first, second] = [await open("slow.onnx"), await open("slow.onnx")];
  const controller = new AbortController();
  const endless = bindSlow(first, 1e9, 64).run({ signal: controller.signal });
  await bindSlow(second, 3, 8).run(); // would never end behind the first
  controller.abort();
  await expect(endless).rejects.toThrow();
});

test("memory of small arrays does not move when garbage is collected", async () => {
  const session = await open("elementwise.onnx");
  const bindings = Array.from({ length: 200 }, (_, index) => {
    const a = floats(session, [1, 4], [index, 1, 2, 3]);
    const y = zeros(session, "float32", [1, 4]);
    return { a, y, binding: session.bind({ a, b: a }, { y }) };
  });
  for (let turn = 0; turn < 3; turn++) {
    const garbage = Array.from({ length: 20_000 }, (_, index) => new Float32Array(index % 16));
    collectGarbage();
    for (const [index, { a, y, binding }] of bindings.entries()) {
      a.tensor.data[3] = garbage.length === 0 ? Number.NaN : turn;
      await binding.run();
      expect(numbers(y)).toEqual([index * index + 1, 2, 5, turn ** 2 + 1]);
    }
  }
});

test("a typed array lives as long as its value", async () => {
  const session = await open("elementwise.onnx");
  const big = session.bind(
    {
      a: floats(session, [1000, 4], Array(4000).fill(3)),
      b: floats(session, [1000, 4], Array(4000).fill(3)),
    },
    {},
  );
  big.dispose();
  const y = zeros(session, "float32", [1000, 4]);
  const binding = session.bind(
    {
      a: floats(session, [1000, 4], Array(4000).fill(3)),
      b: floats(session, [1000, 4], Array(4000).fill(5)),
    },
    { y },
  );
  for (let turn = 0; turn < 5; turn++) {
    collectGarbage();
    await new Promise((resolve) => setTimeout(resolve, 5));
    const noise = Array.from({ length: 100 }, () => new Float32Array(4000).fill(9));
    await binding.run();
    expect(
      numbers(y).every((number) => number === 16),
      `${noise.length} arrays`,
    ).toBe(true);
  }
});

test("passes bfloat16", async () => {
  const session = await open("identity-bfloat16.onnx");
  const y = zeros(session, "bfloat16", [3]);
  const x = value(session, "bfloat16", [3], Uint16Array.of(0x3f80, 0xff7f, 1));
  await session.bind({ bfloat16_in: x }, { bfloat16_out: y }).run();
  expect(y.tensor.data).toEqual(Uint16Array.of(0x3f80, 0xff7f, 1));
});

test("a failure carries ONNX Runtime's code and message", async () => {
  await expect(open("external.bin")).rejects.toMatchObject({
    name: "RuntimeError",
    code: expect.stringMatching(/^ORT_/),
    message: expect.stringContaining("CreateSessionFromArray"),
  });
});

test("an output of the wrong size is refused by the run", async () => {
  const session = await open("elementwise.onnx");
  const a = zeros(session, "float32", [2, 4]);
  const binding = session.bind({ a, b: a }, { y: zeros(session, "float32", [3, 4]) });
  await expect(binding.run()).rejects.toThrow(RuntimeError);
});

const cudaBeside = existsSync(join(dirname(findLibrary()), "libonnxruntime_providers_cuda.so"));
test.skipIf(cudaBeside)("says what cuda needs where it is not there", async () => {
  const error = await open("elementwise.onnx", { device: "cuda" }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(RuntimeError);
  expect(String(error)).toMatch(/device "cuda" needs .*providers_cuda.*beside/);
});

test("webgpu works or says what it needs", async () => {
  const error = await open("elementwise.onnx", { device: "webgpu" }).catch((reason: unknown) => reason);
  if (error instanceof Error) {
    expect(error).toBeInstanceOf(RuntimeError);
    expect(error.message).toContain('device "webgpu" needs a GPU');
  }
});

test("the library stays the one that was loaded first", () => {
  expect(() => loadOrtApi("/another/libonnxruntime.so")).toThrow("already loaded from");
});
