import { Buffer } from "node:buffer";
import { CheckpointError } from "../errors.ts";
import type { LayerSlice } from "../layer-slice.ts";
import { BLOCK_GEOMETRY, byteLength } from "../quantization/gguf-blocks.ts";
import type { Checkpoint, TensorSlice } from "./checkpoint.ts";

/** Consecutive rows or columns. */
interface Range {
  readonly start: number;
  readonly end: number;
}

/** A matrix of which only some columns are wanted. */
interface ColumnCut {
  readonly source: TensorSlice;
  /** Bytes of a source row. */
  readonly ranges: readonly Range[];
}

export interface SliceCheckpointOptions {
  /** What stands before the text model's tensors. */
  readonly prefix: string;
  /** Whether the table of per-layer embeddings is cut too; it is read by row and may as well stay whole. */
  readonly tables: boolean;
}

/**
 * The smaller model inside a Gemma 3n checkpoint: layers are left out and the others counted anew, feed-forward layers
 * keep their first units, the tables of all layers the columns of those that stay. Rows are places in the file; columns
 * are cut while they are read.
 */
export function sliceCheckpoint(
  checkpoint: Checkpoint,
  slice: LayerSlice,
  { prefix, tables }: SliceCheckpointOptions = { prefix: "model.", tables: false },
): Checkpoint {
  const tensors = new Map<string, TensorSlice>();
  const cuts = new Map<string, ColumnCut>();
  const width = slice.hidden_size_per_layer_input;
  const columns = joined(slice.kept.map((layer) => ({ start: layer * width, end: (layer + 1) * width })));
  const put = (name: string, tensor: TensorSlice): void => void tensors.set(name, { ...tensor, name });
  const cut = (name: string, source: TensorSlice, ranges: readonly Range[]): void => {
    const made = cutColumns(source, ranges);
    put(name, made.tensor);
    cuts.set(name, { source, ranges: made.bytes });
  };
  for (const [name, tensor] of checkpoint.tensors) {
    const key = name.startsWith(prefix) ? name.slice(prefix.length) : undefined;
    const layer = key === undefined ? null : /^layers\.(\d+)\.(.*)$/.exec(key);
    if (layer !== null) {
      const place = slice.kept.indexOf(Number(layer[1]));
      if (place === -1) continue;
      const units = [{ start: 0, end: slice.intermediate_size[place]! }];
      const moved = `${prefix}layers.${place}.${layer[2]}`;
      if (/^mlp\.(gate|up)_proj\.weight$/.test(layer[2]!)) put(moved, keepRows(tensor, units));
      else if (layer[2] === "mlp.down_proj.weight" && tensor.shape[1] !== units[0]!.end)
        cut(moved, tensor, units);
      else put(moved, tensor);
    } else if (key === "per_layer_model_projection.weight") put(name, keepRows(tensor, columns));
    else if (key === "embed_tokens_per_layer.weight" && tables) cut(name, tensor, columns);
    else put(name, tensor);
  }
  return {
    format: checkpoint.format,
    files: checkpoint.files,
    tensors,
    metadata: checkpoint.metadata,
    read: (tensor, start = 0, end = tensor.length) => {
      const found = cuts.get(tensor.name);
      return found === undefined
        ? checkpoint.read(tensor, start, end)
        : readCut(checkpoint, found, start, end);
    },
    close: () => checkpoint.close(),
  };
}

function keepRows(tensor: TensorSlice, rows: readonly Range[]): TensorSlice {
  const [count, ...rest] = checkedMatrix(tensor);
  const rowBytes = tensor.length / count;
  const pieces = rows.map(({ start, end }) => {
    if (end > count) refuse(tensor, `has ${count} rows, of which ${end} can't be kept`);
    return { offset: tensor.offset + start * rowBytes, length: (end - start) * rowBytes };
  });
  const kept = {
    ...tensor,
    offset: pieces[0]!.offset,
    length: pieces.reduce((sum, { length }) => sum + length, 0),
    shape: [rows.reduce((sum, { start, end }) => sum + end - start, 0), ...rest],
  };
  return pieces.length === 1 ? kept : { ...kept, pieces };
}

function cutColumns(
  tensor: TensorSlice,
  columns: readonly Range[],
): { tensor: TensorSlice; bytes: readonly Range[] } {
  const [rows, count] = checkedMatrix(tensor);
  const { blockElements } = BLOCK_GEOMETRY[tensor.dtype];
  const bytes = columns.map(({ start, end }) => {
    if (end > count) refuse(tensor, `has ${count} columns, of which ${end} can't be kept`);
    if (start % blockElements !== 0 || end % blockElements !== 0)
      refuse(
        tensor,
        `is ${tensor.dtype} in blocks of ${blockElements}, which column ${end} is not the end of`,
      );
    return { start: byteLength(tensor.dtype, start), end: byteLength(tensor.dtype, end) };
  });
  const kept = columns.reduce((sum, { start, end }) => sum + end - start, 0);
  const sliced = {
    ...tensor,
    length: rows * bytes.reduce((sum, { start, end }) => sum + end - start, 0),
    shape: [rows, kept],
    computed: { from: tensor.dtype, identity: `columns ${JSON.stringify(columns)}` },
  };
  return { tensor: sliced, bytes };
}

/** Bytes `start` up to `end` of the cut matrix. */
async function readCut(
  checkpoint: Checkpoint,
  { source, ranges }: ColumnCut,
  start: number,
  end: number,
): Promise<Buffer> {
  const wide = source.length / source.shape[0]!;
  const narrow = ranges.reduce((sum, range) => sum + range.end - range.start, 0);
  const [first, last] = [Math.floor(start / narrow), Math.ceil(end / narrow)];
  const rows = await checkpoint.read(source, first * wide, last * wide);
  const result = Buffer.allocUnsafeSlow((last - first) * narrow);
  let at = 0;
  for (let row = 0; row < last - first; row++) {
    for (const range of ranges) at += rows.copy(result, at, row * wide + range.start, row * wide + range.end);
  }
  return result.subarray(start - first * narrow, end - first * narrow);
}

function checkedMatrix(tensor: TensorSlice): [number, number] {
  const { shape, transposed, pieces, encoding, computed } = tensor;
  if (encoding !== undefined || transposed === true || pieces !== undefined || computed !== undefined)
    refuse(tensor, "is stored in a form that can't be cut: slice the original weights");
  if (shape.length !== 2) refuse(tensor, `has ${shape.length} axes, expected 2`);
  return shape as [number, number];
}

function refuse({ file, name }: TensorSlice, problem: string): never {
  throw new CheckpointError(problem, { file, tensor: name });
}

/** Neighbouring ranges as one. */
function joined(ranges: readonly Range[]): Range[] {
  const result: Range[] = [];
  for (const range of ranges) {
    const last = result.at(-1);
    if (last?.end === range.start) result[result.length - 1] = { start: last.start, end: range.end };
    else result.push(range);
  }
  return result;
}
