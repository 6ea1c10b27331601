import { ProtoWriter, readFields } from "./proto.ts";

/** The external data entries of an initialiser: location, offset, length, and the engine's own. */
export type ExternalEntries = ReadonlyMap<string, string>;

// Field numbers of onnx.proto3.
const MODEL_GRAPH = 7;
const GRAPH_INITIALIZER = 5;
const TENSOR_NAME = 8;
const TENSOR_EXTERNAL_DATA = 13;
const ENTRY_KEY = 1;
const ENTRY_VALUE = 2;

/** The same ONNX model with the external data entries of each initialiser replaced by what `change` makes of them. */
export function mapExternalData(
  model: Uint8Array,
  change: (name: string, entries: ExternalEntries) => ExternalEntries,
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
  change: (name: string, entries: ExternalEntries) => ExternalEntries,
): ProtoWriter {
  const result = new ProtoWriter();
  const entries = new Map<string, string>();
  let name = "";
  for (const field of readFields(tensor)) {
    if (field.field === TENSOR_NAME) name = utf8.decode(field.bytes);
    if (field.field === TENSOR_EXTERNAL_DATA) entries.set(...readEntry(field.bytes));
    else result.raw(field);
  }
  if (entries.size === 0) return result;
  for (const [key, value] of change(name, entries)) {
    result.message(TENSOR_EXTERNAL_DATA, new ProtoWriter().string(ENTRY_KEY, key).string(ENTRY_VALUE, value));
  }
  return result;
}

function readEntry(entry: Uint8Array): [string, string] {
  const texts = new Map([...readFields(entry)].map(({ field, bytes }) => [field, utf8.decode(bytes)]));
  return [texts.get(ENTRY_KEY) ?? "", texts.get(ENTRY_VALUE) ?? ""];
}

const utf8 = new TextDecoder();
