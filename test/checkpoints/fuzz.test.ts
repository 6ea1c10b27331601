import { Buffer } from "node:buffer";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Checkpoint } from "../../src/checkpoints/checkpoint.ts";
import { configFromGguf } from "../../src/checkpoints/gguf-config.ts";
import { openCheckpoint } from "../../src/checkpoints/open.ts";
import { PackedStrings } from "../../src/checkpoints/packed-strings.ts";
import { CheckpointError, ConfigError } from "../../src/errors.ts";
import { ggufBytes, safetensorsBytes, temporaryFolder, write } from "./files.ts";
import { chunked, flaxBytes } from "./flax-bytes.ts";
import { tinyGemma3 } from "./tiny-gemma3-gguf.ts";

/** Damages valid files: each must open or be refused with one of our errors, in little time and memory. */
const runs = Number(process.env.LAPIDARY_FUZZ_RUNS ?? 3000);
const seed = Number(process.env.LAPIDARY_FUZZ_SEED ?? 3);
const parameters = { numRuns: runs, seed };

const folder = temporaryFolder();

type Mutation = (bytes: Buffer) => Buffer;

/** A place in a file of any length. */
const place = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const at = (bytes: Buffer, where: number): number => Math.floor(where * bytes.length);

/** Numbers at which parsers break. */
const integer = fc.oneof(
  fc.constantFrom(0n, 1n, 2n, 31n, 255n, 256n, 65_536n, 2n ** 20n, 2n ** 31n - 1n, 2n ** 31n, 2n ** 32n - 1n),
  fc.constantFrom(
    2n ** 32n,
    2n ** 40n,
    2n ** 53n - 1n,
    2n ** 53n,
    2n ** 61n,
    2n ** 62n,
    2n ** 63n,
    2n ** 64n - 1n,
  ),
  fc.bigInt({ min: 0n, max: 4096n }),
);

function put(bytes: Buffer, offset: number, value: bigint, width: number): Buffer {
  const changed = Buffer.from(bytes);
  for (let i = 0; i < width && offset + i < changed.length; i++) {
    changed[offset + i] = Number((value >> BigInt(8 * i)) & 255n);
  }
  return changed;
}

const byteMutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.tuple(place, fc.nat(255)).map(
    ([where, value]): Mutation =>
      (b) =>
        put(b, at(b, where), BigInt(value), 1),
  ),
  fc.tuple(place, fc.nat(7)).map(
    ([where, bit]): Mutation =>
      (b) =>
        put(b, at(b, where), BigInt((b[at(b, where)] ?? 0) ^ (1 << bit)), 1),
  ),
  fc.tuple(place, integer, fc.constantFrom(4, 8)).map(
    ([where, value, width]): Mutation =>
      (b) =>
        put(b, at(b, where), value, width),
  ),
  place.map(
    (where): Mutation =>
      (b) =>
        b.subarray(0, at(b, where)),
  ),
  fc.tuple(place, fc.uint8Array({ minLength: 1, maxLength: 40 })).map(
    ([where, more]): Mutation =>
      (b) =>
        Buffer.concat([b.subarray(0, at(b, where)), more, b.subarray(at(b, where))]),
  ),
  fc.tuple(place, fc.integer({ min: 1, max: 64 })).map(
    ([where, length]): Mutation =>
      (b) =>
        Buffer.concat([b.subarray(0, at(b, where)), b.subarray(at(b, where) + length)]),
  ),
  fc.tuple(place, fc.integer({ min: 1, max: 64 }), place).map(
    ([from, length, to]): Mutation =>
      (b) =>
        Buffer.concat([
          b.subarray(0, at(b, to)),
          b.subarray(at(b, from), at(b, from) + length),
          b.subarray(at(b, to)),
        ]),
  ),
);

/** Any value where JSON has one; text so that numbers beyond 2^53 and duplicate keys survive. */
const jsonToken = fc.oneof(
  integer.map(String),
  fc.constantFrom("-1", "0.5", "1e400", "null", "true", '""', '"F16"', '"Q4_0"', "[]", "{}", "[[0]]"),
  fc.constantFrom('"__metadata__"', '"a"', '"dtype"', '"../x.safetensors"', '"model.safetensors.index.json"'),
);

const jsonParts = fc.constantFrom(/"[^"]*"|-?\d+/g, /\[[^[\]]*\]|\{[^{}]*\}/g);

/** Replaces one number, string, array or object of a JSON text, keeping a safetensors prefix right. */
const jsonMutation = fc.tuple(place, jsonParts, jsonToken).map(([where, part, token]): Mutation => {
  return (bytes) => {
    const start = bytes.indexOf("{");
    const hasPrefix = start === 8;
    const end = hasPrefix ? Math.min(bytes.length, 8 + Number(bytes.readUIntLE(0, 6))) : bytes.length;
    const json = bytes.toString("latin1", Math.max(start, 0), end);
    const tokens = [...json.matchAll(part)];
    const chosen = tokens[Math.floor(where * tokens.length)];
    if (chosen === undefined) return bytes;
    const changed = Buffer.from(
      json.slice(0, chosen.index) + token + json.slice(chosen.index + chosen[0].length),
      "latin1",
    );
    if (!hasPrefix) return changed;
    return Buffer.concat([put(Buffer.alloc(8), 0, BigInt(changed.length), 8), changed, bytes.subarray(end)]);
  };
});

/** Writes a number into a field near one of a GGUF header's names: its length, type, count, axes, offset. */
function ggufMutation(names: readonly string[]): fc.Arbitrary<Mutation> {
  const field = fc.tuple(fc.constantFrom(...names), fc.constantFrom(-8, 0, 4, 8, 12, 20, 24, 28), integer);
  const counts = fc.tuple(fc.constantFrom(4, 8, 16), integer);
  return fc.oneof(
    fc.tuple(field, fc.constantFrom(4, 8)).map(([[name, step, value], width]): Mutation => {
      return (bytes) => {
        const found = bytes.indexOf(name);
        const offset = step < 0 ? found + step : found + name.length + step;
        return found < 0 ? bytes : put(bytes, offset, value, width);
      };
    }),
    counts.map(
      ([offset, value]): Mutation =>
        (bytes) =>
          put(bytes, offset, value, offset === 4 ? 4 : 8),
    ),
  );
}

async function opensOrRefuses(path: string, fileSize: number): Promise<"opened" | "refused"> {
  const before = process.memoryUsage().arrayBuffers;
  const start = performance.now();
  try {
    const checkpoint = await openCheckpoint(path);
    try {
      await useAll(checkpoint);
    } finally {
      await checkpoint.close();
    }
    return "opened";
  } catch (error) {
    expect(error instanceof CheckpointError || error instanceof ConfigError, String(error)).toBe(true);
    // A failed allocation would be a RangeError that was wrapped on its way.
    expect((error as Error).cause).not.toBeInstanceOf(RangeError);
    expect((error as Error).message).toContain(error instanceof ConfigError ? "GGUF" : folder);
    return "refused";
  } finally {
    const allocated = process.memoryUsage().arrayBuffers - before;
    expect(allocated).toBeLessThan(20 * fileSize + 1_000_000);
    expect(performance.now() - start).toBeLessThan(10_000);
  }
}

/** What was opened can be used: every tensor lies in its file, every string decodes. */
async function useAll(checkpoint: Checkpoint): Promise<void> {
  for (const tensor of checkpoint.tensors.values()) {
    expect((await checkpoint.read(tensor)).length).toBe(tensor.length);
  }
  for (const value of checkpoint.metadata.values()) {
    if (value instanceof PackedStrings) expect(value.toArray()).toHaveLength(value.length);
  }
  if (checkpoint.format === "gguf") configFromGguf(checkpoint);
}

/** Runs the mutations, and makes sure that they do damage without being hopeless. */
async function fuzz(
  base: Buffer,
  mutation: fc.Arbitrary<Mutation>,
  path: string,
  open = path,
): Promise<void> {
  const results = { opened: 0, refused: 0 };
  const property = fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 3 }), async (mutations) => {
    const bytes = mutations.reduce((result, mutate) => mutate(result), base);
    write(path, bytes);
    results[await opensOrRefuses(open, bytes.length + base.length)]++;
  });
  await fc.assert(property, parameters);
  expect(results.refused).toBeGreaterThan(runs / 4);
  expect(results.opened).toBeGreaterThan(runs / 200);
}

const u8 = (begin: number, end: number) => ({
  dtype: "U8",
  shape: [end - begin],
  data_offsets: [begin, end],
});

describe("damaged checkpoints", () => {
  it("safetensors", async () => {
    const header = {
      __metadata__: { format: "pt" },
      a: { dtype: "F32", shape: [2, 3], data_offsets: [0, 24] },
      b: { dtype: "BF16", shape: [4], data_offsets: [24, 32] },
      none: { dtype: "I64", shape: [0], data_offsets: [32, 32] },
      c: u8(32, 40),
    };
    const base = safetensorsBytes(header, Buffer.alloc(40, 7));
    await fuzz(base, fc.oneof(byteMutation, jsonMutation), join(folder, "a.safetensors"));
  });

  it("sharded safetensors", async () => {
    const shards = join(folder, "shards");
    mkdirSync(shards);
    const open = join(shards, "model.safetensors.index.json");
    const files: Record<string, Buffer> = {
      "1.safetensors": safetensorsBytes({ a: u8(0, 4), b: u8(4, 8) }, Buffer.alloc(8)),
      "2.safetensors": safetensorsBytes({ c: u8(0, 4) }, Buffer.alloc(4)),
      "model.safetensors.index.json": Buffer.from(
        JSON.stringify({ weight_map: { a: "1.safetensors", b: "1.safetensors", c: "2.safetensors" } }),
      ),
    };
    for (const [name, bytes] of Object.entries(files)) write(join(shards, name), bytes);
    const change = fc.tuple(fc.constantFrom(...Object.keys(files)), fc.oneof(byteMutation, jsonMutation));
    const property = fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
      const damaged: Record<string, Buffer> = {};
      for (const [name, mutate] of changes) damaged[name] = mutate(damaged[name] ?? files[name]!);
      for (const [name, bytes] of Object.entries(damaged)) write(join(shards, name), bytes);
      await opensOrRefuses(open, 1000);
      for (const name of Object.keys(damaged)) write(join(shards, name), files[name]!);
    });
    await fc.assert(property, parameters);
  });

  it("GGUF", async () => {
    const content = tinyGemma3({
      "general.alignment": { u32: 32 },
      nested: { array: [{ array: [{ u8: 1 }] }, { array: [{ string: "x" }] }] },
      bools: { array: [{ bool: 1 }, { bool: 0 }] },
      wide: { array: [{ u64: 1n }] },
    });
    const names = [
      ...content.metadata!.map(([key]) => key),
      ...content.tensors!.map((tensor) => tensor.name),
    ];
    const mutation = fc.oneof(byteMutation, ggufMutation(names));
    await fuzz(ggufBytes(content), mutation, join(folder, "a.gguf"));
  });

  it("Flax", async () => {
    const data = (length: number) => new Uint8Array(length).fill(7);
    const kernel = { dtype: "bfloat16", shape: [4, 6], data: data(48) };
    const base = flaxBytes({
      map: {
        embed_tokens: { map: { embedding: chunked("float32", [5, 4], data(80), 7) } },
        layers: { map: { "0": { map: { q_proj: { map: { kernel } } } } } },
        norm: { map: { weight: { dtype: "float32", shape: [4], data: data(16) } } },
        step: { raw: Buffer.of(0xcd, 1, 0) },
      },
    });
    // Types, lengths and counts are single bytes in the larger part of the file.
    const type = fc.tuple(place, fc.integer({ min: 0x80, max: 0xff })).map(
      ([where, value]): Mutation =>
        (b) =>
          put(b, at(b, where), BigInt(value), 1),
    );
    await fuzz(base, fc.oneof(byteMutation, type), join(folder, "a.msgpack"));
  });

  it("a GGUF header's fields, each with every number at which parsers break", async () => {
    const bytes = ggufBytes(tinyGemma3());
    const headerEnd = bytes.indexOf("blk.1.attn_q.weight") + 64;
    const path = join(folder, "b.gguf");
    const values = [0xffn, 0x7fff_ffffn, 0xffff_ffffn, 2n ** 40n, 2n ** 63n];
    for (const value of values) {
      for (let offset = 4; offset < headerEnd; offset += 5) {
        const width = value < 2n ** 32n && offset % 2 === 0 ? 4 : 8;
        await opensOrRefuses(write(path, put(bytes, offset, value, width)), bytes.length);
      }
    }
  });

  it("a GGUF file's configuration, each number as every other", async () => {
    const path = join(folder, "c.gguf");
    const values = [
      { u32: 0 },
      { u32: 1 },
      { u32: 2 ** 32 - 1 },
      { i32: -1 },
      { u64: 2n ** 63n },
      { f32: 0.5 },
    ];
    const others = [{ f32: Number.NaN }, { f64: 1e300 }, { string: "" }, { bool: 1 }, { array: [], of: 8 }];
    for (const [key] of tinyGemma3().metadata!) {
      for (const value of [...values, ...others]) {
        const bytes = ggufBytes(tinyGemma3({ [key]: value }));
        await opensOrRefuses(write(path, bytes), bytes.length);
      }
    }
  });
});
