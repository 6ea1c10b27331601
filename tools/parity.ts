/**
 * Checks lapidary against a parity set, through its public API only:
 *
 *     npm run parity -- DIR [CASE…] [--dtype fp32] [--tokenizer DIR] [--engine native|node] [--config FILE]
 *
 * DIR is a set (a folder of cases) or one case. Prints a line a test and ends with
 * "parity: N passed, N failed, N not-yet"; exit code 1 when any failed, 2 when the set cannot be read.
 */
import { existsSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import type { PublicApi } from "./parity/api.ts";
import { CaseRunner, type RunOptions } from "./parity/run.ts";
import { findCases, readCase } from "./parity/test-set.ts";

const USAGE =
  "usage: npm run parity -- DIR [CASE…] [--dtype fp32] [--tokenizer DIR] [--engine native|node] [--config FILE]";

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      dtype: { type: "string", default: "fp32" },
      tokenizer: { type: "string" },
      engine: { type: "string" },
      config: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  const [directory, ...names] = positionals;
  if (values.help === true || directory === undefined) {
    console.log(USAGE);
    return values.help === true ? 0 : 2;
  }
  if (values.engine !== undefined) {
    if (!["native", "node"].includes(values.engine))
      throw new Error(`--engine ${values.engine}: native or node`);
    // Read by the runtime when it makes its first session, so it must be set before the package is loaded.
    process.env.LAPIDARY_ENGINE = values.engine;
  }
  const options: RunOptions = {
    dtype: values.dtype,
    ...(values.tokenizer === undefined ? {} : { tokenizer: values.tokenizer }),
    ...(values.config === undefined ? {} : { config: values.config }),
  };
  const folders = await findCases(directory, names);
  return (await runAll(await loadPackage(), folders, options)) ? 0 : 1;
}

async function runAll(api: PublicApi, folders: readonly string[], options: RunOptions): Promise<boolean> {
  const count = { pass: 0, fail: 0, "not-yet": 0 };
  for (const folder of folders) {
    const runner = new CaseRunner(api, await readCase(folder), options);
    try {
      for (const variant of runner.variants()) {
        const { status, label, detail } = await runner.run(variant);
        count[status]++;
        console.log(`${status.padEnd(7)}  ${label}  ${detail}`);
      }
    } finally {
      await runner.dispose();
    }
  }
  console.log(`parity: ${count.pass} passed, ${count.fail} failed, ${count["not-yet"]} not-yet`);
  return count.fail === 0;
}

/** The package's source, or whatever module LAPIDARY_PARITY_API names (a build, for instance). */
async function loadPackage(): Promise<PublicApi> {
  const named = process.env.LAPIDARY_PARITY_API;
  const url = named === undefined ? new URL("../src/index.ts", import.meta.url) : pathToFileURL(named);
  if (!existsSync(url)) {
    console.log(`${url.pathname} does not exist: nothing can be called yet`);
    return {};
  }
  return (await import(url.href)) as PublicApi;
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    console.error(`parity: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 2;
  },
);
