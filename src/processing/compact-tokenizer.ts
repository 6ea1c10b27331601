import { CheckpointError } from "../errors.ts";
import type { BpeTables } from "./bpe-tables.ts";
import type { TokenizerSettings } from "./tokenizer-settings.ts";

/** Raise it whenever the layout, the hashes or the settings change: older caches are then rebuilt. */
const VERSION = 1;
/** "LTOK" on little-endian machines. A file from a machine of the other kind does not match. */
const MAGIC = 0x4b4f544c;
const HEADER_WORDS = 4; // magic, version, checksum of the rest, number of sections
const SETTINGS = "settings";

const SECTIONS = {
  tokenBytes: Uint8Array,
  tokenOffsets: Uint32Array,
  tokenSlots: Uint32Array,
  mergeLeft: Uint32Array,
  mergeRight: Uint32Array,
  mergeResult: Uint32Array,
  mergeSlots: Uint32Array,
  byteIds: Uint32Array,
  charCodes: Uint32Array,
  charIds: Uint32Array,
  addedIds: Uint32Array,
  addedSpecial: Uint8Array,
  trieStart: Uint32Array,
  trieLabels: Uint16Array,
  trieIds: Uint32Array,
  glue: Uint32Array,
  [SETTINGS]: Uint8Array,
} as const;

type SectionName = keyof typeof SECTIONS;
const NAMES = Object.keys(SECTIONS) as SectionName[];

/** A tokenizer as one file that is used as it lies in memory: tables, then its settings as JSON. */
export function serializeTokenizer(tables: BpeTables, settings: TokenizerSettings): Uint8Array {
  const parts = { ...tables, [SETTINGS]: new TextEncoder().encode(JSON.stringify(settings)) };
  const starts: number[] = [];
  let end = align((HEADER_WORDS + NAMES.length * 2) * 4);
  for (const name of NAMES) {
    starts.push(end);
    end = align(end + parts[name].byteLength);
  }
  const bytes = new Uint8Array(end);
  const words = new Uint32Array(bytes.buffer);
  NAMES.forEach((name, i) => {
    const part = parts[name];
    bytes.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), starts[i]!);
    words[HEADER_WORDS + i * 2] = starts[i]!;
    words[HEADER_WORDS + i * 2 + 1] = part.byteLength;
  });
  words.set([MAGIC, VERSION, checksum(words), NAMES.length]);
  return bytes;
}

/**
 * Reads what `serializeTokenizer` wrote. The tables are views of `bytes`, which the caller must not change. Anything
 * damaged or of another version is a CheckpointError: build the tokenizer anew.
 */
export function deserializeTokenizer(
  bytes: Uint8Array,
  file?: string,
): { tables: BpeTables; settings: TokenizerSettings } {
  const fail = (problem: string): never => {
    throw new CheckpointError(`cached tokenizer: ${problem}`, file === undefined ? {} : { file });
  };
  if (bytes.length % 16 !== 0 || bytes.length < (HEADER_WORDS + NAMES.length * 2) * 4) fail("truncated");
  const aligned = bytes.byteOffset % 8 === 0 ? bytes : bytes.slice();
  const words = new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.length / 4);
  if (words[0] !== MAGIC) fail("not a tokenizer cache of this machine");
  if (words[1] !== VERSION) fail(`version ${words[1]}, expected ${VERSION}`);
  if (words[3] !== NAMES.length) fail(`${words[3]} sections, expected ${NAMES.length}`);
  if (words[2] !== checksum(words)) fail("checksum mismatch");
  const section = (name: SectionName): Uint8Array | Uint16Array | Uint32Array => {
    const at = HEADER_WORDS + NAMES.indexOf(name) * 2;
    const [start, length] = [words[at]!, words[at + 1]!];
    const Type = SECTIONS[name];
    if (start % 16 !== 0 || start + length > aligned.length || length % Type.BYTES_PER_ELEMENT !== 0) {
      fail(`section ${name} lies outside the file`);
    }
    return new Type(
      aligned.buffer as ArrayBuffer,
      aligned.byteOffset + start,
      length / Type.BYTES_PER_ELEMENT,
    );
  };
  const tables = Object.fromEntries(
    NAMES.filter((name) => name !== SETTINGS).map((name) => [name, section(name)]),
  ) as unknown as BpeTables;
  const problem = findInconsistency(tables);
  if (problem !== undefined) fail(problem);
  const text = new TextDecoder().decode(section(SETTINGS) as Uint8Array);
  return { tables, settings: JSON.parse(text) as TokenizerSettings };
}

/** Lengths that must agree, so that no lookup runs out of a table or for ever. */
function findInconsistency(tables: BpeTables): string | undefined {
  const { tokenOffsets, tokenSlots, mergeLeft, mergeSlots, trieLabels } = tables;
  const size = tokenOffsets.length - 1;
  if (size < 0 || tokenOffsets[size] !== tables.tokenBytes.length)
    return "token offsets do not fit the bytes";
  if (!isIndex(tokenSlots, size)) return "token index has a wrong size";
  if (!isIndex(mergeSlots, mergeLeft.length)) return "merge index has a wrong size";
  if (tables.mergeRight.length !== mergeLeft.length || tables.mergeResult.length !== mergeLeft.length) {
    return "merges have different lengths";
  }
  if (tables.byteIds.length !== 256 || tables.charIds.length !== tables.charCodes.length) {
    return "character tables have different lengths";
  }
  if (tables.addedSpecial.length !== tables.addedIds.length) return "added tokens have different lengths";
  if (tables.trieStart.length !== trieLabels.length + 1 || tables.trieIds.length !== trieLabels.length) {
    return "the added tokens' trie has a wrong size";
  }
  return undefined;
}

function isIndex(slots: Uint32Array, entries: number): boolean {
  return slots.length > entries && (slots.length & (slots.length - 1)) === 0;
}

/** Over everything behind the header's first words; four lanes, so that it runs at the speed of memory. */
function checksum(words: Uint32Array): number {
  let [a, b, c, d] = [1, 2, 3, 4];
  for (let i = HEADER_WORDS; i < words.length; i += 4) {
    a = Math.imul(a ^ words[i]!, 0x01000193);
    b = Math.imul(b ^ words[i + 1]!, 0x01000193);
    c = Math.imul(c ^ words[i + 2]!, 0x01000193);
    d = Math.imul(d ^ words[i + 3]!, 0x01000193);
  }
  return (a ^ Math.imul(b, 3) ^ Math.imul(c, 5) ^ Math.imul(d, 7)) >>> 0;
}

function align(offset: number): number {
  return Math.ceil(offset / 16) * 16;
}
