import { afterAll, expect, test } from "vitest";
import { compileRuntime } from "./testing/child.ts";

const runtime = compileRuntime();
afterAll(() => runtime.remove());

/** Makes `name` fail to load through require and import, as where no package was installed for this platform. */
const WITHOUT = (name: string): string => `
  import Module from "node:module";
  const resolve = Module._resolveFilename;
  Module._resolveFilename = function (request, ...rest) {
    if (request === "${name}" || request.startsWith("${name}/")) throw new Error("Cannot find module '${name}'");
    return resolve.call(this, request, ...rest);
  };
`;

/** Loads an engine and runs the elementwise model with it; prints what came out. */
const RUN = `
  const { loadEngine } = await load("engine.ts");
  const engine = await loadEngine();
  const session = await engine.createSession({ model: fixture("elementwise.onnx") });
  const a = session.createValue({ type: "float32", dims: [1, 4], data: Float32Array.of(1, 2, 3, 4) });
  const y = session.createValue({ type: "float32", dims: [1, 4], data: new Float32Array(4) });
  const binding = session.bind({ a, b: a }, { y });
  await binding.run();
  console.log(JSON.stringify({ name: engine.name, reason: engine.fallbackReason, y: [...y.tensor.data] }));
`;

test("takes the native engine, prints nothing of its own, and exits with a session still open", async () => {
  const { code, stdout, stderr } = await runtime.run(RUN);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(JSON.parse(stdout)).toEqual({ name: expect.stringMatching(/native/), y: [2, 5, 10, 17] });
});

test("falls back to onnxruntime-node's API without koffi, and says why", async () => {
  const { code, stdout, stderr } = await runtime.run(WITHOUT("koffi") + RUN);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(JSON.parse(stdout)).toEqual({
    name: "onnxruntime-node",
    reason: expect.stringMatching(/koffi.*cannot be loaded.*Cannot find module/),
    y: [2, 5, 10, 17],
  });
});

test("falls back where another package fixed koffi's stack too small", async () => {
  const first = `
    import koffi from "koffi";
    koffi.load(null);
  `;
  const { code, stdout } = await runtime.run(first + RUN);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    name: "onnxruntime-node",
    reason: expect.stringMatching(/another package used koffi first/),
  });
});

test("LAPIDARY_ENGINE forces an engine", async () => {
  const forced = await runtime.run(RUN, { env: { LAPIDARY_ENGINE: "node" } });
  expect(JSON.parse(forced.stdout)).toEqual({ name: "onnxruntime-node", y: [2, 5, 10, 17] });
  const missing = await runtime.run(WITHOUT("koffi") + RUN, { env: { LAPIDARY_ENGINE: "native" } });
  expect(missing.code).toBe(1);
  expect(missing.stderr).toMatch(/RuntimeError.*koffi/);
  const unknown = await runtime.run(RUN, { env: { LAPIDARY_ENGINE: "gpu" } });
  expect(unknown.stderr).toContain('expected native, node or auto, got "gpu"');
});

test("says when the package with the library, or the library itself, is missing", async () => {
  const native = { LAPIDARY_ENGINE: "native" };
  const absent = await runtime.run(WITHOUT("onnxruntime-node") + RUN, { env: native });
  expect(absent.stderr).toContain(
    "onnxruntime-node, which carries the ONNX Runtime library, is not installed",
  );
  const wrong = await runtime.run(RUN, { env: { ...native, LAPIDARY_ORT_LIBRARY: "package.json" } });
  expect(wrong.stderr).toMatch(/RuntimeError: ONNX Runtime's library package.json cannot be loaded/);
});

test("the process may end in the middle of a run", async () => {
  const { code, stderr } = await runtime.run(`${RUN}
    const slow = await engine.createSession({ model: fixture("slow.onnx") });
    const value = (type, dims, data) => slow.createValue({ type, dims, data });
    const x = value("float32", [64, 64], new Float32Array(64 * 64));
    const y2 = value("float32", [64, 64], new Float32Array(64 * 64));
    void slow.bind({ turns: value("int64", [], BigInt64Array.of(1n << 40n)), x }, { y: y2 }).run();
    setTimeout(() => process.exit(7), 50);
  `);
  expect({ code, stderr }).toEqual({ code: 7, stderr: "" });
});

test("works in worker threads, and these may end before the main thread", async () => {
  const { code, stdout, stderr } = await runtime.run(`
    import { isMainThread, Worker } from "node:worker_threads";
    const run = async () => { ${RUN.replace("console.log(", "(")} };
    await run();
    if (isMainThread) {
      for (let turn = 0; turn < 2; turn++) {
        const worker = new Worker(new URL(import.meta.url));
        await new Promise((resolve, reject) => worker.on("exit", resolve).on("error", reject));
      }
      await run();
      console.log("all ran");
    }
  `);
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "all ran\n", stderr: "" });
});

/** Loads, runs and unloads; `dispose` ends a session or leaves that to the garbage collector. */
const CYCLES = (dispose: boolean): string => `
  const { default: koffi } = await import("koffi");
  const { createNativeEngine } = await load("native.ts");
  const { memoryUsage } = await load("memory.ts");
  const engine = createNativeEngine();
  const model = fixture("attention.onnx");
  const zeros = (session, type, dims) => {
    const length = dims.reduce((product, dim) => product * dim, 1);
    return session.createValue({ type, dims, data: type === "int32" ? new Int32Array(length) : new Float32Array(length) });
  };
  async function cycle(number) {
    const session = await engine.createSession({ model, threads: 2 });
    const cache = [1, 2, 256, 16];
    const [key, value] = [zeros(session, "float32", cache), zeros(session, "float32", cache)];
    const inputs = {
      query: zeros(session, "float32", [1, 1, 64]), key: zeros(session, "float32", [1, 1, 32]),
      value: zeros(session, "float32", [1, 1, 32]), past_key: key, past_value: value,
      seqlens_k: zeros(session, "int32", [1]), total: zeros(session, "int32", []),
    };
    inputs.total.tensor.data[0] = 1;
    const outputs = { attended: zeros(session, "float32", [1, 1, 64]), present_key: key, present_value: value };
    const binding = session.bind(inputs, outputs);
    for (let turn = 0; turn < 3; turn++) await binding.run();
    ${dispose ? "await session.dispose();" : "if (number % 10 === 9) await collect();"}
  }
  // What the C library keeps for reuse is no leak.
  const trim = koffi.load(null).func("int malloc_trim(size_t)");
  const collect = async () => {
    gc();
    await new Promise((resolve) => setTimeout(resolve, 20));
  };
  const settled = async () => {
    for (let turn = 0; turn < 5; turn++) await collect();
    trim(0);
    return memoryUsage().resident / (1 << 20);
  };
  for (let turn = 0; turn < 50; turn++) await cycle(turn);
  const after50 = await settled();
  for (let turn = 0; turn < 150; turn++) await cycle(turn);
  const after200 = await settled();
  console.log(JSON.stringify({ after50, after200 }));
`;

/** Without what else grows for a while: V8's young generation, and malloc's areas for each thread. */
const LEAK_CHECK = {
  nodeArguments: ["--expose-gc", "--max-semi-space-size=1"],
  env: { MALLOC_ARENA_MAX: "1" },
};

const glibc = process.platform === "linux";
test.runIf(glibc).each([
  ["disposed", true],
  ["forgotten", false],
])("200 sessions that are %s leave no memory behind", async (_, dispose) => {
  const { stdout, stderr } = await runtime.run(CYCLES(dispose), LEAK_CHECK);
  expect(stderr).toBe("");
  const { after50, after200 } = JSON.parse(stdout) as { after50: number; after200: number };
  console.info(`${after50.toFixed(1)} MB after 50 sessions, ${after200.toFixed(1)} MB after 200`);
  expect(after200 - after50).toBeLessThan(5);
});
