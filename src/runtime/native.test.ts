import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { createNativeEngine } from "./native.ts";

test("runs", async () => {
  const engine = createNativeEngine();
  const session = await engine.createSession({ model: readFileSync("test/fixtures/onnx/elementwise.onnx") });
  console.log(engine.name, session.inputs, session.outputs);
  const a = session.createValue({
    type: "float32",
    dims: [2, 4],
    data: Float32Array.from([1, 2, 3, 4, 5, 6, 7, 8]),
  });
  const y = session.createValue({ type: "float32", dims: [2, 4], data: new Float32Array(8) });
  const binding = session.bind({ a, b: a }, { y });
  await binding.run();
  expect([...y.tensor.data]).toEqual([2, 5, 10, 17, 26, 37, 50, 65]);
  await session.dispose();
});
