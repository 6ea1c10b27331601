import { type DecoderModel, float32, RunValues } from "./decoder-model.ts";

/** The vectors of ids, as the first layer gets them: [rows, length, hidden_size]. Rows have one length. */
export async function embedTokens(
  model: Pick<DecoderModel, "embedding" | "hidden_size">,
  rows: readonly (readonly number[])[],
): Promise<Float32Array> {
  const dims = [rows.length, rows[0]!.length];
  const vectors = new Float32Array(dims[0]! * dims[1]! * model.hidden_size);
  const run = new RunValues(await model.embedding());
  run.feed("input_ids", { type: "int64", data: BigInt64Array.from(rows.flat(), BigInt), dims });
  run.fetch("inputs_embeds", float32(vectors, [...dims, model.hidden_size]));
  await run.run(undefined);
  return vectors;
}
