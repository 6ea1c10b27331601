import { ConfigError } from "../errors.ts";

/** A plain object as JSON gives it. */
export type JsonObject = Readonly<Record<string, unknown>>;

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The largest released Gemma has 62. */
const MAX_LAYERS = 1024;

/**
 * Reads config.json key by key, checks what it reads and remembers which keys were asked for, so that the unknown
 * ones can be reported. An absent key and null mean the default; without a default the key is required.
 */
export class ConfigReader {
  readonly #config: JsonObject;
  readonly #prefix: string;
  readonly #seen: Set<string> = new Set();

  constructor(config: unknown, prefix = "") {
    if (!isJsonObject(config))
      throw new ConfigError(
        `expected an object, got ${JSON.stringify(config)}`,
        prefix === "" ? {} : { key: prefix },
      );
    this.#config = config;
    this.#prefix = prefix;
  }

  /** The raw value; undefined for an absent key and for null. */
  raw(key: string): unknown {
    this.#seen.add(key);
    return this.#config[key] ?? undefined;
  }

  /** Keys that nobody asked for. */
  unknownKeys(): string[] {
    return Object.keys(this.#config).filter((key) => !this.#seen.has(key));
  }

  positiveInt(key: string, fallback?: number): number {
    return this.#read(
      key,
      fallback,
      "a positive integer",
      (value) => Number.isSafeInteger(value) && (value as number) > 0,
    );
  }

  /** A number of layers, of each of which something is made before any tensor is looked at. */
  layerCount(key: string, fallback?: number): number {
    const count = this.positiveInt(key, fallback);
    if (count > MAX_LAYERS) this.fail(key, `${count} are too many; at most ${MAX_LAYERS}`);
    return count;
  }

  /** A token id. */
  id(key: string, fallback: number | null): number | null {
    return this.#read<number | null>(
      key,
      fallback,
      "a token id",
      (value) => Number.isSafeInteger(value) && (value as number) >= 0,
    );
  }

  positiveNumber(key: string, fallback?: number): number {
    return this.#read(
      key,
      fallback,
      "a positive number",
      (value) => Number.isFinite(value) && (value as number) > 0,
    );
  }

  boolean(key: string, fallback?: boolean): boolean {
    return this.#read(key, fallback, "true or false", (value) => typeof value === "boolean");
  }

  string(key: string, fallback?: string): string {
    return this.#read(key, fallback, "a string", (value) => typeof value === "string");
  }

  optionalPositiveNumber(key: string): number | null {
    return this.raw(key) === undefined ? null : this.positiveNumber(key);
  }

  fail(key: string, message: string): never {
    throw new ConfigError(message, { key: this.#prefix === "" ? key : `${this.#prefix}.${key}` });
  }

  #read<T>(key: string, fallback: T | undefined, expected: string, accepts: (value: unknown) => boolean): T {
    const value = this.raw(key);
    if (value === undefined) {
      if (fallback === undefined) this.fail(key, `missing; expected ${expected}`);
      return fallback;
    }
    if (!accepts(value)) this.fail(key, `expected ${expected}, got ${JSON.stringify(value)}`);
    return value as T;
  }
}
