import { findText } from "./bpe-hash.ts";
import { type BpeTables, SPACE } from "./bpe-tables.ts";
import { ByteFallbackDecoder } from "./byte-fallback-decoder.ts";
import type { IncrementalDecoder, TokenizerEngine } from "./tokenizer-engine.ts";
import { WordMerger } from "./word-merger.ts";

const SPACE_UNIT = SPACE.charCodeAt(0);
const LONE_SURROGATE = /\p{Cs}/gu;
const CACHED_WORDS = 20_000;
/** V8 copies slices up to this length; a longer slice, kept in the cache, would keep its whole text in memory. */
const CACHED_LENGTH = 12;

/**
 * The tokenizer of the Gemma family over flat tables. Added tokens are cut out of the raw text, leftmost and longest
 * first; in the rest spaces become ▁ and byte pairs merge, without any other splitting.
 */
export class GemmaBpe implements TokenizerEngine {
  readonly tables: BpeTables;
  readonly size: number;
  readonly specialIds: readonly number[];
  readonly #merger: WordMerger;
  readonly #words = new Map<string, readonly number[]>();
  readonly #glue: ReadonlySet<number>;
  /** Trie node of a code unit that an added token starts with, or 0. */
  readonly #firstNodes = new Uint32Array(0x10000);
  readonly #bytes: ReadonlyMap<number, number>;
  /** Decoded text by id, filled as ids turn up. */
  readonly #pieces = new Map<number, string>();
  readonly #utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(tables: BpeTables) {
    this.tables = tables;
    this.size = tables.tokenOffsets.length - 1;
    this.specialIds = [...tables.addedIds].filter((_, i) => tables.addedSpecial[i] === 1);
    this.#merger = new WordMerger(tables);
    this.#glue = new Set([...tables.glue, SPACE_UNIT]);
    const bytes = [...tables.byteIds].map((id, byte): [number, number] => [id, byte]);
    // A character that stands for a byte is text like any other when it is decoded.
    this.#bytes = new Map(bytes.filter(([id]) => this.tokenOf(id)!.startsWith("<0x")));
    for (let node = tables.trieStart[0]!; node < tables.trieStart[1]!; node++) {
      this.#firstNodes[tables.trieLabels[node]!] = node;
    }
  }

  encode(text: string): number[] {
    // A lone surrogate has no UTF-8; every encoder writes U+FFFD for it.
    const clean = text.replace(LONE_SURROGATE, "\ufffd");
    const { trieIds } = this.tables;
    const out: number[] = [];
    let start = 0;
    for (let i = 0; i < clean.length; ) {
      let node = this.#firstNodes[clean.charCodeAt(i)]!;
      let end = 0;
      let id = 0;
      for (
        let at = i + 1;
        node !== 0;
        node = at < clean.length ? this.#child(node, clean.charCodeAt(at++)) : 0
      ) {
        if (trieIds[node] !== 0) [id, end] = [trieIds[node]!, at];
      }
      if (end === 0) {
        i++;
        continue;
      }
      this.#encodePlain(clean.slice(start, i), out);
      out.push(id - 1);
      start = i = end;
    }
    this.#encodePlain(clean.slice(start), out);
    return out;
  }

  decode(ids: ArrayLike<number>, skip?: ReadonlySet<number>): string {
    const decoder = this.decoder(skip);
    let text = "";
    for (let i = 0; i < ids.length; i++) text += decoder.push(ids[i]!);
    return text + decoder.flush();
  }

  decoder(skip?: ReadonlySet<number>): IncrementalDecoder {
    return new ByteFallbackDecoder(this.#bytes, (id) => this.#piece(id), skip);
  }

  tokenOf(id: number): string | undefined {
    const { tokenBytes, tokenOffsets } = this.tables;
    const [start, end] = [tokenOffsets[id], tokenOffsets[id + 1]];
    if (start === undefined || end === undefined || start === end) return undefined;
    return this.#utf8.decode(tokenBytes.subarray(start, end));
  }

  idOf(token: string): number | undefined {
    const id = findText(this.tables, token);
    return id === -1 ? undefined : id;
  }

  #piece(id: number): string {
    let piece = this.#pieces.get(id);
    if (piece === undefined) {
      piece = (this.tokenOf(id) ?? "").replaceAll(SPACE, " ");
      this.#pieces.set(id, piece);
    }
    return piece;
  }

  /** Binary search among the children of a trie node; 0 when there is none for this code unit. */
  #child(node: number, unit: number): number {
    const { trieStart, trieLabels } = this.tables;
    let low = trieStart[node]!;
    const end = trieStart[node + 1]!;
    for (let high = end; low < high; ) {
      const middle = (low + high) >> 1;
      if (trieLabels[middle]! < unit) low = middle + 1;
      else high = middle;
    }
    return low < end && trieLabels[low] === unit ? low : 0;
  }

  #encodePlain(text: string, out: number[]): void {
    if (text === "") return;
    const normal = text.replaceAll(" ", SPACE);
    // No token reaches across the start of a ▁ (but for the glue), so words can be merged one by one and remembered.
    let start = 0;
    for (let at = normal.indexOf(SPACE, 1); at !== -1; at = normal.indexOf(SPACE, at + 1)) {
      if (this.#glue.has(normal.charCodeAt(at - 1))) continue;
      this.#encodeWord(normal.slice(start, at), out);
      start = at;
    }
    this.#encodeWord(start === 0 ? normal : normal.slice(start), out);
  }

  #encodeWord(word: string, out: number[]): void {
    if (word.length > CACHED_LENGTH) {
      this.#merger.merge(word, out);
      return;
    }
    let ids = this.#words.get(word);
    if (ids === undefined) {
      const merged: number[] = [];
      this.#merger.merge(word, merged);
      ids = merged;
      if (this.#words.size >= CACHED_WORDS) this.#words.clear();
      this.#words.set(word, ids);
    }
    for (let i = 0; i < ids.length; i++) out.push(ids[i]!);
  }
}
