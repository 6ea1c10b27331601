/**
 * What MobileNet-V5's blocks are made of, in timm's two spellings: strings such as `uir_r1_a3_k5_s2_e6_c256`, or the
 * objects that timm decodes them to, which is how config.json's `model_args.block_args` holds them.
 */
import { ConfigReader, type JsonObject } from "../../config-reader.ts";

interface CommonBlock {
  readonly out_chs: number;
  readonly stride: 1 | 2;
  readonly noskip: boolean;
}

/** A full convolution that widens, and a 1x1 convolution back. */
export interface EdgeResidualBlock extends CommonBlock {
  readonly block_type: "er";
  readonly exp_kernel_size: number;
  readonly pw_kernel_size: number;
  readonly exp_ratio: number;
  /** The width that `exp_ratio` multiplies, in place of the input's; 0 for the input's. */
  readonly force_in_chs: number;
  /** Channels a group; 0 is one group of all. */
  readonly group_size: number;
}

/** 1x1 convolutions there and back with depthwise ones before, between and after; a kernel of 0 leaves one out. */
export interface UniversalInvertedBlock extends CommonBlock {
  readonly block_type: "uir";
  readonly dw_kernel_size_start: number;
  readonly dw_kernel_size_mid: number;
  readonly dw_kernel_size_end: number;
  readonly exp_ratio: number;
  readonly group_size: number;
}

/** Attention of all pixels over all pixels, or over a grid `kv_stride` times as coarse. */
export interface MobileAttentionBlock extends CommonBlock {
  readonly block_type: "mqa";
  readonly dw_kernel_size: number;
  readonly num_heads: number;
  readonly key_dim: number;
  readonly value_dim: number;
  readonly kv_stride: number;
}

export type BlockArgs = EdgeResidualBlock | UniversalInvertedBlock | MobileAttentionBlock;

/** Options of each kind's strings, as names of the object; `c`, `s`, `r` and `noskip` are everybody's. */
const STRING_OPTIONS: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  er: {
    k: ["exp_kernel_size"],
    p: ["pw_kernel_size"],
    e: ["exp_ratio"],
    fc: ["force_in_chs"],
    gs: ["group_size"],
  },
  uir: {
    a: ["dw_kernel_size_start"],
    k: ["dw_kernel_size_mid"],
    p: ["dw_kernel_size_end"],
    e: ["exp_ratio"],
    gs: ["group_size"],
  },
  mqa: { k: ["dw_kernel_size"], h: ["num_heads"], d: ["key_dim", "value_dim"], v: ["kv_stride"] },
};

/** The blocks of `text`, as many as its `r` says, as objects. Throws a ConfigError for what is no block string. */
export function blocksOfString(text: string, key: string): JsonObject[] {
  const [block_type, ...parts] = text.split("_") as [string, ...string[]];
  const fail = (message: string): never => new ConfigReader({}).fail(key, `"${text}": ${message}`);
  const names = Object.hasOwn(STRING_OPTIONS, block_type) ? STRING_OPTIONS[block_type] : undefined;
  if (names === undefined) return fail(`there are blocks ${Object.keys(STRING_OPTIONS).join(", ")} only`);
  const common = { c: ["out_chs"], s: ["stride"], r: ["repeat"] };
  const block: Record<string, unknown> = { block_type };
  for (const part of parts) {
    if (part === "noskip") block.noskip = true;
    if (part === "noskip" || part === "skip") continue;
    const [, letter = "", number] = /^([a-z]+)(\d+(?:\.\d+)?)$/.exec(part) ?? [];
    const fields = { ...common, ...names }[letter] ?? fail(`"${part}" is no option of ${block_type}`);
    for (const field of fields) block[field] = Number(number);
  }
  const { repeat, ...args } = block;
  if (typeof repeat !== "number" || repeat < 1 || repeat > MAX_BLOCKS) return fail("expected r1 or more");
  return new Array<JsonObject>(repeat).fill(args);
}

/** More blocks than this in a stage are a mistake; the released tower has 39. */
export const MAX_BLOCKS = 1000;

/** One block from its object form. */
export function readBlock(value: unknown, key: string): BlockArgs {
  const read = new ConfigReader(value, key);
  const block = readKind(read);
  // timm writes these down for every block, switched off.
  for (const name of ["se_ratio", "act_layer"])
    if (![undefined, 0].includes(read.raw(name) as undefined)) read.fail(name, "is not supported");
  const [unknown] = read.unknownKeys();
  if (unknown !== undefined) read.fail(unknown, "is not supported");
  return block;
}

function readKind(read: ConfigReader): BlockArgs {
  const block_type = read.string("block_type");
  const stride = read.positiveInt("stride");
  if (stride !== 1 && stride !== 2) read.fail("stride", `expected 1 or 2, got ${stride}`);
  const common = {
    out_chs: read.positiveInt("out_chs"),
    stride,
    noskip: read.boolean("noskip", false),
  } as const;
  switch (block_type) {
    case "er":
      return {
        ...common,
        block_type,
        exp_kernel_size: read.positiveInt("exp_kernel_size", 3),
        pw_kernel_size: read.positiveInt("pw_kernel_size", 1),
        exp_ratio: read.positiveNumber("exp_ratio", 1),
        force_in_chs: countOf(read, "force_in_chs", 0),
        group_size: countOf(read, "group_size", 0),
      };
    case "uir":
      return readUniversal(read, { ...common, block_type });
    case "mqa":
      return {
        ...common,
        block_type,
        dw_kernel_size: read.positiveInt("dw_kernel_size", 3),
        num_heads: read.positiveInt("num_heads", 8),
        key_dim: read.positiveInt("key_dim", 64),
        value_dim: read.positiveInt("value_dim", 64),
        kv_stride: read.positiveInt("kv_stride", 1),
      };
    default:
      return read.fail("block_type", `"${block_type}" is not supported; there are er, uir and mqa`);
  }
}

function readUniversal(
  read: ConfigReader,
  common: CommonBlock & Pick<UniversalInvertedBlock, "block_type">,
): UniversalInvertedBlock {
  const block = {
    ...common,
    dw_kernel_size_start: countOf(read, "dw_kernel_size_start", 0),
    dw_kernel_size_mid: countOf(read, "dw_kernel_size_mid", 3),
    dw_kernel_size_end: countOf(read, "dw_kernel_size_end", 0),
    exp_ratio: read.positiveNumber("exp_ratio", 1),
    group_size: countOf(read, "group_size", 1),
  };
  const kernels = [block.dw_kernel_size_start, block.dw_kernel_size_mid, block.dw_kernel_size_end];
  if (block.stride > 1 && kernels.every((size) => size === 0))
    read.fail("stride", "a block without depthwise convolution cannot have a stride");
  return block;
}

/** A whole number from 0. */
function countOf(read: ConfigReader, key: string, fallback: number): number {
  return read.raw(key) === 0 ? 0 : read.positiveInt(key, fallback);
}
