import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, expect, it } from "vitest";

const ROOT = resolve(import.meta.dirname, "../..");
const TINY = join(ROOT, "test/fixtures/golden-h16/gemma3_text/model");
const folder = mkdtempSync(join(tmpdir(), "lapidary-package-"));
afterAll(() => rmSync(folder, { recursive: true }));

it("the packed tarball holds what it needs, imports, and runs", () => {
  const packed = JSON.parse(
    execFileSync("npm", ["pack", "--json", "--pack-destination", folder], {
      cwd: ROOT,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }),
  ) as
    | { filename: string; files: { path: string }[] }[]
    | Record<string, { filename: string; files: { path: string }[] }>;
  const { filename, files } = Object.values(packed)[0]!;
  const paths = files.map((file) => file.path);
  expect(paths).toEqual(
    expect.arrayContaining([
      "LICENSE",
      "NOTICE",
      "README.md",
      "dist/index.js",
      "dist/index.d.ts",
      "dist/cli/main.js",
    ]),
  );
  expect(paths.filter((path) => /\.test\.|^src\/|^test\//.test(path))).toEqual([]);
  const modules = join(folder, "node_modules");
  mkdirSync(join(modules, "lapidary"), { recursive: true });
  execFileSync("tar", [
    "-xzf",
    join(folder, filename),
    "-C",
    join(modules, "lapidary"),
    "--strip-components=1",
  ]);
  // Its dependencies are those of this repository: nothing is fetched.
  symlinkSync(join(ROOT, "node_modules"), join(modules, "lapidary", "node_modules"));
  writeFileSync(
    join(folder, "user.mjs"),
    `import { AutoModelForCausalLM, AutoTokenizer, InputError } from "lapidary";
     const tokenizer = await AutoTokenizer.from_pretrained(process.argv[2]);
     const model = await AutoModelForCausalLM.from_pretrained(process.argv[2]);
     const output = await model.generate({ ...tokenizer("Hello world"), max_new_tokens: 4, do_sample: false, eos_token_id: [] });
     console.log(JSON.stringify({ dims: output.dims, error: typeof InputError }));
     await model.dispose();`,
  );
  const env = { ...process.env, LAPIDARY_CACHE: join(folder, "cache") };
  const printed = execFileSync(process.execPath, ["user.mjs", TINY], { cwd: folder, encoding: "utf8", env });
  const { dims, error } = JSON.parse(printed) as { dims: number[]; error: string };
  expect(dims[0]).toBe(1);
  expect(dims[1]).toBeGreaterThan(4);
  expect(error).toBe("function");
});
