import { ConfigReader, type JsonObject } from "../../config-reader.ts";
import { type BlockArgs, blocksOfString, MAX_BLOCKS, readBlock } from "./blocks.ts";

/** Everything that shapes a MobileNet-V5 encoder: timm's arguments of `mobilenetv5_300m_enc`, in one normal form. */
export interface TowerConfig {
  readonly in_chans: number;
  readonly stem_size: number;
  readonly stem_bias: boolean;
  /** "same" as in TensorFlow, the extra pixel at the end; "" as in PyTorch; "valid" none. */
  readonly pad_type: PadType;
  /** The blocks of each stage. */
  readonly stages: readonly (readonly BlockArgs[])[];
  /** Which feature maps are fused: 0 is the stem's, then one a stage, the last one last. */
  readonly msfa_indices: readonly number[];
  /** Height and width of the fused map: as many tokens an image. */
  readonly msfa_output_resolution: readonly [height: number, width: number];
}

export type PadType = "same" | "" | "valid";

/** Channels of the fused map, which timm's encoder fixes. */
export const FUSED_CHANNELS = 2048;

/** timm's blocks of the architecture: 300 million weights. */
const MOBILENETV5_300M: readonly (readonly string[])[] = [
  ["er_r1_k3_s2_e4_c128", "er_r2_k3_s1_e4_c128"],
  ["uir_r1_a3_k5_s2_e6_c256", ...repeat(2, ["uir_r1_a5_k0_s1_e4_c256", "uir_r1_a3_k0_s1_e4_c256"])],
  [
    "uir_r1_a5_k5_s2_e6_c640",
    "uir_r7_a5_k0_s1_e4_c640",
    "uir_r1_a0_k0_s1_e1_c640",
    ...repeat(14, ["mqa_r1_k3_h12_v2_s1_d64_c640", "uir_r1_a0_k0_s1_e2_c640"]),
  ],
  ["uir_r1_a5_k5_s2_e6_c1280", ...repeat(19, ["mqa_r1_k3_h16_s1_d96_c1280", "uir_r1_a0_k0_s1_e2_c1280"])],
];

/** Height and width of the fused map at most: the matrices that resize to it are made before any image comes. Released: 16. */
const MOST_SIDE = 512;

/** Arguments that only matter in training, or where there is something that is not supported. */
const WITHOUT_EFFECT = ["drop_rate", "drop_path_rate", "se_from_exp", "layer_scale_init_value"];

/** Reads `model_args` of a vision configuration over the architecture's own; null counts as absent, in timm too. Throws a ConfigError for what is not built. */
export function readTowerConfig(model_args: JsonObject, key: string): TowerConfig {
  const read = new ConfigReader(model_args, key);
  const fix_stem = read.boolean("fix_stem", false);
  const stem_size = read.positiveInt("stem_size", 64);
  const stages = readStages(read, `${key}.block_args`);
  const tower = {
    in_chans: read.positiveInt("in_chans", 3),
    stem_size: fix_stem ? stem_size : roundChannels(stem_size),
    stem_bias: read.boolean("stem_bias", true),
    pad_type: readPadType(read),
    stages,
    msfa_indices: readFusedMaps(read, stages),
    msfa_output_resolution: readResolution(read),
  };
  for (const name of WITHOUT_EFFECT) read.raw(name);
  const [unknown] = read.unknownKeys();
  if (unknown !== undefined) read.fail(unknown, "this argument of timm's is not supported");
  return tower;
}

/** The multiple of 8 nearest to `channels`, but not less than nine tenths of it: timm's `make_divisible`. */
export function roundChannels(channels: number): number {
  const nearest = Math.max(8, Math.floor((channels + 4) / 8) * 8);
  return nearest < 0.9 * channels ? nearest + 8 : nearest;
}

function readStages(read: ConfigReader, key: string): BlockArgs[][] {
  const given = read.raw("block_args") ?? MOBILENETV5_300M;
  const isStage = (stage: unknown): stage is readonly unknown[] => Array.isArray(stage) && stage.length > 0;
  if (!isStage(given) || !given.every(isStage))
    return read.fail("block_args", "expected a list of stages, each a list of blocks");
  return given.map((stage, s) => {
    const blocks = stage.flatMap((block, b) =>
      typeof block === "string" ? blocksOfString(block, `${key}.${s}.${b}`) : [block],
    );
    if (blocks.length > MAX_BLOCKS)
      read.fail("block_args", `${blocks.length} blocks in a stage are too many`);
    // Only a stage's first block may make the map smaller, whatever the others say.
    return blocks.map((block, b) => {
      const args = readBlock(block, `${key}.${s}.${b}`);
      return b === 0 ? args : { ...args, stride: 1 as const };
    });
  });
}

/**
 * The feature maps that timm knows are the ones after which the map gets smaller. It counts them to find which to
 * fuse, and stages while it runs: the two agree where each stage, and the first from the stem, begins with a stride.
 */
function readFusedMaps(read: ConfigReader, stages: readonly (readonly BlockArgs[])[]): number[] {
  const given = read.raw("msfa_indices") ?? [-2, -1];
  if (stages.some(([first]) => first!.stride !== 2))
    read.fail("block_args", "each stage must begin with a block of stride 2");
  const maps = stages.length + 1;
  const isIndex = (index: unknown): index is number =>
    Number.isSafeInteger(index) && (index as number) >= -maps && (index as number) < maps;
  if (!Array.isArray(given) || given.length === 0 || !given.every(isIndex))
    return read.fail("msfa_indices", `expected a list of numbers from ${-maps} to ${maps - 1}`);
  const indices = given.map((index) => (index < 0 ? maps + index : index));
  if (new Set(indices).size < indices.length) read.fail("msfa_indices", "names a feature map twice");
  return indices.sort((a, b) => a - b);
}

function readResolution(read: ConfigReader): readonly [number, number] {
  const given = read.raw("msfa_output_resolution");
  if (!Array.isArray(given)) {
    const side = read.positiveInt("msfa_output_resolution", 16);
    return readSides(read, [side, side]);
  }
  return readSides(read, given);
}

function readSides(read: ConfigReader, sides: readonly unknown[]): readonly [number, number] {
  const isSide = (side: unknown): side is number =>
    Number.isSafeInteger(side) && (side as number) > 0 && (side as number) <= MOST_SIDE;
  const [height, width] = sides;
  if (sides.length !== 2 || !isSide(height) || !isSide(width))
    return read.fail(
      "msfa_output_resolution",
      `expected a size, or a height and a width, of up to ${MOST_SIDE}`,
    );
  return [height, width];
}

function readPadType(read: ConfigReader): PadType {
  const given = read.string("pad_type", "same").toLowerCase();
  if (given === "same" || given === "" || given === "valid") return given;
  return read.fail("pad_type", `expected "same", "valid" or "", got "${given}"`);
}

function repeat(times: number, blocks: readonly string[]): string[] {
  return Array.from({ length: times }, () => blocks).flat();
}
