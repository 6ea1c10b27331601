import type { Tensor } from "../tensor.ts";
import type { RowsStep } from "./decoder-rows.ts";
import { type Recorder, type Run, sequencesTensor } from "./run.ts";
import { TokenChooser } from "./token-chooser.ts";

/**
 * Greedy decoding and sampling: one token for every row and step until all rows are done. A row that is done stays
 * so: it is filled up with the padding token and, unless its scores are wanted, no longer computed.
 */
export async function tokenLoop(run: Run): Promise<Tensor> {
  const { config, prompt, pad, rows: decoder, record, streamer } = run;
  const copies = config.num_return_sequences ?? 1;
  const source = (row: number): number => Math.floor(row / copies);
  const count = prompt.rows.length * copies;
  const input_ids = Array.from({ length: count }, (_, row) => [...prompt.leftPadded[source(row)]!]);
  const done = new Array<boolean>(count).fill(false);
  const chooser = new TokenChooser(run.processors, {
    rows: count,
    vocab_size: run.vocab_size,
    do_sample: config.do_sample === true,
    seed: run.seed,
    output_scores: record.scores !== undefined,
  });
  const wish = record.active ? undefined : chooser.wish;
  streamer?.put(input_ids.map((_, row) => [...prompt.rows[source(row)]!]));
  let step = await decoder.prefill(prompt, copies);
  for (;;) {
    record.add(step, run.vocab_size);
    const tokens = await chooseTokens(chooser, input_ids, step, record);
    const chosen = tokens.map((token, row) => (done[row] ? pad : token!));
    chosen.forEach((token, row) => {
      input_ids[row]!.push(BigInt(token));
    });
    run.criteria(input_ids, record.scores ?? null).forEach((ends, row) => {
      done[row] ||= ends;
    });
    streamer?.put(chosen.map((token) => [BigInt(token)]));
    if (done.every(Boolean)) break;
    step = await decoder.append(
      chosen.map((token, row) => (done[row] && !record.active ? undefined : token)),
      wish,
    );
  }
  return sequencesTensor(
    input_ids.map((ids, row) => [...prompt.rows[source(row)]!, ...ids.slice(prompt.length)]),
  );
}

async function chooseTokens(
  chooser: TokenChooser,
  input_ids: bigint[][],
  { candidates, logits }: RowsStep,
  record: Recorder,
): Promise<(number | undefined)[]> {
  if (candidates !== undefined) return [chooser.chooseAmong(candidates)];
  const { tokens, scores } = await chooser.choose(input_ids, logits);
  if (scores !== undefined) record.scores?.push(scores);
  return tokens;
}
