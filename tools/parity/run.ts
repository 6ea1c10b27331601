import { existsSync, statSync } from "node:fs";
import path from "node:path";
import { fromPretrained, type Loaded, NotYet, type PublicApi, toTensor } from "./api.ts";
import type { CallContext, CallOutputs } from "./calls/call.ts";
import { callFor } from "./calls/index.ts";
import { type Comparison, compareNumbers, compareValues, different } from "./compare.ts";
import { Twins } from "./folders.ts";
import { type ParityCase, type ParityTest, storedTensor } from "./test-set.ts";

/** How one test went. */
export interface TestResult {
  readonly status: "pass" | "fail" | "not-yet";
  /** case/test, and the config file in brackets where it is not config.json. */
  readonly label: string;
  /** The worst element and its place, or the reason. */
  readonly detail: string;
}

/** Settings of a run. */
export interface RunOptions {
  readonly dtype: string;
  /** Folder (or GGUF file) of the released tokenizer, for tests without a checkpoint. */
  readonly tokenizer?: string;
  /** Only this spelling of the configuration; otherwise config.json and, where it lies beside it, config.v4.json. */
  readonly config?: string;
}

/** A test with one spelling of its checkpoint's configuration. */
export interface Variant {
  readonly test: ParityTest;
  readonly config: string;
  readonly label: string;
}

const OLDER_CONFIG = "config.v4.json";

/** Runs the tests of one case, sharing loaded models between them. */
export class CaseRunner {
  readonly #api: PublicApi;
  readonly #source: ParityCase;
  readonly #options: RunOptions;
  readonly #twins = new Twins();
  readonly #loaded = new Map<string, Promise<Loaded>>();

  constructor(api: PublicApi, source: ParityCase, options: RunOptions) {
    this.#api = api;
    this.#source = source;
    this.#options = options;
  }

  /** The tests of the case, each once for every spelling of the configuration that its checkpoint has. */
  variants(): Variant[] {
    return this.#source.tests.flatMap((test) => {
      const name = `${this.#source.name}/${test.name}`;
      const spellings = ["config.json"];
      if (test.checkpoint !== null && this.#has(test.checkpoint, OLDER_CONFIG)) spellings.push(OLDER_CONFIG);
      return spellings
        .filter((config) => this.#options.config === undefined || config === this.#options.config)
        .map((config) => ({ test, config, label: config === "config.json" ? name : `${name} [${config}]` }));
    });
  }

  /** Makes a test's call and compares what it gave. Never throws. */
  async run({ test, config, label }: Variant): Promise<TestResult> {
    try {
      const call = callFor(test);
      if (call === undefined) throw new NotYet(`no way to call ${test.call}`);
      const outputs = await call(await this.#context(test, config));
      return { label, ...this.#judge(test, outputs) };
    } catch (error) {
      // What the package itself says it does not do yet is no wrong result.
      if (error instanceof NotYet || /\bnot supported yet\b/.test(String(error))) {
        return { status: "not-yet", label, detail: messageOf(error) };
      }
      return { status: "fail", label, detail: describe(error) };
    }
  }

  /** Frees the models and the temporary folders. */
  async dispose(): Promise<void> {
    const loaded = [...this.#loaded.values()];
    this.#loaded.clear();
    for (const result of await Promise.allSettled(loaded)) {
      if (result.status !== "fulfilled") continue;
      const dispose = result.value.dispose;
      if (typeof dispose === "function") await (dispose as () => unknown).call(result.value);
    }
    await this.#twins.dispose();
  }

  async #context(test: ParityTest, config: string): Promise<CallContext> {
    const checkpoint = await this.#checkpoint(test, config);
    return {
      api: this.#api,
      source: this.#source,
      test,
      checkpoint,
      load: (className, options = {}) => this.#load(className, checkpoint, options),
      inputs: (names = Object.keys(test.inputs)) =>
        Object.fromEntries(
          names.map((name) => [
            name,
            toTensor(this.#api, storedTensor(this.#source, test.inputs[name] ?? name)),
          ]),
        ),
    };
  }

  async #checkpoint(test: ParityTest, config: string): Promise<string | undefined> {
    if (test.checkpoint !== null) {
      const folder = path.join(this.#source.folder, test.checkpoint);
      return config === "config.json" ? folder : this.#twins.withConfig(folder, config);
    }
    const { tokenizer } = this.#options;
    if (tokenizer === undefined || !test.class.endsWith("Tokenizer")) return undefined;
    if (statSync(tokenizer).isFile()) return tokenizer;
    const setting = /<eos> are both added/.test(test.notes ?? "") ? "embedding" : "chat";
    return this.#twins.withTokenizerSetting(tokenizer, setting);
  }

  #load(className: string, checkpoint: string | undefined, options: object): Promise<Loaded> {
    if (checkpoint === undefined) throw new NotYet("the test names no checkpoint: give --tokenizer DIR");
    const key = JSON.stringify([className, checkpoint, options]);
    const known = this.#loaded.get(key);
    if (known !== undefined) return known;
    const isModel = !/(Tokenizer|Processor|FeatureExtractor)$/.test(className);
    const all = { ...(isModel ? { dtype: this.#options.dtype } : {}), ...options };
    const loading = fromPretrained(this.#api, className, checkpoint, all);
    this.#loaded.set(key, loading);
    return loading;
  }

  #judge(test: ParityTest, outputs: CallOutputs): Omit<TestResult, "label"> {
    const comparisons: Comparison[] = [];
    const absent: string[] = [];
    const mask =
      test.compare_where === undefined
        ? undefined
        : storedTensor(this.#source, test.inputs[test.compare_where] ?? test.compare_where);
    for (const [name, stored] of Object.entries(test.expected)) {
      const got = outputs.tensors?.[name];
      if (got === undefined) absent.push(name);
      else
        comparisons.push(compareNumbers(name, got, storedTensor(this.#source, stored), test.tolerance, mask));
    }
    for (const [name, expected] of Object.entries(test.expected_values ?? {})) {
      const values = outputs.values ?? {};
      if (!Object.hasOwn(values, name)) absent.push(name);
      else comparisons.push(compareValues(name, values[name], expected));
    }
    if (outputs.problem !== undefined) comparisons.push(different(outputs.problem));
    return verdict(comparisons, absent, outputs.missing);
  }

  #has(checkpoint: string, file: string): boolean {
    return existsSync(path.join(this.#source.folder, checkpoint, file));
  }
}

/** A test passes only when everything that it expects was compared and lay within its tolerance. */
function verdict(
  comparisons: readonly Comparison[],
  absent: readonly string[],
  missing: string | undefined,
): Omit<TestResult, "label"> {
  const worst = comparisons.reduce<Comparison | undefined>(
    (a, b) =>
      a === undefined || (a.passed && !b.passed) || (a.passed === b.passed && b.ratio > a.ratio) ? b : a,
    undefined,
  );
  const failed = comparisons.filter((comparison) => !comparison.passed);
  if (worst !== undefined && failed.length > 0) {
    const more = failed.length > 1 ? ` (and ${failed.length - 1} more outputs)` : "";
    return { status: "fail", detail: describeComparison(worst) + more };
  }
  if (absent.length > 0) return { status: "not-yet", detail: `outputs not given: ${absent.join(", ")}` };
  if (missing !== undefined) return { status: "not-yet", detail: missing };
  if (worst === undefined)
    return { status: "not-yet", detail: "the test expects nothing that can be compared" };
  return { status: "pass", detail: describeComparison(worst) };
}

function describeComparison({ difference, ratio, detail }: Comparison): string {
  if (!Number.isFinite(ratio) && !Number.isFinite(difference)) return detail;
  if (difference === 0) return `worst |diff| 0 at ${detail}`;
  const multiple = Number.isFinite(ratio) ? `${ratio.toPrecision(2)}x tolerance` : "must be exact";
  return `worst |diff| ${difference.toExponential(1)} (${multiple}) at ${detail}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const place = error.stack?.split("\n").find((line) => /^\s+at /.test(line) && !line.includes("node:"));
  return `${error.name}: ${error.message}${place === undefined ? "" : ` (${place.trim()})`}`;
}
