import { InputError } from "./errors.ts";
import { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from "./half.ts";

/** Element types of tensors. float16 and bfloat16 are held as Uint16Array of raw bits, bool as Uint8Array. */
export type ElementType =
  | "float32"
  | "float16"
  | "bfloat16"
  | "float64"
  | "int64"
  | "int32"
  | "int16"
  | "int8"
  | "uint8"
  | "uint16"
  | "uint32"
  | "uint64"
  | "bool";

/** The arrays that hold tensors. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array
  | Int32Array
  | Int16Array
  | Int8Array
  | Uint8Array
  | Uint16Array
  | Uint32Array;

/** Nested arrays of numbers (bigints for int64 and uint64), as `tolist()` gives them. */
export type NestedNumbers = number | bigint | NestedNumbers[];

/** One argument of `slice`: an index (the dimension goes), null for all, or [start, end) with null for an open end. */
export type SliceArgument = number | null | undefined | readonly [number | null, number | null];

const ARRAYS = {
  float32: Float32Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  float64: Float64Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int16: Int16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
} as const satisfies Record<ElementType, unknown>;

const DEVICES = new Set(["cpu", "cuda", "webgpu", "wasm", "auto"]);

/**
 * A dense array with a shape, row-major. `tensor[i]` is row i (negative: from the end), sharing memory; iterating
 * gives the rows.
 */
export class Tensor {
  readonly type: ElementType;
  readonly dims: readonly number[];
  readonly data: TypedArray;
  readonly [index: number]: Tensor;

  /** `data` is used as it is when it is the type's typed array; plain arrays are converted. */
  constructor(
    type: ElementType,
    data: TypedArray | readonly (number | bigint | boolean)[],
    dims: readonly number[],
  ) {
    if (!Object.hasOwn(ARRAYS, type)) throw new InputError(`Tensor: unknown element type "${String(type)}"`);
    for (const dim of dims) {
      if (!Number.isSafeInteger(dim) || dim < 0) {
        throw new InputError(`Tensor: dims [${dims.join(", ")}] must be non-negative integers`);
      }
    }
    const array = Array.isArray(data) ? fromNumbers(type, data) : (data as TypedArray);
    if (!(array instanceof ARRAYS[type])) {
      throw new InputError(`Tensor: ${type} is held in ${ARRAYS[type].name}, got ${nameOf(data)}`);
    }
    if (array.length !== product(dims)) {
      throw new InputError(
        `Tensor: dims [${dims.join(", ")}] hold ${product(dims)} elements, data has ${array.length}`,
      );
    }
    this.type = type;
    this.data = array;
    this.dims = [...dims];
  }

  /** Number of elements. */
  get size(): number {
    return this.data.length;
  }

  /** Nested arrays: numbers, or bigints for int64 and uint64. A tensor without dimensions gives its one element. */
  tolist(): NestedNumbers[];
  tolist(): NestedNumbers {
    let position = 0;
    const build = (axis: number): NestedNumbers => {
      if (axis === this.dims.length) return this.#at(position++);
      return Array.from({ length: this.dims[axis]! }, () => build(axis + 1));
    };
    return build(0);
  }

  /** The only element. */
  item(): number | bigint {
    if (this.size !== 1) throw new InputError(`Tensor.item: one element expected, got ${this.size}`);
    return this.#at(0);
  }

  /** A copy of a part: one argument for each dimension, missing ones take all. Bounds are clamped as in Python. */
  slice(...parts: SliceArgument[]): Tensor {
    if (parts.length > this.dims.length) {
      throw new InputError(`Tensor.slice: ${parts.length} arguments for ${this.dims.length} dimensions`);
    }
    const ranges = this.dims.map((dim, axis) => sliceRange(parts[axis], dim, axis));
    const dims = ranges.flatMap(([start, end], axis) =>
      typeof parts[axis] === "number" ? [] : [end - start],
    );
    const out = newArray(this.type, product(dims));
    // Trailing dimensions taken whole are copied in one go.
    let inner = this.dims.length;
    let run = 1;
    while (inner > 0 && ranges[inner - 1]![0] === 0 && ranges[inner - 1]![1] === this.dims[inner - 1]) {
      run *= this.dims[--inner]!;
    }
    let written = 0;
    const copy = (axis: number, offset: number): void => {
      if (axis === inner) {
        out.set(this.data.subarray(offset * run, (offset + 1) * run) as never, written);
        written += run;
        return;
      }
      const [start, end] = ranges[axis]!;
      for (let i = start; i < end; i++) copy(axis + 1, offset * this.dims[axis]! + i);
    };
    if (out.length > 0) copy(0, 0);
    return new Tensor(this.type, out, dims);
  }

  /** The same memory under another shape; one dimension may be -1. */
  view(...dims: number[]): Tensor {
    const known = product(dims.filter((dim) => dim !== -1));
    const shape = dims.map((dim) => (dim === -1 ? this.size / Math.max(known, 1) : dim));
    if (dims.filter((dim) => dim === -1).length > 1 || product(shape) !== this.size) {
      throw new InputError(`Tensor.view: [${dims.join(", ")}] does not fit [${this.dims.join(", ")}]`);
    }
    return new Tensor(this.type, this.data, shape);
  }

  /** A copy in another element type. The name of a device returns the tensor itself: its memory is the host's. */
  to(type: ElementType | "cpu" | "cuda" | "webgpu" | "wasm" | "auto"): Tensor {
    if (type === this.type || DEVICES.has(type)) return this;
    if (!Object.hasOwn(ARRAYS, type))
      throw new InputError(`Tensor.to: unknown element type "${String(type)}"`);
    const numbers = Array.from({ length: this.size }, (_, i) => this.#at(i));
    return new Tensor(type as ElementType, numbers, this.dims);
  }

  /** A copy with memory of its own. */
  clone(): Tensor {
    return new Tensor(this.type, this.data.slice(), this.dims);
  }

  /** Row `index` (negative: from the end), sharing memory; undefined beyond the ends, like an array's. */
  at(index: number): Tensor | undefined {
    const rows = this.dims[0];
    const row = rows !== undefined && index < 0 ? index + rows : index;
    if (rows === undefined || !(row >= 0 && row < rows)) return undefined;
    const dims = this.dims.slice(1);
    const length = product(dims);
    return new Tensor(this.type, this.data.subarray(row * length, (row + 1) * length), dims);
  }

  *[Symbol.iterator](): IterableIterator<Tensor> {
    for (let i = 0; i < (this.dims[0] ?? 0); i++) yield this.at(i)!;
  }

  toString(): string {
    const shown = Array.from({ length: Math.min(this.size, 8) }, (_, i) => String(this.#at(i)));
    if (this.size > shown.length) shown.push("…");
    return `Tensor ${this.type}[${this.dims.join(", ")}] (${shown.join(", ")})`;
  }

  #at(index: number): number | bigint {
    const value = this.data[index]!;
    if (this.type === "float16") return float16ToNumber(value as number);
    if (this.type === "bfloat16") return bfloat16ToNumber(value as number);
    return value;
  }
}

/*
 * `tensor[0]` without a Proxy around every tensor: the Proxy stands at the end of the prototype chain, where only
 * names arrive that neither a tensor nor its class has.
 */
Object.setPrototypeOf(
  Tensor.prototype,
  new Proxy(Object.create(null) as object, {
    getPrototypeOf: () => Object.prototype,
    get(_, key, receiver) {
      if (typeof key === "string" && /^-?\d+$/.test(key) && receiver instanceof Tensor)
        return receiver.at(Number(key));
      return Reflect.get(Object.prototype, key, receiver) as unknown;
    },
    has: (_, key) => Reflect.has(Object.prototype, key),
  }),
);

function fromNumbers(type: ElementType, values: readonly (number | bigint | boolean)[]): TypedArray {
  const out = newArray(type, values.length);
  const convert = converter(type);
  for (let i = 0; i < values.length; i++) out[i] = convert(values[i]!) as never;
  return out;
}

function converter(type: ElementType): (value: number | bigint | boolean) => number | bigint {
  switch (type) {
    case "int64":
    case "uint64":
      return (value) => (typeof value === "bigint" ? value : BigInt(Math.trunc(Number(value))));
    case "float16":
      return (value) => numberToFloat16(Number(value));
    case "bfloat16":
      return (value) => numberToBfloat16(Number(value));
    case "bool":
      return (value) => (value ? 1 : 0);
    default:
      return Number;
  }
}

function newArray(type: ElementType, length: number): TypedArray {
  return new ARRAYS[type](length);
}

function sliceRange(part: SliceArgument, dim: number, axis: number): [number, number] {
  if (part === null || part === undefined) return [0, dim];
  if (typeof part === "number") {
    const index = part < 0 ? part + dim : part;
    if (!(Number.isInteger(index) && index >= 0 && index < dim)) {
      throw new InputError(`Tensor.slice: index ${part} is outside dimension ${axis} of length ${dim}`);
    }
    return [index, index + 1];
  }
  const clamp = (value: number): number => Math.min(Math.max(value < 0 ? value + dim : value, 0), dim);
  const start = clamp(part[0] ?? 0);
  return [start, Math.max(start, clamp(part[1] ?? dim))];
}

function product(dims: readonly number[]): number {
  return dims.reduce((total, dim) => total * dim, 1);
}

function nameOf(value: unknown): string {
  return (value as object | null)?.constructor?.name ?? typeof value;
}
