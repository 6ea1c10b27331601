import { GraphError } from "../../errors.ts";
import { ONNX_ELEMENT_TYPE } from "../element-types.ts";
import type { AttributeValue, Graph, Initializer, Node, TypedName } from "../graph.ts";
import { ProtoWriter } from "./proto.ts";

// Field numbers are those of onnx.proto3 (ONNX 1.16 and newer).
const IR_VERSION = 10;
/** Opset of the standard operators. */
const OPSET = 21;
/** The first opset with Attention. */
const ATTENTION_OPSET = 23;
const EXTERNAL = 1;

/**
 * An ONNX model of a traced graph. External weights become references: their location is the file's path relative
 * to `externalDataFolder`, "/"-separated, as ONNX Runtime wants it.
 */
export function serializeOnnx(graph: Graph, externalDataFolder: string): Uint8Array {
  const body = new ProtoWriter();
  for (const node of graph.nodes) body.message(1, writeNode(node));
  body.string(2, graph.name);
  for (const initializer of graph.initializers.values())
    body.message(5, writeInitializer(initializer, externalDataFolder));
  for (const input of graph.inputs) body.message(11, writeValueInfo(input));
  for (const output of graph.outputs) body.message(12, writeValueInfo(output));

  const model = new ProtoWriter().varint(1, IR_VERSION).string(2, "lapidary").message(7, body);
  const attention = graph.nodes.some(({ op, domain }) => op === "Attention" && domain === "");
  const opset = attention ? ATTENTION_OPSET : OPSET;
  const domains = new Set(["", ...graph.nodes.map((node) => node.domain)]);
  for (const domain of domains) {
    model.message(8, new ProtoWriter().string(1, domain).varint(2, domain === "" ? opset : 1));
  }
  return model.finish();
}

function writeNode(node: Node): ProtoWriter {
  const proto = new ProtoWriter();
  for (const input of node.inputs) proto.string(1, input);
  for (const output of node.outputs) proto.string(2, output);
  proto.string(3, node.name).string(4, node.op);
  for (const [name, value] of Object.entries(node.attributes)) {
    if (value !== undefined) proto.message(5, writeAttribute(name, value));
  }
  return proto.string(7, node.domain);
}

function writeAttribute(name: string, value: AttributeValue): ProtoWriter {
  const proto = new ProtoWriter().string(1, name);
  if (typeof value === "string") return proto.string(4, value).varint(20, 3);
  if (typeof value === "number") {
    if (!Number.isInteger(value))
      throw new GraphError(`attribute ${name}: ${value} is no integer; write { float: … }`);
    return proto.varint(3, value).varint(20, 2);
  }
  if ("float" in value) return proto.float(2, value.float).varint(20, 1);
  for (const item of value) proto.varint(8, item);
  return proto.varint(20, 7);
}

function writeInitializer(initializer: Initializer, folder: string): ProtoWriter {
  const proto = new ProtoWriter();
  for (const dim of initializer.shape) proto.varint(1, dim);
  proto.varint(2, ONNX_ELEMENT_TYPE[initializer.dtype]).string(8, initializer.name);
  const { data } = initializer;
  if (data instanceof Uint8Array) return proto.bytes(9, data);
  const entries = {
    location: relativeLocation(data.file, folder),
    offset: String(data.offset),
    length: String(data.length),
  };
  for (const [key, value] of Object.entries(entries)) {
    proto.message(13, new ProtoWriter().string(1, key).string(2, value));
  }
  return proto.varint(14, EXTERNAL);
}

/** ONNX Runtime refuses absolute locations and ones that climb out of the folder. */
export function relativeLocation(file: string, folder: string): string {
  const prefix = folder.endsWith("/") || folder.endsWith("\\") ? folder : `${folder}/`;
  const same = file.replaceAll("\\", "/").startsWith(prefix.replaceAll("\\", "/"));
  if (!same) throw new GraphError(`external data ${file} lies outside ${folder}`);
  return file.slice(prefix.length).replaceAll("\\", "/");
}

function writeValueInfo(value: TypedName): ProtoWriter {
  const shape = new ProtoWriter();
  for (const dim of value.shape) {
    shape.message(
      1,
      typeof dim === "number" ? new ProtoWriter().varint(1, dim) : new ProtoWriter().string(2, dim),
    );
  }
  const tensor = new ProtoWriter().varint(1, ONNX_ELEMENT_TYPE[value.dtype]).message(2, shape);
  return new ProtoWriter().string(1, value.name).message(2, new ProtoWriter().message(1, tensor));
}
