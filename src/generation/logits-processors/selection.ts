/** Finds thresholds in long lists without sorting them. */

/** Beyond this, k values are found through a histogram: a heap would be rebuilt too often. */
const HEAP_LIMIT = 1024;

/** The k-th largest of the first `count` values; -Infinity when there are fewer. NaN counts as smallest. */
export function kthLargest(values: Float32Array, count: number, k: number): number {
  if (k > count) return Number.NEGATIVE_INFINITY;
  if (k > HEAP_LIMIT) {
    return massCrossing(values, new Float32Array(count).fill(1), count, k - 0.5).key;
  }
  const heap = new Float32Array(k).fill(Number.NEGATIVE_INFINITY);
  let least = heap[0]!;
  const end = count - (count % 4);
  // Once the heap is warm hardly any value passes, so four comparisons at a time pay.
  for (let i = 0; i < end; i += 4) {
    if (values[i]! > least || values[i + 1]! > least || values[i + 2]! > least || values[i + 3]! > least) {
      for (let j = i; j < i + 4; j++) if (values[j]! > least) least = replaceLeast(heap, values[j]!);
    }
  }
  for (let j = end; j < count; j++) if (values[j]! > least) least = replaceLeast(heap, values[j]!);
  return least;
}

/** Puts `value` in the place of a min-heap's least and returns the new least. */
function replaceLeast(heap: Float32Array, value: number): number {
  let i = 0;
  for (;;) {
    let child = 2 * i + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++;
    if (heap[child]! >= value) break;
    heap[i] = heap[child]!;
    i = child;
  }
  heap[i] = value;
  return heap[0]!;
}

/** Where a walk from the largest key down has gathered enough: at `key`, taking `ties` of the entries equal to it. */
export interface Crossing {
  key: number;
  ties: number;
}

/** Keys further than this below the largest share one bucket: as logits they weigh nothing (e^-64). */
const RANGE = 64;
const BUCKETS = 4096;

/**
 * Walks from the largest key down, the higher index first among equals (as a stable ascending sort read backwards),
 * and stops where the weights met so far reach `mass`. A histogram finds the bucket in which that happens; only its
 * entries are sorted. -Infinity with all ties when the mass is never reached. Entries that weigh less than `floor` are
 * known to come after the crossing.
 */
export function massCrossing(
  keys: Float32Array,
  weights: Float32Array,
  count: number,
  mass: number,
  floor = 0,
): Crossing {
  const entries = heavyEntries(weights, count, floor);
  const [low, high] = finiteBounds(keys, entries);
  const scale = high > low ? (BUCKETS - 1) / Math.min(high - low, RANGE) : 0;
  const buckets = new Uint16Array(entries.length);
  const sums = new Float64Array(BUCKETS);
  const counts = new Int32Array(BUCKETS);
  for (let n = 0; n < entries.length; n++) {
    const index = entries[n]!;
    const distance = (high - keys[index]!) * scale;
    const bucket = distance < BUCKETS - 1 ? distance | 0 : BUCKETS - 1;
    buckets[n] = bucket;
    sums[bucket] = sums[bucket]! + weights[index]!;
    counts[bucket] = counts[bucket]! + 1;
  }
  let gathered = 0;
  for (let bucket = 0; bucket < BUCKETS; bucket++) {
    // A little slack, since the sum in order of index rounds differently from the sum in order of size.
    if (gathered + sums[bucket]! >= mass * (1 - 1e-12)) {
      const packed = new Float64Array(counts[bucket]!);
      for (let n = 0, to = 0; to < packed.length; n++) {
        if (buckets[n] === bucket) packed[to++] = pack(keys, entries[n]!);
      }
      const found = walk(packed.sort(), keys, weights, gathered, mass);
      if (found !== undefined) return found;
    }
    gathered += sums[bucket]!;
  }
  return { key: Number.NEGATIVE_INFINITY, ties: count };
}

function walk(
  packed: Float64Array,
  keys: Float32Array,
  weights: Float32Array,
  gathered: number,
  mass: number,
): Crossing | undefined {
  let sum = gathered;
  let ties = 0;
  let previous = Number.NaN;
  for (let n = packed.length - 1; n >= 0; n--) {
    const index = packed[n]! % INDEX_SPAN;
    const key = keys[index]!;
    ties = key === previous ? ties + 1 : 1;
    previous = key;
    sum += weights[index]!;
    if (sum >= mass) return { key, ties };
  }
  return undefined;
}

/** More than any vocabulary; with 32 bits of key it just fits the 53 bits of a double. */
const INDEX_SPAN = 2 ** 21;
const BITS = new Uint32Array(1);
const FLOAT = new Float32Array(BITS.buffer);

/** Key and index in one number that sorts by key, then by index, without a comparator. */
function pack(keys: Float32Array, index: number): number {
  FLOAT[0] = keys[index]! + 0;
  const bits = BITS[0]!;
  const ordered = (bits & 0x8000_0000 ? ~bits : bits | 0x8000_0000) >>> 0;
  return ordered * INDEX_SPAN + index;
}

function heavyEntries(weights: Float32Array, count: number, floor: number): Int32Array {
  const entries = new Int32Array(count);
  let heavy = 0;
  for (let i = 0; i < count; i++) if (weights[i]! >= floor) entries[heavy++] = i;
  return entries.subarray(0, heavy);
}

function finiteBounds(keys: Float32Array, entries: Int32Array): [number, number] {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (let n = 0; n < entries.length; n++) {
    const key = keys[entries[n]!]!;
    if (key > high) high = key;
    if (key < low && key > Number.NEGATIVE_INFINITY) low = key;
  }
  return high >= low ? [low, high] : [0, 0];
}
