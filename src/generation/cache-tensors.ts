import { InputError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { CacheRow } from "./cache-row.ts";
import { type CacheLayer, KeyValueCache, ROLLBACK } from "./kv-cache.ts";

/** Keys and values of each layer, [batch, kv_heads, positions, head_dim]: HF's tuple form of a cache. */
export type LegacyCache = readonly (readonly [key: Tensor, value: Tensor, ...rest: unknown[]])[];

/** What a cache's contents are moved to. */
export interface RehouseOptions {
  /** Positions to reserve for each row. */
  readonly capacity: number;
  readonly limit?: number | undefined;
  /** Leading positions of each row that are padding. */
  readonly skip?: readonly number[] | undefined;
  /** The layers' kinds and windows must agree too; otherwise only what they hold must do. */
  readonly exact: boolean;
}

const option = "past_key_values";

/** The model's size of a layer's heads; buffers may have them padded. */
export function headDim(layer: CacheLayer): number {
  return layer.true_head_dim ?? layer.head_dim;
}

/** The last `count` positions of a row without the padding of heads: keys and values, [kv_heads, count, head_dim]. */
export function readRow(
  store: KeyValueCache,
  layerIndex: number,
  row: number,
  count: number,
): [Float32Array, Float32Array] {
  const layer = store.layers[layerIndex]!;
  const size = layer.kv_heads * count * layer.head_dim;
  const [keys, values] = [new Float32Array(size), new Float32Array(size)];
  store.read(layerIndex, row, keys, values, count);
  const width = headDim(layer);
  return [resizeHeads(keys, layer.head_dim, width, 2), resizeHeads(values, layer.head_dim, width, 1)];
}

/**
 * One layer's keys and values, [batch, kv_heads, positions, head_dim] each: of sliding layers the last window - 1, as
 * in HF. Rows that hold fewer positions than others have zeros on the left.
 */
export function layerTensors(store: KeyValueCache, layerIndex: number): [Tensor, Tensor] {
  const layer = store.layers[layerIndex]!;
  const { kind, kv_heads, window } = layer;
  const width = headDim(layer);
  const counts = store.held(kind).map((held) => (window === null ? held : Math.min(held, window - 1)));
  const positions = Math.max(0, ...counts);
  const dims = [store.batch, kv_heads, positions, width];
  const parts = [0, 1].map(() => new Float32Array(store.batch * kv_heads * positions * width));
  for (const [row, count] of counts.entries()) {
    for (const [j, data] of readRow(store, layerIndex, row, count).entries()) {
      for (let head = 0; head < kv_heads; head++) {
        const end = (row * kv_heads + head + 1) * positions;
        const source = data.subarray(head * count * width, (head + 1) * count * width);
        parts[j]!.set(source, (end - count) * width);
      }
    }
  }
  return [new Tensor("float32", parts[0]!, dims), new Tensor("float32", parts[1]!, dims)];
}

/**
 * A cache with the contents of HF's tuple form, all positions counted. The longest layers tell the rows' length;
 * shorter ones are sliding layers with the last window - 1 positions.
 */
export function fromTensors(pairs: LegacyCache): KeyValueCache {
  const tensors = pairs.map((pair, i) => checkedPair(pair, i));
  const [first] = tensors;
  if (first === undefined) throw new InputError("past_key_values has no layers", { option });
  const batch = first[0].dims[0]!;
  const length = Math.max(...tensors.map(([key]) => key.dims[2]!));
  const layers = tensors.map(([key], i): CacheLayer => {
    const [rows, kv_heads, held, head_dim] = key.dims as [number, number, number, number];
    if (rows !== batch)
      throw new InputError(`past_key_values: layer ${i} has ${rows} rows, layer 0 ${batch}`, { option });
    const window = held === length ? null : held + 1;
    return { kind: `holding ${held}`, kv_heads, head_dim, window };
  });
  const store = new KeyValueCache(layers, batch, length);
  for (const [i, [key, value]] of tensors.entries()) {
    for (let row = 0; row < batch; row++) {
      const [keys, values] = [key, value].map((tensor) => tensor.at(row)!.data as Float32Array);
      store.append(i, row, keys!, values!, key.dims[2]!);
    }
  }
  const rows = Array.from({ length: batch }, () => CacheRow.restore(length, [], []));
  const held = new Map(layers.map((layer, i) => [layer.kind, tensors[i]![0].dims[2]!]));
  store.restore(rows, (kind) => held.get(kind)!);
  return store;
}

/** The contents of a cache in buffers for a model's layers. Throws an InputError where they don't fit. */
export function rehouse(
  source: KeyValueCache,
  layers: readonly CacheLayer[],
  options: RehouseOptions,
): KeyValueCache {
  checkLayers(source.layers, layers, options.exact);
  const skip = options.skip ?? source.rows.map(() => 0);
  const lengths = source.lengths.map((length, row) => length - skip[row]!);
  const capacity = Math.max(options.capacity, ...lengths);
  const limit = options.limit === undefined ? {} : { limit: options.limit };
  const target = new KeyValueCache(layers, source.batch, capacity, limit);
  target.checkRoom(lengths);
  const held = heldPositions(source, layers, lengths);
  for (const [i, layer] of layers.entries()) {
    const width = headDim(layer);
    for (let row = 0; row < source.batch; row++) {
      const count = held.get(layer.kind)![row]!;
      const [keys, values] = readRow(source, i, row, count);
      const padded = [
        resizeHeads(keys, width, layer.head_dim, 2),
        resizeHeads(values, width, layer.head_dim, 1),
      ];
      target.append(i, row, padded[0]!, padded[1]!, count);
    }
  }
  const rows = source.rows.map((row, r) =>
    skip[r] === 0 ? row.clone() : CacheRow.restore(lengths[r]!, [], []),
  );
  target.restore(rows, (kind, row) => held.get(kind)![row]!);
  return target;
}

/** By kind, the positions of each row that all its layers have, and that are worth keeping. */
function heldPositions(
  source: KeyValueCache,
  layers: readonly CacheLayer[],
  lengths: readonly number[],
): Map<string, number[]> {
  const result = new Map<string, number[]>();
  for (const [i, { kind, window }] of layers.entries()) {
    const most = window === null ? Number.POSITIVE_INFINITY : window - 1 + ROLLBACK;
    const counts = source.held(source.layers[i]!.kind).map((held, row) => {
      const needed = Math.min(lengths[row]!, window === null ? lengths[row]! : window - 1);
      if (held < needed) {
        throw new InputError(
          `past_key_values: layer ${i} has the last ${held} of row ${row}'s ${lengths[row]} positions, the model's ${kind} needs ${needed}`,
          { option },
        );
      }
      return Math.min(held, lengths[row]!, most, result.get(kind)?.[row] ?? held);
    });
    result.set(kind, counts);
  }
  return result;
}

function checkLayers(given: readonly CacheLayer[], expected: readonly CacheLayer[], exact: boolean): void {
  const other = "past_key_values is of another model:";
  if (given.length !== expected.length)
    throw new InputError(`${other} it has ${given.length} layers, the model ${expected.length}`, { option });
  const describe = (layer: CacheLayer): string => {
    const shape = `${layer.kv_heads} heads of ${headDim(layer)}`;
    return exact ? `${layer.kind}, window ${layer.window}, ${shape}` : shape;
  };
  for (const [i, layer] of given.entries()) {
    const [got, wanted] = [describe(layer), describe(expected[i]!)];
    if (got !== wanted)
      throw new InputError(`${other} layer ${i} is ${got}, the model's ${wanted}`, { option });
  }
}

function checkedPair(pair: unknown, layer: number): [Tensor, Tensor] {
  const place = `past_key_values: layer ${layer}`;
  const expected = "a key and a value Tensor [batch, kv_heads, positions, head_dim]";
  if (!Array.isArray(pair) || !(pair[0] instanceof Tensor) || !(pair[1] instanceof Tensor))
    throw new InputError(`${place} must be ${expected}`, { option });
  const [key, value] = pair as [Tensor, Tensor];
  const dims = key.dims.join(", ");
  if (
    key.dims.length !== 4 ||
    dims !== value.dims.join(", ") ||
    key.dims.some((dim, i) => dim === 0 && i !== 2)
  ) {
    throw new InputError(`${place} must be ${expected}, got [${dims}] and [${value.dims.join(", ")}]`, {
      option,
    });
  }
  if (!/float/.test(key.type) || !/float/.test(value.type))
    throw new InputError(`${place} must hold floats, got ${key.type} and ${value.type}`, { option });
  return [key.to("float32"), value.to("float32")];
}

/**
 * Heads of another size: zeros go behind each half of a key (rotary embedding pairs its elements i and
 * i + head_dim / 2), and behind a value; or they come off.
 */
function resizeHeads(data: Float32Array, from: number, to: number, pieces: 1 | 2): Float32Array {
  if (from === to) return data;
  const [source, target] = [from / pieces, to / pieces];
  const result = new Float32Array((data.length / from) * to);
  const kept = Math.min(source, target);
  for (let i = 0; i < data.length / source; i++)
    result.set(data.subarray(i * source, i * source + kept), i * target);
  return result;
}
