import type { CausalSteps } from "./causal-steps.ts";
import type { DecoderStep, RowMask, StepOptions } from "./decoder.ts";
import type { DecoderModel } from "./decoder-model.ts";
import { embedTokens } from "./embed-tokens.ts";
import type { KeyValueCache } from "./kv-cache.ts";
import type { MaskedSteps } from "./masked-steps.ts";
import { blocksOf, type RowMedia, type Segment, segmentsOf } from "./media.ts";
import { concatenate, wantedCount } from "./step-input.ts";

/** A step over rows with media. */
export interface MediaOptions extends StepOptions {
  readonly media: readonly RowMedia[];
}

/**
 * Steps over rows that hold images or sounds. Text goes the causal way, as fast as ever; only the tokens of an image,
 * which see each other, are computed under a mask, and all of them in one run.
 */
export class MediaSteps {
  readonly #model: DecoderModel;
  readonly #causal: CausalSteps;
  readonly #masked: MaskedSteps;

  constructor(model: DecoderModel, causal: CausalSteps, masked: MaskedSteps) {
    this.#model = model;
    this.#causal = causal;
    this.#masked = masked;
  }

  /** Row by row, stretch by stretch. */
  async step(
    rows: readonly (readonly number[])[],
    cache: KeyValueCache,
    options: MediaOptions,
  ): Promise<DecoderStep> {
    const steps: DecoderStep[] = [];
    for (const [r, row] of rows.entries())
      for (const segment of segmentsOf(row.length, options.media[r] ?? []))
        steps.push(await this.#segment(rows, r, segment, cache, options));
    return joinSteps(steps);
  }

  /** The same under a mask all along: for attention weights, and where tokens are hidden. */
  async masked(
    rows: readonly (readonly number[])[],
    cache: KeyValueCache | undefined,
    { media, ...options }: MediaOptions,
  ): Promise<DecoderStep> {
    const masks = rows.map((row, r): RowMask => {
      const blocks = blocksOf(row.length, media[r] ?? []);
      return { ...options.masks?.[r], blocks };
    });
    const inputs_embeds = media.some((row) => row.some(({ vectors }) => vectors !== undefined))
      ? await Promise.all(rows.map((row, r) => this.#vectors(row, media[r] ?? [])))
      : options.inputs_embeds;
    const ids_too = this.#usesIds(options);
    return this.#masked.step(rows, cache, {
      ...options,
      masks,
      ...(inputs_embeds && { inputs_embeds, ids_too }),
    });
  }

  async #segment(
    rows: readonly (readonly number[])[],
    r: number,
    { start, end, media }: Segment,
    cache: KeyValueCache,
    options: MediaOptions,
  ): Promise<DecoderStep> {
    const { media: _media, masks: _masks, position_ids, inputs_embeds, logits, ...others } = options;
    const only = <T>(value: T, other: T): T[] => rows.map((_, i) => (i === r ? value : other));
    const { hidden_size, logits_size } = this.#model;
    const given = inputs_embeds?.[r]?.subarray(start * hidden_size, end * hidden_size);
    const vectors = media?.vectors ?? given;
    const wanted = wantedCount(rows[r]!.length, logits ?? "last") - (rows[r]!.length - end);
    const count = Math.max(0, Math.min(end - start, wanted));
    const segment: StepOptions = {
      ...others,
      // Not "none": a graph without logits would be one more session.
      logits: logits === "none" ? logits : count,
      ...(vectors && {
        inputs_embeds: only(vectors, new Float32Array(0)),
        ids_too: this.#usesIds(options),
      }),
      ...(position_ids && { position_ids: only(position_ids[r]!.slice(start, end), []) }),
    };
    const tokens = only<readonly number[]>(rows[r]!.slice(start, end), []);
    const step = media?.together
      ? await this.#masked.step(tokens, cache, {
          ...segment,
          masks: only<RowMask>(oneBlock(end - start), {}),
        })
      : await this.#causal.step(tokens, cache, segment);
    // A copy: the next stretch overwrites it.
    return { ...step, logits: step.logits.slice(0, count * logits_size) };
  }

  /** Whether layers look up vectors of their own by the ids beside the vectors; a caller's vectors may have none. */
  #usesIds({ inputs_embeds, ids_too }: StepOptions): boolean {
    return this.#model.usesIds && (inputs_embeds === undefined || ids_too === true);
  }

  /** A row's vectors, [tokens, hidden_size]: those of its media and, between them, the tokens' own. */
  async #vectors(row: readonly number[], media: RowMedia): Promise<Float32Array> {
    const { hidden_size } = this.#model;
    if (row.length === 0) return new Float32Array(0);
    const vectors = await embedTokens(this.#model, [row]);
    for (const span of media)
      if (span.vectors !== undefined) vectors.set(span.vectors, span.start * hidden_size);
    return vectors;
  }
}

function oneBlock(length: number): RowMask {
  return { blocks: new Array<number>(length).fill(0) };
}

/** The results of consecutive stretches of the rows as those of one step. */
function joinSteps(steps: readonly DecoderStep[]): DecoderStep {
  const [first] = steps as [DecoderStep, ...DecoderStep[]];
  const states = first.hidden_states?.map((_, i) =>
    concatenate(steps.map((step) => step.hidden_states![i]!)),
  );
  const last = first.last_hidden_state && concatenate(steps.map((step) => step.last_hidden_state!));
  return {
    logits: concatenate(steps.map((step) => step.logits)),
    ...(states && { hidden_states: states }),
    ...(last && { last_hidden_state: last }),
  };
}
