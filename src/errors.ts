/**
 * Every error that lapidary raises on purpose. A message gives the place, the problem, what was expected and
 * what was found; the fields repeat the place for programs.
 */
export class LapidaryError extends Error {
  override readonly name: string = "LapidaryError";
}

/** A model configuration that is missing, malformed or contradicts itself. `key` is the config.json key. */
export class ConfigError extends LapidaryError {
  override readonly name = "ConfigError";
  readonly key: string | undefined;
  constructor(message: string, options: { key?: string; cause?: unknown } = {}) {
    super(options.key === undefined ? message : `config.${options.key}: ${message}`, {
      cause: options.cause,
    });
    this.key = options.key;
  }
}

/** A weight file that cannot be trusted or does not hold what a model needs. */
export class CheckpointError extends LapidaryError {
  override readonly name = "CheckpointError";
  readonly file: string | undefined;
  readonly tensor: string | undefined;
  constructor(message: string, options: { file?: string; tensor?: string; cause?: unknown } = {}) {
    const place = [options.file, options.tensor].filter((part) => part !== undefined).join(": ");
    super(place === "" ? message : `${place}: ${message}`, { cause: options.cause });
    this.file = options.file;
    this.tensor = options.tensor;
  }
}

/** A graph whose shapes, dtypes or names do not fit together. `node` is the scoped name, as in a checkpoint key. */
export class GraphError extends LapidaryError {
  override readonly name = "GraphError";
  readonly node: string | undefined;
  constructor(message: string, options: { node?: string; cause?: unknown } = {}) {
    super(options.node === undefined ? message : `${options.node}: ${message}`, { cause: options.cause });
    this.node = options.node;
  }
}

/** An argument, option or input of a call that cannot be used. `option` is its name. */
export class InputError extends LapidaryError {
  override readonly name = "InputError";
  readonly option: string | undefined;
  constructor(message: string, options: { option?: string; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.option = options.option;
  }
}

/** A failure of the engine (ONNX Runtime) or of its binding. `code` is the OrtErrorCode's name where there is one. */
export class RuntimeError extends LapidaryError {
  override readonly name = "RuntimeError";
  readonly code: string | undefined;
  constructor(message: string, options: { code?: string; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.code = options.code;
  }
}

/** A model that could not be found or fetched. `status` is the HTTP status where there is one. */
export class HubError extends LapidaryError {
  override readonly name = "HubError";
  readonly status: number | undefined;
  constructor(message: string, options: { status?: number; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.status = options.status;
  }
}

/** The name among `known` that is nearest to `name` by edit distance, if one is near enough to be a slip. */
export function nearestName(name: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.ceil(name.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(name, candidate);
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** Throws an InputError for the first key of `options` that is not in `known`; `call` names the function called. */
export function rejectUnknownOptions(options: object, known: Iterable<string>, call: string): void {
  const names = new Set(known);
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined || names.has(key)) continue;
    const near = nearestName(key, names);
    throw new InputError(
      `${call}: unknown option "${key}"${near === undefined ? "" : `; did you mean "${near}"?`}`,
      { option: key },
    );
  }
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, substitution));
    }
    row = next;
  }
  return row[b.length]!;
}
