import { pairHash } from "./bpe-hash.ts";
import type { BpeTables } from "./bpe-tables.ts";
import { PairHeap } from "./pair-heap.ts";

/** Words longer than this do not keep their working memory. */
const KEPT_SYMBOLS = 1 << 16;

/** Merges one word: a linked list of symbols and a queue of their pairs, so long words take n log n steps. */
export class WordMerger {
  readonly #tables: BpeTables;
  /** Id + 1 of the token for each code point below 0x10000. */
  readonly #bmp = new Int32Array(0x10000);
  readonly #astral = new Map<number, number>();
  #heap = new PairHeap();
  #ids = new Int32Array(256);
  #previous = new Int32Array(256);
  #next = new Int32Array(256);
  /** Rank of merging a symbol with the next one; -1 when they don't merge or the symbol is gone. */
  #ranks = new Int32Array(256);

  constructor(tables: BpeTables) {
    this.#tables = tables;
    tables.charCodes.forEach((code, i) => {
      if (code < 0x10000) this.#bmp[code] = tables.charIds[i]! + 1;
      else this.#astral.set(code, tables.charIds[i]! + 1);
    });
  }

  /** Appends the word's ids to `out`. */
  merge(word: string, out: number[]): void {
    const count = this.#split(word);
    if (count === 1) {
      out.push(this.#ids[0]!);
      return;
    }
    const [ids, previous, next, ranks, heap] = [
      this.#ids,
      this.#previous,
      this.#next,
      this.#ranks,
      this.#heap,
    ];
    const { mergeResult } = this.#tables;
    for (let i = 0; i < count; i++) {
      previous[i] = i - 1;
      next[i] = i + 1 < count ? i + 1 : -1;
      this.#consider(i);
    }
    while (heap.pop()) {
      const at = heap.position;
      // An entry whose symbol has changed since is stale: a rank names its pair.
      if (ranks[at] !== heap.rank) continue;
      const gone = next[at]!;
      ids[at] = mergeResult[heap.rank]!;
      next[at] = next[gone]!;
      ranks[gone] = -1;
      if (next[at] !== -1) previous[next[at]!] = at;
      this.#consider(at);
      if (previous[at] !== -1) this.#consider(previous[at]!);
    }
    for (let i = 0; i !== -1; i = next[i]!) out.push(ids[i]!);
    if (count > KEPT_SYMBOLS) {
      this.#heap = new PairHeap();
      this.#reserve(256);
    }
  }

  #consider(at: number): void {
    const after = this.#next[at]!;
    const rank = after === -1 ? -1 : this.#rankOf(this.#ids[at]!, this.#ids[after]!);
    this.#ranks[at] = rank;
    if (rank !== -1) this.#heap.push(rank, at);
  }

  #rankOf(left: number, right: number): number {
    const { mergeLeft, mergeRight, mergeSlots } = this.#tables;
    const mask = mergeSlots.length - 1;
    for (let slot = pairHash(left, right) & mask; ; slot = (slot + 1) & mask) {
      const rank = mergeSlots[slot]! - 1;
      if (rank === -1 || (mergeLeft[rank] === left && mergeRight[rank] === right)) return rank;
    }
  }

  /** The word's characters as tokens; characters without a token as their UTF-8 bytes. Returns their number. */
  #split(word: string): number {
    if (word.length * 3 > this.#ids.length) this.#reserve(word.length * 3);
    const { byteIds } = this.#tables;
    const ids = this.#ids;
    let count = 0;
    for (let i = 0; i < word.length; i++) {
      const code = word.codePointAt(i)!;
      if (code > 0xffff) i++;
      const id = (code > 0xffff ? (this.#astral.get(code) ?? 0) : this.#bmp[code]!) - 1;
      if (id !== -1) {
        ids[count++] = id;
        continue;
      }
      if (code < 0x80) {
        ids[count++] = byteIds[code]!;
        continue;
      }
      if (code < 0x800) ids[count++] = byteIds[0xc0 | (code >> 6)]!;
      else {
        if (code < 0x10000) ids[count++] = byteIds[0xe0 | (code >> 12)]!;
        else {
          ids[count++] = byteIds[0xf0 | (code >> 18)]!;
          ids[count++] = byteIds[0x80 | ((code >> 12) & 0x3f)]!;
        }
        ids[count++] = byteIds[0x80 | ((code >> 6) & 0x3f)]!;
      }
      ids[count++] = byteIds[0x80 | (code & 0x3f)]!;
    }
    return count;
  }

  #reserve(symbols: number): void {
    this.#ids = new Int32Array(symbols);
    this.#previous = new Int32Array(symbols);
    this.#next = new Int32Array(symbols);
    this.#ranks = new Int32Array(symbols);
  }
}
