import { InputError, rejectUnknownOptions } from "../errors.ts";
import { Cache } from "./cache.ts";
import { integerFrom } from "./checks.ts";
import type { KeyValueCache } from "./kv-cache.ts";

/** HF's names; `backend` and `config` are accepted and of no effect. */
export interface QuantizedCacheOptions {
  /** Only 8. */
  readonly nbits?: number;
  /** Positions of the longest row from which on keys and values are kept in 8 bits; 128 by default. */
  readonly residual_length?: number;
  readonly backend?: string;
  readonly config?: object;
}

const NAMES: readonly (keyof QuantizedCacheOptions)[] = ["nbits", "residual_length", "backend", "config"];

/**
 * Keys and values in 8 bits, a quarter of the memory, once a row has `residual_length` positions. The scales, one for
 * each element of a head, are taken from what is held then; what comes later is clipped to them.
 */
export class QuantizedCache extends Cache {
  readonly nbits = 8;
  readonly residual_length: number;

  constructor(options: QuantizedCacheOptions = {}) {
    super();
    rejectUnknownOptions(options, NAMES, "QuantizedCache");
    if (options.nbits !== undefined && options.nbits !== 8)
      throw new InputError(`nbits: keys and values are kept in 8 bits, not in ${options.nbits}`, {
        option: "nbits",
      });
    this.residual_length = integerFrom("residual_length", options.residual_length ?? 128, 1);
  }

  protected override empty(): QuantizedCache {
    return new QuantizedCache({ residual_length: this.residual_length });
  }

  protected override settle(store: KeyValueCache): void {
    if (!store.quantized && Math.max(...store.lengths) >= this.residual_length) store.quantize();
  }
}
