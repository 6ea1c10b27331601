import { describe, expect, it } from "vitest";
import { stringifyWithFloats } from "./json-floats.ts";

describe("stringifyWithFloats", () => {
  const original = `{"cap": 30.0, "clip": 1e10, "eps": 1e-06, "size": 8, "list": [0.95, 0.0], "text": "a \\"1.0\\" b", "deep": {"one": 1.0}}`;

  it("keeps the spelling of floats, in strings nothing", () => {
    const text = stringifyWithFloats(original, JSON.parse(original));
    expect(JSON.parse(text)).toEqual(JSON.parse(original));
    expect(text.replaceAll(/\s+/g, " ")).toBe(
      `{ "cap": 30.0, "clip": 1e10, "eps": 1e-06, "size": 8, "list": [ 0.95, 0.0 ], "text": "a \\"1.0\\" b", "deep": { "one": 1.0 } }`,
    );
  });

  it("writes what changed, floats where it is told to", () => {
    const changed = { cap: 20, size: 4, list: [0, 0.95, 1], added: 2 };
    expect(stringifyWithFloats(original, changed, ["list"]).replaceAll(/\s+/g, " ")).toBe(
      `{ "cap": 20, "size": 4, "list": [ 0.0, 0.95, 1.0 ], "added": 2 }`,
    );
  });
});
