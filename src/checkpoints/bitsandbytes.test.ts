import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { CheckpointError } from "../errors.ts";
import type { Bnb4Weight } from "../graph/weights.ts";
import {
  BNB4_VALUES,
  dequantizeBnb4,
  dynamicMap,
  nestAbsmax,
  quantizeBnb4,
  unnestAbsmax,
} from "../quantization/nf4.ts";
import { readEncoded } from "./bitsandbytes.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { SafetensorsDtype } from "./dtypes.ts";
import { openCheckpoint } from "./open.ts";
import { loadWeights } from "./pack.ts";
import { openSafetensors } from "./safetensors.ts";
import { writeSafetensors } from "./write-safetensors.ts";

const [N, K, BLOCK] = [45, 60, 512];
const VALUES = Float32Array.from({ length: N * K }, (_, i) => Math.sin(i) * (1 + i / 700));
const CODES = new Uint8Array((N * K) / 2);
const ABSMAX = new Float32Array(Math.ceil((N * K) / BLOCK));
quantizeBnb4(VALUES, "nf4", BLOCK, CODES, ABSMAX);
const NESTED = nestAbsmax(ABSMAX);
/** What the codes stand for. */
const RESTORED = new Float32Array(N * K);
dequantizeBnb4(CODES, unnestAbsmax(NESTED), "nf4", BLOCK, RESTORED);

const STATE = { quant_type: "nf4", blocksize: BLOCK, shape: [N, K], nested_blocksize: 256, nested_offset: 0 };

interface Part {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly data: Uint8Array | Float32Array;
}

/** A doubly quantised matrix "w" in blocks of 512, its codes stored as bfloat16. */
function parts(state: object = {}): Record<string, Part> {
  const json = JSON.stringify({ ...STATE, nested_offset: NESTED.offset, ...state });
  const bytes = new Uint8Array(Buffer.from(json));
  return {
    w: { dtype: "BF16", shape: [CODES.length / 2, 1], data: CODES },
    "w.absmax": { dtype: "U8", shape: [NESTED.codes.length], data: NESTED.codes },
    "w.nested_absmax": { dtype: "F32", shape: [NESTED.absmax.length], data: NESTED.absmax },
    "w.nested_quant_map": { dtype: "F32", shape: [256], data: dynamicMap() },
    "w.quant_map": { dtype: "F32", shape: [16], data: BNB4_VALUES.nf4 },
    "w.quant_state.bitsandbytes__nf4": { dtype: "U8", shape: [bytes.length], data: bytes },
  };
}

describe("a matrix that bitsandbytes saved", () => {
  let folder: string;
  let file: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "lapidary-bnb-"));
    file = join(folder, "model.safetensors");
  });
  afterEach(() => rm(folder, { recursive: true }));

  async function open(tensors: Record<string, Part>): Promise<Checkpoint> {
    await writeSafetensors(
      file,
      Object.entries(tensors).map(([name, { dtype, shape, data }]) => ({
        name,
        dtype,
        shape,
        data: [new Uint8Array(data.buffer, data.byteOffset, data.byteLength)],
      })),
    );
    return openCheckpoint(file);
  }

  it("is read from any element on", async () => {
    const checkpoint = await open(parts());
    const slice = checkpoint.tensors.get("w")!;
    expect([...checkpoint.tensors.keys()]).toEqual(["w"]);
    expect(slice.shape).toEqual([N, K]);
    for (const [start, end] of [
      [0, N * K],
      [K, 2 * K],
      [777, 2001],
    ] as const) {
      const got = await readEncoded(checkpoint, slice, slice.encoding!, start, end);
      expect(got).toEqual(RESTORED.subarray(start, end));
    }
    await checkpoint.close();
  });

  it("is packed in blocks that the kernel takes, its codes unchanged", async () => {
    const checkpoint = await open(parts());
    const none = new Set<string>();
    const request = {
      parameters: new Map([["w", [N, K]]]),
      groups: [],
      tables: none,
      sensitive: none,
      plain: none,
      dtype: "auto" as const,
      tablesDtype: "auto" as const,
      byRow: none,
    };
    const { weights, pack, bytesByStorage } = await loadWeights(checkpoint, request, { folder });
    const weight = weights.get("w") as Bnb4Weight;
    expect(weight).toMatchObject({ kind: "bnb4", quant_type: "nf4", block_size: 256 });
    expect([...bytesByStorage.keys()]).toEqual(["nf4 (block 512, double quant)"]);
    const packed = await openSafetensors(pack!);
    const codes = new Uint8Array(await packed.read(packed.tensors.get("w#codes")!));
    const scales = new Uint8Array(await packed.read(packed.tensors.get("w#scales")!));
    const values = new Float32Array(N * K);
    dequantizeBnb4(codes, new Float32Array(scales.buffer), "nf4", 256, values);
    expect(codes).toEqual(CODES);
    expect(values).toEqual(RESTORED);
    await Promise.all([packed.close(), checkpoint.close()]);
  });

  it.each<[string, RegExp, () => Record<string, Part>]>([
    ["another shape", /1350 bytes of codes, but a shape of \[45, 61\]/, () => parts({ shape: [45, 61] })],
    ["a shape that is none", /shape is \[-45,60\]/, () => parts({ shape: [-45, 60] })],
    ["a block of 3", /blocksize is 3/, () => parts({ blocksize: 3 })],
    ["smaller blocks than scales", /w\.absmax: expected 43 elements, got 6/, () => parts({ blocksize: 64 })],
    ["another type", /its quant_type is "fp4"/, () => parts({ quant_type: "fp4" })],
    ["no offset", /nested_offset is null/, () => parts({ nested_offset: null })],
    [
      "other values",
      /not those of nf4/,
      () => ({ ...parts(), "w.quant_map": { dtype: "F32", shape: [16], data: BNB4_VALUES.fp4 } }),
    ],
    [
      "no scales",
      /w\.absmax: missing/,
      () => Object.fromEntries(Object.entries(parts()).filter(([name]) => name !== "w.absmax")),
    ],
  ])("is refused with %s", async (_, message, tensors) => {
    await expect(open(tensors())).rejects.toThrow(message);
    await expect(open(tensors())).rejects.toThrow(CheckpointError);
  });
});
