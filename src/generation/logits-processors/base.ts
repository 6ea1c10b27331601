import { Callable } from "../../callable.ts";
import { InputError, rejectUnknownOptions } from "../../errors.ts";
import { Tensor } from "../../tensor.ts";
import { isPlainObject } from "../checks.ts";
import { Candidates } from "./candidates.ts";

/** The ids of each row so far, padding included. generate passes `bigint[][]`; numbers and int64 tensors do as well. */
export type TokenRows = readonly ArrayLike<number | bigint>[] | Tensor;

/** What a processor is as a function. */
export type LogitsProcessorCall = (input_ids: TokenRows, logits: Tensor) => Tensor;

/**
 * Base of everything that changes scores before a token is chosen. Extend it and define
 * `_call(input_ids: bigint[][], logits: Tensor): Tensor`; `logits` is float32 [rows, vocab_size] and may be changed
 * in place, which is what the classes here do. Instances can be called like functions.
 */
export class LogitsProcessor extends Callable<LogitsProcessorCall> {
  _call(_input_ids: bigint[][], _logits: Tensor): Tensor {
    throw new InputError(`${this.constructor.name} does not define _call(input_ids, logits)`);
  }
}

/** Base of processors that only serve sampling, as Transformers.js has it. */
export class LogitsWarper extends LogitsProcessor {}

/** A warper that works on the candidates of one row: chains of these never write whole rows of the vocabulary. */
export abstract class CandidateWarper extends LogitsWarper {
  /** What removed tokens get. */
  filter_value: number = Number.NEGATIVE_INFINITY;

  abstract warp(candidates: Candidates): void;

  override _call(_input_ids: TokenRows, logits: Tensor): Tensor {
    for (const row of scoreRows(logits)) {
      const candidates = new Candidates(row);
      this.warp(candidates);
      candidates.writeTo(row, this.filter_value);
    }
    return logits;
  }
}

/** Processors applied one after the other. */
export class LogitsProcessorList extends Callable<LogitsProcessorCall> {
  processors: LogitsProcessorCall[] = [];

  constructor(processors: Iterable<LogitsProcessorCall> = []) {
    super();
    this.extend(processors);
  }

  push(...items: LogitsProcessorCall[]): void {
    this.extend(items);
  }

  extend(items: Iterable<LogitsProcessorCall>): void {
    for (const item of items) {
      if (typeof item !== "function") {
        throw new InputError("a logits processor must extend LogitsProcessor or be a function", {
          option: "logits_processor",
        });
      }
      this.processors.push(item);
    }
  }

  override get length(): number {
    return this.processors.length;
  }

  _call(input_ids: TokenRows, logits: Tensor): Tensor {
    let current = logits;
    for (const processor of this.processors) {
      const result: unknown = processor(input_ids, current);
      if (
        !(result instanceof Tensor) ||
        result.size !== logits.size ||
        !(result.data instanceof Float32Array)
      ) {
        const name = processor.constructor === Function ? "a logits processor" : processor.constructor.name;
        throw new InputError(
          `${name} must return a float32 Tensor [${logits.dims.join(", ")}], got ${String(result)}`,
          {
            option: "logits_processor",
          },
        );
      }
      current = result;
    }
    return current;
  }

  [Symbol.iterator](): IterableIterator<LogitsProcessorCall> {
    return this.processors.values();
  }
}

/** The rows of a score tensor, as views. */
export function scoreRows(logits: Tensor): Float32Array[] {
  const { data, dims } = logits;
  if (!(data instanceof Float32Array) || dims.length < 1 || dims.length > 2) {
    throw new InputError(`logits must be float32 [rows, vocab_size], got ${logits.toString()}`);
  }
  const rows = dims.length === 1 ? 1 : dims[0]!;
  const width = data.length / Math.max(rows, 1);
  return Array.from({ length: rows }, (_, row) => data.subarray(row * width, (row + 1) * width));
}

/** Calls `visit` with the scores (a view, changed in place) and the ids of every row, and returns the tensor. */
export function forEachRow(
  input_ids: TokenRows,
  logits: Tensor,
  visit: (scores: Float32Array, ids: ArrayLike<number | bigint>, row: number) => void,
): Tensor {
  const ids = tokenRows(input_ids);
  const rows = scoreRows(logits);
  if (ids.length !== rows.length) {
    throw new InputError(`input_ids has ${ids.length} rows, logits has ${rows.length}`);
  }
  rows.forEach((scores, row) => {
    visit(scores, ids[row]!, row);
  });
  return logits;
}

/** Rows of ids, whatever they came as. */
export function tokenRows(input_ids: TokenRows): readonly ArrayLike<number | bigint>[] {
  if (!(input_ids instanceof Tensor)) return input_ids;
  const rows = input_ids.dims.length === 1 ? [input_ids] : [...input_ids];
  return rows.map((row) => row.data);
}

/**
 * Constructor arguments under HF's names, given by position or as one object. A plain object after the first
 * position holds options by name, the way Transformers.js has it.
 */
export function namedArguments(
  call: string,
  names: readonly string[],
  given: readonly unknown[],
): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  given.forEach((value, position) => {
    if (isPlainObject(value) && (position > 0 || given.length === 1)) {
      rejectUnknownOptions(value, [...names, "device"], call);
      Object.assign(result, value);
    } else {
      const name = names[position];
      if (name === undefined)
        throw new InputError(`${call}: takes ${names.length} arguments, got ${given.length}`);
      result[name] = value;
    }
  });
  return result;
}
