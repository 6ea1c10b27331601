import type { Loaded, PublicApi } from "../api.ts";
import type { Numbers } from "../compare.ts";
import type { ParityCase, ParityTest } from "../test-set.ts";

/** What a kind of call gets to work with. */
export interface CallContext {
  readonly api: PublicApi;
  readonly source: ParityCase;
  readonly test: ParityTest;
  /** Folder of the test's checkpoint, in the spelling under test; undefined where the test names none. */
  readonly checkpoint: string | undefined;
  /** Loads the class for this checkpoint with the runner's dtype, once for all tests that ask the same. */
  load(className: string, options?: Readonly<Record<string, unknown>>): Promise<Loaded>;
  /** The test's inputs as Tensors, all of them or those named. */
  inputs(names?: readonly string[]): Record<string, unknown>;
}

/**
 * What a call gave, by the names of the expected outputs. Tensors go to `tensors`, anything else to `values`. An
 * expected output that is in neither makes the test not-yet, so a call leaves out what the package cannot give.
 */
export interface CallOutputs {
  readonly tensors?: Readonly<Record<string, Numbers>>;
  readonly values?: Readonly<Record<string, unknown>>;
  /** A finding that fails the test whatever the outputs are, for instance a hidden state too many. */
  readonly problem?: string;
  /** What the package lacks for a part of the outputs; the test is not-yet if everything else is right. */
  readonly missing?: string;
}

/** Makes one kind of call. */
export type Call = (context: CallContext) => Promise<CallOutputs>;
