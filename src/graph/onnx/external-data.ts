import { ProtoWriter, readFields, readVarints } from "./proto.ts";

/** The external data entries of an initialiser: location, offset, length, and the engine's own. */
export type ExternalEntries = ReadonlyMap<string, string>;

/** What an initialiser with external data says of itself. */
export interface ExternalTensor {
  readonly entries: ExternalEntries;
  readonly dims: readonly number[];
}

// Field numbers of onnx.proto3.
const MODEL_GRAPH = 7;
const GRAPH_INITIALIZER = 5;
const TENSOR_DIMS = 1;
const TENSOR_NAME = 8;
const TENSOR_EXTERNAL_DATA = 13;
const ENTRY_KEY = 1;
const ENTRY_VALUE = 2;

/** The same ONNX model with the external data entries of each initialiser replaced by what `change` makes of them. */
export function mapExternalData(
  model: Uint8Array,
  change: (name: string, entries: ExternalEntries) => ExternalEntries,
): Uint8Array {
  return mapExternalTensors(model, (name, { entries, dims }) => ({ entries: change(name, entries), dims }));
}

/** The same with other entries and sizes. */
export function mapExternalTensors(
  model: Uint8Array,
  change: (name: string, tensor: ExternalTensor) => ExternalTensor,
): Uint8Array {
  return mapField(model, MODEL_GRAPH, (graph) =>
    mapField(graph, GRAPH_INITIALIZER, (tensor) => mapTensor(tensor, change)),
  ).finish();
}

/** A message with every field of one number rewritten. */
function mapField(
  message: Uint8Array,
  number: number,
  change: (bytes: Uint8Array) => ProtoWriter,
): ProtoWriter {
  const result = new ProtoWriter();
  for (const field of readFields(message)) {
    if (field.field === number) result.message(number, change(field.bytes));
    else result.raw(field);
  }
  return result;
}

function mapTensor(
  tensor: Uint8Array,
  change: (name: string, tensor: ExternalTensor) => ExternalTensor,
): ProtoWriter {
  const result = new ProtoWriter();
  const entries = new Map<string, string>();
  const dims: number[] = [];
  let name = "";
  for (const field of readFields(tensor)) {
    if (field.field === TENSOR_NAME) name = utf8.decode(field.bytes);
    if (field.field === TENSOR_EXTERNAL_DATA) entries.set(...readEntry(field.bytes));
    else if (field.field === TENSOR_DIMS) dims.push(...readVarints(field.bytes));
    else result.raw(field);
  }
  const changed = entries.size === 0 ? { entries, dims } : change(name, { entries, dims });
  for (const dim of changed.dims) result.varint(TENSOR_DIMS, dim);
  for (const [key, value] of changed.entries) {
    result.message(TENSOR_EXTERNAL_DATA, new ProtoWriter().string(ENTRY_KEY, key).string(ENTRY_VALUE, value));
  }
  return result;
}

function readEntry(entry: Uint8Array): [string, string] {
  const texts = new Map([...readFields(entry)].map(({ field, bytes }) => [field, utf8.decode(bytes)]));
  return [texts.get(ENTRY_KEY) ?? "", texts.get(ENTRY_VALUE) ?? ""];
}

const utf8 = new TextDecoder();
