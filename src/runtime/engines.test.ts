import { afterEach, describe, expect, test } from "vitest";
import { InputError, RuntimeError } from "../errors.ts";
import { createNativeEngine } from "./native.ts";
import { createNodeBindingEngine } from "./node-binding.ts";
import type { ElementType, RuntimeValue, Session, SessionOptions, TypedArray } from "./session.ts";
import { bindSlow, FIXTURES, fixture, floats, numbers, value, zeros } from "./testing/fixtures.ts";

const ENGINES = { native: createNativeEngine(), node: createNodeBindingEngine() };

describe.each(["native", "node"] as const)("%s engine", (engineName) => {
  const sessions: Session[] = [];

  async function open(model: string, options: Partial<SessionOptions> = {}): Promise<Session> {
    const session = await ENGINES[engineName].createSession({
      model: fixture(model),
      threads: 1,
      ...options,
    });
    sessions.push(session);
    return session;
  }

  afterEach(async () => {
    await Promise.all(sessions.splice(0).map((session) => session.dispose()));
  });

  test("tells the graph's inputs and outputs", async () => {
    const session = await open("elementwise.onnx");
    expect(session.inputs).toEqual([
      { name: "a", type: "float32", dims: ["rows", 4] },
      { name: "b", type: "float32", dims: ["rows", 4] },
    ]);
    expect(session.outputNames).toEqual(["y"]);
  });

  test("runs with any size of a dynamic dimension, zero included", async () => {
    const session = await open("elementwise.onnx");
    for (const rows of [2, 0, 1, 100]) {
      const a = floats(session, [rows, 4], Array(rows * 4).keys());
      const y = zeros(session, "float32", [rows, 4]);
      await session.bind({ a, b: a }, { y }).run();
      expect(numbers(y)).toEqual(numbers(a).map((x) => x * x + 1));
    }
  });

  test("sees what the caller writes between runs", async () => {
    const session = await open("elementwise.onnx");
    const a = floats(session, [1, 4], [1, 2, 3, 4]);
    const y = zeros(session, "float32", [1, 4]);
    const binding = session.bind({ a, b: a }, { y });
    await binding.run();
    (a.tensor.data as Float32Array).set([5, 6, 7, 8]);
    await binding.run();
    expect(numbers(y)).toEqual([26, 37, 50, 65]);
  });

  test("reads and writes parts of a larger buffer", async () => {
    const session = await open("elementwise.onnx");
    const batch = Float32Array.from(Array(12).keys());
    const result = new Float32Array(12);
    const a = value(session, "float32", [1, 4], batch.subarray(4, 8));
    const y = value(session, "float32", [1, 4], result.subarray(8));
    await session.bind({ a, b: a }, { y }).run();
    expect([...result]).toEqual([...Array(8).fill(0), 17, 26, 37, 50]);
  });

  test("passes every element type unchanged", async () => {
    const session = await open("identity.onnx");
    const samples: Partial<Record<ElementType, TypedArray>> = {
      float32: Float32Array.of(0.1, -1e30, Number.NaN),
      float16: Uint16Array.of(0x3c00, 0xfbff, 1),
      float64: Float64Array.of(0.1, -1e300, Number.POSITIVE_INFINITY),
      int64: BigInt64Array.of(-(2n ** 63n), 0n, 2n ** 63n - 1n),
      uint64: BigUint64Array.of(0n, 1n, 2n ** 64n - 1n),
      int32: Int32Array.of(-(2 ** 31), 0, 2 ** 31 - 1),
      uint32: Uint32Array.of(0, 1, 2 ** 32 - 1),
      int16: Int16Array.of(-32768, 0, 32767),
      uint16: Uint16Array.of(0, 1, 65535),
      int8: Int8Array.of(-128, 0, 127),
      uint8: Uint8Array.of(0, 1, 255),
      bool: Uint8Array.of(0, 1, 1),
    };
    const inputs: Record<string, RuntimeValue> = {};
    const outputs: Record<string, RuntimeValue> = {};
    for (const [type, data] of Object.entries(samples)) {
      inputs[`${type}_in`] = value(session, type as ElementType, [3], data);
      outputs[`${type}_out`] = zeros(session, type as ElementType, [3]);
    }
    await session.bind(inputs, outputs).run();
    for (const [type, data] of Object.entries(samples)) {
      expect(outputs[`${type}_out`]?.tensor.data, type).toEqual(data);
    }
  });

  test("computes only the outputs that are bound", async () => {
    const session = await open("many.onnx");
    const x = floats(session, [4], [1, 2, 3, 4]);
    const y = zeros(session, "float32", [4]);
    const inputs = Object.fromEntries(session.inputNames.map((name) => [name, x]));
    await session.bind(inputs, { output_36: y }).run();
    expect(numbers(y)).toEqual([1, 2, 3, 4]);
  });

  test("reads weights from a file beside the model, by offset", async () => {
    const session = await open("external.onnx", { externalDataFolder: FIXTURES });
    const y = zeros(session, "float32", [2, 3]);
    await session.bind({ x: floats(session, [2, 4], [1, 0, 0, 0, 0, 0, 0, 1]) }, { y }).run();
    expect(numbers(y)).toEqual([0, 1, 2, 9, 10, 11]);
  });

  test("attention writes its cache in place, equal to separate buffers, step by step", async () => {
    const session = await open("attention.onnx");
    const inPlace = attention(session, true);
    const separate = attention(session, false);
    for (const [past, length] of [
      [0, 3],
      [3, 1],
      [4, 1],
      [5, 2],
      [7, 1],
    ] as const) {
      const token = Float32Array.from({ length: length * 128 }, () => Math.random() - 0.5);
      expect(await inPlace(token, past, length)).toEqual(await separate(token, past, length));
    }
  });

  test("runs of one session take turns", async () => {
    const session = await open("slow.onnx");
    const order: number[] = [];
    const runs = [200, 1, 1].map(async (turns, index) => {
      await bindSlow(session, turns, 64).run();
      order.push(index);
    });
    await Promise.all(runs);
    expect(order).toEqual([0, 1, 2]);
  });

  test("sessions work side by side", async () => {
    const opened = await Promise.all(Array.from({ length: 6 }, () => open("elementwise.onnx")));
    await Promise.all(
      opened.map(async (session, index) => {
        const a = floats(session, [1, 4], Array(4).fill(index));
        const y = zeros(session, "float32", [1, 4]);
        const binding = session.bind({ a, b: a }, { y });
        for (let turn = 0; turn < 50; turn++) await binding.run();
        expect(numbers(y)).toEqual(Array(4).fill(index * index + 1));
      }),
    );
  });

  test("refuses names, types and shapes that the graph does not have", async () => {
    const session = await open("elementwise.onnx");
    const ok = zeros(session, "float32", [2, 4]);
    const bind = (inputs: Record<string, RuntimeValue>, outputs: Record<string, RuntimeValue>) => () =>
      session.bind(inputs, outputs);
    expect(bind({ a: ok }, { y: ok })).toThrow("bind: missing inputs: b float32[rows, 4]");
    expect(bind({ a: ok, b: ok, bb: ok }, { y: ok })).toThrow('no input "bb"; did you mean "b"?');
    expect(bind({ a: ok, b: ok }, { z: ok })).toThrow('no output "z"');
    expect(bind({ a: ok, b: zeros(session, "float64", [2, 4]) }, { y: ok })).toThrow(
      'bind: input "b": expected float32[rows, 4], got float64[2, 4]',
    );
    expect(bind({ a: ok, b: zeros(session, "float32", [8]) }, { y: ok })).toThrow(InputError);
    expect(bind({ a: ok, b: ok }, { y: zeros(session, "float32", [2, 5]) })).toThrow(
      'bind: output "y": expected float32[rows, 4], got float32[2, 5]',
    );
  });

  test("refuses tensors whose data does not suit them", async () => {
    const session = await open("elementwise.onnx");
    const create = (type: string, dims: number[], data: TypedArray) => () =>
      value(session, type as ElementType, dims, data);
    expect(create("float32", [2, 4], new Float32Array(7))).toThrow(
      "float32[2, 4]: expected 8 elements of data, got 7",
    );
    expect(create("int64", [1], new Int32Array(1))).toThrow("expected data as BigInt64Array, got Int32Array");
    expect(create("float32", [-1], new Float32Array(1))).toThrow(InputError);
    expect(create("string", [1], new Float32Array(1))).toThrow('tensor type "string"');
  });

  test("an error of a run is typed, and the session stays usable", async () => {
    const session = await open("elementwise.onnx");
    const a = floats(session, [2, 4], Array(8).fill(2));
    const three = floats(session, [3, 4], Array(12).fill(2));
    const y = zeros(session, "float32", [2, 4]);
    await expect(session.bind({ a, b: three }, { y }).run()).rejects.toThrow(RuntimeError);
    await session.bind({ a, b: a }, { y }).run();
    expect(numbers(y)).toEqual(Array(8).fill(5));
  });

  test("errors of loading are typed", async () => {
    await expect(open("external.onnx")).rejects.toThrow(RuntimeError);
    await expect(open("external.onnx", { externalDataFolder: "/nowhere" })).rejects.toThrow(RuntimeError);
    await expect(open("external.bin")).rejects.toThrow(RuntimeError);
    await expect(open("slow.onnx", { model: new Uint8Array(0) })).rejects.toThrow(InputError);
    await expect(open("slow.onnx", { threads: 0.5 })).rejects.toThrow("threads");
    await expect(open("slow.onnx", { device: "tpu" as "cpu" })).rejects.toThrow(
      "device: expected one of cpu",
    );
    await expect(open("slow.onnx", { config: { "session.nope": "1" } })).resolves.toBeDefined();
  });

  test("an aborted signal stops a run and a load before they begin", async () => {
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(open("slow.onnx", { signal })).rejects.toThrow("enough");
    const session = await open("slow.onnx");
    await expect(bindSlow(session, 1, 8).run({ signal })).rejects.toThrow("enough");
  });

  test("dispose waits for the run, can be repeated, and ends all use", async () => {
    const session = await open("slow.onnx");
    const binding = bindSlow(session, 300, 64);
    let finished = false;
    const run = binding.run().then(() => {
      finished = true;
    });
    const disposed = session.dispose();
    expect(() => zeros(session, "float32", [1])).toThrow(RuntimeError);
    await disposed;
    await run;
    expect(finished).toBe(true);
    await session.dispose();
    await expect(binding.run()).rejects.toThrow("the session was disposed");
    expect(() => session.bind({}, {})).toThrow("the session was disposed");
    binding.dispose();
  });

  test("values and bindings end on their own", async () => {
    const session = await open("elementwise.onnx");
    const a = floats(session, [1, 4], [1, 2, 3, 4]);
    const y = zeros(session, "float32", [1, 4]);
    const binding = session.bind({ a, b: a }, { y });
    a.dispose();
    a.dispose();
    await binding.run(); // still holds the value
    expect(numbers(y)).toEqual([2, 5, 10, 17]);
    expect(() => session.bind({ a, b: a }, { y })).toThrow('the value for "a" was disposed');
    binding.dispose();
    binding.dispose();
    await expect(binding.run()).rejects.toThrow("the binding was disposed");
  });

  test("a value may serve several sessions, and outlives the one that made it while bound", async () => {
    const [first, second] = [await open("elementwise.onnx"), await open("elementwise.onnx")];
    const a = floats(first, [1, 4], [1, 2, 3, 4]);
    const y = zeros(second, "float32", [1, 4]);
    const binding = second.bind({ a, b: a }, { y });
    await first.dispose();
    await binding.run();
    expect(numbers(y)).toEqual([2, 5, 10, 17]);
    expect(() => second.bind({ a, b: a }, { y })).toThrow("was disposed");
  });
});

test("values of one engine are refused by the other", async () => {
  const options = { model: fixture("elementwise.onnx"), threads: 1 };
  const native = await ENGINES.native.createSession(options);
  const node = await ENGINES.node.createSession(options);
  const a = zeros(native, "float32", [1, 4]);
  const b = zeros(node, "float32", [1, 4]);
  expect(() => native.bind({ a: b, b }, {})).toThrow("made by another engine");
  expect(() => node.bind({ a, b: a }, {})).toThrow("made by another engine");
  await Promise.all([native.dispose(), node.dispose()]);
});

/** One attention layer with a cache of 16 positions; returns a function that feeds `length` tokens. */
function attention(
  session: Session,
  inPlace: boolean,
): (tokens: Float32Array, past: number, length: number) => Promise<number[]> {
  const cache = [2, 16, 16];
  let [key, val] = [zeros(session, "float32", [1, ...cache]), zeros(session, "float32", [1, ...cache])];
  return async (tokens, past, length) => {
    const presentKey = inPlace ? key : zeros(session, "float32", [1, ...cache]);
    const presentValue = inPlace ? val : zeros(session, "float32", [1, ...cache]);
    const attended = zeros(session, "float32", [1, length, 64]);
    const binding = session.bind(
      {
        query: floats(session, [1, length, 64], tokens.subarray(0, length * 64)),
        key: floats(session, [1, length, 32], tokens.subarray(length * 64, length * 96)),
        value: floats(session, [1, length, 32], tokens.subarray(length * 96)),
        past_key: key,
        past_value: val,
        seqlens_k: value(session, "int32", [1], Int32Array.of(past + length - 1)),
        total: value(session, "int32", [], Int32Array.of(past + length)),
      },
      { attended, present_key: presentKey, present_value: presentValue },
    );
    await binding.run();
    [key, val] = [presentKey, presentValue];
    const filled = key.tensor.data.subarray(0, (past + length) * 16);
    return [...numbers(attended), ...Array.from(filled, Number)];
  };
}
