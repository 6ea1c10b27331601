import { InputError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { filledRange, type IdsInput, type Prompt, readRows } from "./prompt.ts";

/**
 * A prompt that comes as `inputs_embeds` [batch, length, hidden_size], as a model's embedding gives them. Where ids came
 * with it, `prompt` has these: processors see them, and they are part of the result. Else, as in HF, the result is the
 * new tokens alone.
 */
export function withVectors(
  inputs_embeds: unknown,
  attention_mask: IdsInput | null | undefined,
  hidden_size: number | undefined,
  prompt: Prompt | undefined,
): Prompt {
  const vectors = checkedVectors(inputs_embeds, hidden_size);
  const [batch, length, width] = vectors.dims as [number, number, number];
  const ranges = rangesOf(attention_mask, batch, length);
  const rows = ranges.map(([start, end], r) =>
    (vectors.data as Float32Array).subarray((r * length + start) * width, (r * length + end) * width),
  );
  if (prompt === undefined) {
    return {
      rows: rows.map(() => []),
      leftPadded: rows.map(() => []),
      tokens: ranges.map(([start, end]) => new Array<number>(end - start).fill(0)),
      length: 0,
      spans: ranges,
      continues: false,
      mask: ranges.map(([start, end]) => Array.from({ length }, (_, i) => i >= start && i < end)),
      vectors: rows,
    };
  }
  if (
    prompt.tokens.length !== batch ||
    prompt.tokens.some((row, r) => row.length * width !== rows[r]!.length)
  ) {
    throw new InputError(
      `inputs_embeds has [${batch}, ${length}] vectors, which are not as many as input_ids has tokens`,
      { option: "inputs_embeds" },
    );
  }
  return { ...prompt, vectors: rows, ids_too: true };
}

function checkedVectors(given: unknown, hidden_size: number | undefined): Tensor {
  if (given instanceof Tensor && given.type === "float32" && given.dims.length === 3) {
    if (given.dims[2] === hidden_size && given.size > 0) return given;
  }
  const got = given instanceof Tensor ? `${given.type} [${given.dims.join(", ")}]` : typeof given;
  throw new InputError(`inputs_embeds: expected float32 [batch, length, ${hidden_size}], got ${got}`, {
    option: "inputs_embeds",
  });
}

function rangesOf(mask: IdsInput | null | undefined, batch: number, length: number): [number, number][] {
  if (mask === undefined || mask === null) return Array.from({ length: batch }, () => [0, length]);
  const rows = readRows("attention_mask", mask).map((row) => row.map((value) => Number(value) !== 0));
  if (rows.length !== batch || rows.some((row) => row.length !== length)) {
    throw new InputError(
      `attention_mask is [${rows.length}, ${rows[0]?.length ?? 0}], inputs_embeds [${batch}, ${length}]`,
      { option: "attention_mask" },
    );
  }
  return rows.map(filledRange);
}
