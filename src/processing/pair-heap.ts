const POSITIONS = 2 ** 32;

/** Candidate merges of a word, lowest rank first, leftmost first within a rank. */
export class PairHeap {
  // One double holds rank and position: 2^20 ranks times 2^32 positions fit its 53 bits, and compare in one step.
  #keys = new Float64Array(64);
  #size = 0;

  /** Position of the pair taken last. */
  position = 0;
  /** Its rank. */
  rank = 0;

  push(rank: number, position: number): void {
    if (this.#size === this.#keys.length) {
      const grown = new Float64Array(this.#size * 2);
      grown.set(this.#keys);
      this.#keys = grown;
    }
    const keys = this.#keys;
    const key = rank * POSITIONS + position;
    let at = this.#size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (keys[parent]! <= key) break;
      keys[at] = keys[parent]!;
      at = parent;
    }
    keys[at] = key;
  }

  /** Takes the first pair into `rank` and `position`; false when there is none. */
  pop(): boolean {
    if (this.#size === 0) return false;
    const keys = this.#keys;
    const top = keys[0]!;
    this.rank = Math.floor(top / POSITIONS);
    this.position = top - this.rank * POSITIONS;
    const key = keys[--this.#size]!;
    const size = this.#size;
    let at = 0;
    for (let child = 1; child < size; child = 2 * at + 1) {
      if (child + 1 < size && keys[child + 1]! < keys[child]!) child++;
      if (keys[child]! >= key) break;
      keys[at] = keys[child]!;
      at = child;
    }
    keys[at] = key;
    return true;
  }
}
