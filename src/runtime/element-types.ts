/** Element types as ONNX Runtime numbers them, and the typed arrays that carry them. */
import { InputError } from "../errors.ts";
import type { ElementType, HostTensor, TypedArray } from "./session.ts";

interface ElementTypeInfo {
  /** ONNXTensorElementDataType in onnxruntime_c_api.h. */
  readonly code: number;
  readonly array: new (length: number) => TypedArray;
}

const ELEMENT_TYPES: Readonly<Record<ElementType, ElementTypeInfo>> = {
  float32: { code: 1, array: Float32Array },
  uint8: { code: 2, array: Uint8Array },
  int8: { code: 3, array: Int8Array },
  uint16: { code: 4, array: Uint16Array },
  int16: { code: 5, array: Int16Array },
  int32: { code: 6, array: Int32Array },
  int64: { code: 7, array: BigInt64Array },
  bool: { code: 9, array: Uint8Array },
  float16: { code: 10, array: Uint16Array },
  float64: { code: 11, array: Float64Array },
  uint32: { code: 12, array: Uint32Array },
  uint64: { code: 13, array: BigUint64Array },
  bfloat16: { code: 16, array: Uint16Array },
};

const TYPE_OF_CODE: ReadonlyMap<number, ElementType> = new Map(
  Object.entries(ELEMENT_TYPES).map(([type, info]) => [info.code, type as ElementType]),
);

/** ONNX Runtime's number of an element type. */
export function elementTypeCode(type: ElementType): number {
  return ELEMENT_TYPES[type].code;
}

/** The element type that ONNX Runtime numbers `code`; undefined for those that lapidary does not pass (strings). */
export function elementTypeOfCode(code: number): ElementType | undefined {
  return TYPE_OF_CODE.get(code);
}

/** A zeroed tensor of this type and shape over new memory. */
export function allocateTensor(type: ElementType, dims: readonly number[]): HostTensor {
  return { type, dims, data: new ELEMENT_TYPES[type].array(elementCount(dims)) };
}

/** The number of elements of a shape: 1 for a scalar. */
function elementCount(dims: readonly number[]): number {
  let count = 1;
  for (const dim of dims) count *= dim;
  return count;
}

/** "float32[2, 3]", as messages show tensors. */
export function describeTensor(tensor: Pick<HostTensor, "type" | "dims">): string {
  return `${tensor.type}[${tensor.dims.join(", ")}]`;
}

/** Throws an InputError unless the array's class suits the type and its length is the product of the dims. */
export function checkTensor(tensor: HostTensor): void {
  const info = Object.hasOwn(ELEMENT_TYPES, tensor.type) ? ELEMENT_TYPES[tensor.type] : undefined;
  if (info === undefined) {
    throw new InputError(
      `tensor type "${tensor.type}": expected one of ${Object.keys(ELEMENT_TYPES).join(", ")}`,
      { option: "type" },
    );
  }
  if (!(tensor.data instanceof info.array)) {
    const got = Object.prototype.toString.call(tensor.data).slice(8, -1);
    throw new InputError(`${describeTensor(tensor)}: expected data as ${info.array.name}, got ${got}`, {
      option: "data",
    });
  }
  const wrong = tensor.dims.find((dim) => !Number.isSafeInteger(dim) || dim < 0);
  if (wrong !== undefined) {
    throw new InputError(`${describeTensor(tensor)}: ${wrong} is not a size`, { option: "dims" });
  }
  const count = elementCount(tensor.dims);
  if (count !== tensor.data.length) {
    throw new InputError(
      `${describeTensor(tensor)}: expected ${count} elements of data, got ${tensor.data.length}`,
      { option: "data" },
    );
  }
}
