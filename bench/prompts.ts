/** Ordinary ids of Gemma 3's vocabulary: past the special and byte tokens, before the rare ones at its end. */
const FIRST = 1_000;
const COUNT = 200_000;
const BOS = 2;

/**
 * Rows of ids (at least one: a text has a beginning) that all engines get alike. Each `round` gives other ids, so that an engine that keeps the state of
 * former prompts finds nothing to skip; what the ids are does not change the work.
 */
export function promptRows(length: number, batch: number, round: number): number[][] {
  let state = (round * 7919 + length * 104_729 + 1) >>> 0;
  const next = (): number => {
    // The constants of Numerical Recipes' linear congruential generator.
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state;
  };
  return Array.from({ length: batch }, () => [
    BOS,
    ...Array.from({ length: Math.max(0, length - 1) }, () => FIRST + (next() % COUNT)),
  ]);
}

/** The prompt of the runs that are timed from their start. */
export const FIRST_TOKEN_PROMPT = "The capital of France is";
