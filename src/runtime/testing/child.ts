/** Runs a script in a fresh Node process, for tests of a whole process: memory, exit, missing packages. */
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const RUNTIME = fileURLToPath(new URL("..", import.meta.url));
const ROOT = join(RUNTIME, "..", "..");

/** What a child printed and how it ended. */
interface ChildResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The runtime as JavaScript files, which Node 20 can load without a bundler; inside the repository to find packages. */
export interface CompiledRuntime {
  /** Runs the body of an ES module, in which `load("native.ts")` imports a file of src/runtime. */
  run(body: string, options?: ChildOptions): Promise<ChildResult>;
  remove(): void;
}

interface ChildOptions {
  readonly nodeArguments?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Compiles src/errors.ts and src/runtime into a temporary folder. */
export function compileRuntime(): CompiledRuntime {
  const cache = join(ROOT, "node_modules", ".cache");
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, "lapidary-runtime-"));
  mkdirSync(join(folder, "runtime"));
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  transpile(join(RUNTIME, "..", "errors.ts"), folder);
  for (const name of readdirSync(RUNTIME)) {
    if (name.endsWith(".ts") && !name.endsWith(".test.ts")) {
      transpile(join(RUNTIME, name), join(folder, "runtime"));
    }
  }
  return {
    run: (body, options = {}) => run(folder, body, options),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function transpile(file: string, folder: string): void {
  const { outputText } = ts.transpileModule(readFileSync(file, "utf8"), {
    compilerOptions: {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.ESNext,
      rewriteRelativeImportExtensions: true,
    },
  });
  writeFileSync(join(folder, basename(file).replace(/\.ts$/, ".js")), outputText);
}

function run(folder: string, body: string, options: ChildOptions): Promise<ChildResult> {
  const script = join(mkdtempSync(join(folder, "script-")), "main.js");
  const prelude = [
    'import { readFileSync } from "node:fs";',
    'const load = (name) => import("../runtime/" + name.replace(/\\.ts$/, ".js"));',
    'const fixture = (name) => readFileSync("test/fixtures/onnx/" + name);',
  ];
  writeFileSync(script, [...prelude, body].join("\n"));
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [...(options.nodeArguments ?? []), script],
      { cwd: ROOT, env: { ...process.env, ...options.env }, maxBuffer: 1 << 24 },
      (_error, stdout, stderr) => {
        rmSync(dirname(script), { recursive: true, force: true });
        resolve({ code: child.exitCode, stdout, stderr });
      },
    );
  });
}
