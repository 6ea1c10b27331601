import { InputError, rejectUnknownOptions } from "../errors.ts";
import { Cache } from "./cache.ts";
import { integerFrom } from "./checks.ts";

export interface StaticCacheOptions {
  /** Positions that a row may have at most. Room for them is reserved at the first use. */
  readonly max_cache_len: number;
  /** Rows that there may be at most. */
  readonly max_batch_size?: number;
  /** Accepted as in HF, and not needed. */
  readonly config?: object;
}

/** A cache of a fixed size: it takes its memory at once, and a call that needs more is refused. */
export class StaticCache extends Cache {
  readonly max_batch_size: number | undefined;
  protected override readonly limit: number;

  constructor(options: StaticCacheOptions);
  constructor(config: object, max_cache_len: number | StaticCacheOptions);
  constructor(first: object, second?: number | StaticCacheOptions) {
    super();
    const options = (
      second === undefined ? first : typeof second === "number" ? { max_cache_len: second } : second
    ) as StaticCacheOptions;
    rejectUnknownOptions(options, ["max_cache_len", "max_batch_size", "config"], "StaticCache");
    this.limit = integerFrom("max_cache_len", options.max_cache_len, 1);
    this.max_batch_size =
      options.max_batch_size === undefined
        ? undefined
        : integerFrom("max_batch_size", options.max_batch_size, 1);
  }

  protected override empty(): StaticCache {
    const rows = this.max_batch_size === undefined ? {} : { max_batch_size: this.max_batch_size };
    return new StaticCache({ max_cache_len: this.limit, ...rows });
  }

  protected override checkBatch(batch: number): void {
    if (this.max_batch_size === undefined || batch <= this.max_batch_size) return;
    throw new InputError(
      `the static cache takes at most max_batch_size = ${this.max_batch_size} rows, not ${batch}`,
      {
        option: "past_key_values",
      },
    );
  }
}
