import { randomBytes } from "node:crypto";
import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { download, type ProgressInfo } from "../../src/checkpoints/download.ts";
import { cachedSnapshot, fetchSnapshot } from "../../src/checkpoints/hub.ts";
import { type ResolvedModel, type ResolveOptions, resolveModel } from "../../src/checkpoints/resolve.ts";
import { env } from "../../src/env.ts";
import { HubError } from "../../src/errors.ts";
import { COMMIT, gitSum, HubStandIn, QUICK, sha256 } from "./stand-in.ts";

const ID = "someone/tiny-gemma";
const WEIGHTS = randomBytes(200_000);
const FILES = {
  "config.json": '{"model_type": "gemma3_text"}',
  "tokenizer.json": "{}",
  "tokenizer_config.json": "{}",
  "model.safetensors": WEIGHTS,
  "README.md": "not wanted",
  "pytorch_model.bin": "not wanted",
};

let folder: string;
let hub: HubStandIn;

async function start(files: Record<string, string | Buffer> = FILES, id = ID): Promise<void> {
  hub = await HubStandIn.start(id, files);
  vi.stubEnv("HF_ENDPOINT", hub.endpoint);
}

function pull(options: ResolveOptions = {}, id = ID): Promise<ResolvedModel> {
  return resolveModel(id, { limits: QUICK, ...options });
}

async function failure(promise: Promise<unknown>): Promise<HubError> {
  const error = await promise.then(
    () => new Error("it did not fail"),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(HubError);
  return error as HubError;
}

function cached(...parts: string[]): string {
  return join(folder, "hub", "models--someone--tiny-gemma", ...parts);
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "lapidary-hub-"));
  for (const name of [
    "HF_TOKEN",
    "HF_HUB_OFFLINE",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_TOKEN_PATH",
  ]) {
    vi.stubEnv(name, "");
  }
  vi.stubEnv("HF_HOME", folder);
  vi.stubEnv("LAPIDARY_CACHE", join(folder, "lapidary"));
});

afterEach(async () => {
  await hub.stop();
  vi.unstubAllEnvs();
  env.allowRemoteModels = true;
  await rm(folder, { recursive: true, force: true });
});

describe("a repository of a Flax model", () => {
  const weight_map = {
    "a/kernel": "flax_model-00001-of-00002.msgpack",
    b: "flax_model-00002-of-00002.msgpack",
  };
  const flax = {
    "config.json": "{}",
    "flax_model.msgpack.index.json": JSON.stringify({ weight_map }),
    "flax_model-00001-of-00002.msgpack": "a",
    "flax_model-00002-of-00002.msgpack": "b",
  };

  it("is fetched where there is nothing better, and found again", async () => {
    await start(flax);
    const model = await pull();
    expect((await readdir(model.path)).sort()).toEqual(Object.keys(flax).sort());
    expect(model.description).toContain(`${ID} (Flax)`);
    expect((await pull({ local_files_only: true })).path).toBe(model.path);
  });

  it("is left where there is safetensors or GGUF", async () => {
    await start({ ...FILES, ...flax });
    expect((await readdir((await pull()).path)).filter((name) => name.includes("flax"))).toEqual([]);
    await hub.stop();
    await start({ ...flax, "model-Q4_K_M.gguf": WEIGHTS }, "someone/gguf");
    expect((await pull({}, "someone/gguf")).path).toMatch(/model-Q4_K_M\.gguf$/);
  });
});

describe("a repository of an adapter", () => {
  it("is fetched without what is no part of it, and found again", async () => {
    await start({ "adapter_config.json": "{}", "adapter_model.safetensors": WEIGHTS, "optimizer.pt": "no" });
    const { path } = await pull();
    expect((await readdir(path)).sort()).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
    expect((await pull({ local_files_only: true })).path).toBe(path);
  });
});

describe("a fresh download", () => {
  it("lays the files out as huggingface_hub does", async () => {
    await start();
    const model = await pull();
    expect(model).toMatchObject({ source: "hub", id: ID, revision: COMMIT });
    expect(model.path).toBe(cached("snapshots", COMMIT));
    expect(model.description).toContain("fetched now");
    expect((await readdir(model.path)).sort()).toEqual([
      "config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    expect(await readFile(cached("refs", "main"), "utf8")).toBe(COMMIT);
    const weights = join(model.path, "model.safetensors");
    expect((await lstat(weights)).isSymbolicLink()).toBe(true);
    expect(await readlink(weights)).toBe(join("..", "..", "blobs", sha256(WEIGHTS)));
    expect((await readFile(weights)).equals(WEIGHTS)).toBe(true);
    expect(await readlink(join(model.path, "config.json"))).toContain(
      gitSum(Buffer.from(FILES["config.json"])),
    );
    expect(await readdir(cached(".no_exist", COMMIT))).toContain("generation_config.json");
    expect((await readdir(cached("blobs"))).filter((name) => name.endsWith(".incomplete"))).toEqual([]);
    expect(await readdir(join(folder, "hub", ".locks", "models--someone--tiny-gemma"))).toEqual([]);
  });

  it("reports its progress as Transformers.js does", async () => {
    await start();
    const events: ProgressInfo[] = [];
    await pull({ progress_callback: (event) => events.push(event) });
    const ofWeights = events.filter((event) => "file" in event && event.file === "model.safetensors");
    expect(ofWeights.map(({ status }) => status).filter((status, i, all) => status !== all[i - 1])).toEqual([
      "initiate",
      "download",
      "progress",
      "done",
    ]);
    expect(ofWeights.at(-2)).toEqual({
      status: "progress",
      name: ID,
      file: "model.safetensors",
      progress: 100,
      loaded: WEIGHTS.length,
      total: WEIGHTS.length,
    });
  });

  it("takes the shards that the index names", async () => {
    const weight_map = { a: "model-00001-of-00002.safetensors", b: "model-00002-of-00002.safetensors" };
    await start({
      "config.json": "{}",
      "model.safetensors.index.json": JSON.stringify({ weight_map }),
      [weight_map.a]: "first",
      [weight_map.b]: "second",
      "other-00001-of-00002.safetensors": "not wanted",
    });
    const { path } = await pull();
    expect((await readdir(path)).filter((name) => name.endsWith(".safetensors"))).toEqual(
      Object.values(weight_map),
    );
    hub.seen.length = 0;
    expect((await pull()).path).toBe(path);
    expect(hub.seen).toEqual([]);
  });

  it("leaves the weights out when they are not wanted, and fetches them when they are", async () => {
    await start();
    const small = await pull({ weights: false });
    expect(small.path).toBe(cached("snapshots", COMMIT));
    expect((await readdir(small.path)).sort()).toEqual([
      "config.json",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    expect((await pull({ weights: false, local_files_only: true })).path).toBe(small.path);
    await expect(pull({ local_files_only: true })).rejects.toThrow(/is not in the cache/);
    const whole = await pull();
    expect(await readdir(whole.path)).toContain("model.safetensors");
    expect(hub.gets("/resolve/").filter(({ path: url }) => url.endsWith("/config.json"))).toHaveLength(1);
  });

  it("keeps a revision with weights when a newer one was fetched without", async () => {
    await start();
    await pull();
    hub.commit = COMMIT.replaceAll("0", "f");
    await pull({ weights: false, refresh: true });
    expect((await pull({ local_files_only: true })).revision).toBe(COMMIT);
  });

  it("goes into a subfolder", async () => {
    await start({ "config.json": "{}", "small/config.json": "{}", "small/model.safetensors": WEIGHTS });
    const { path } = await pull({ subfolder: "small" });
    expect(path).toBe(cached("snapshots", COMMIT, "small"));
    expect(await readlink(join(path, "config.json"))).toMatch(/^\.\.\/\.\.\/\.\.\/blobs\//);
  });

  it("asks file by file where a mirror has no listing", async () => {
    await start();
    hub.mischief.noTree = true;
    await pull();
    expect(await readlink(cached("snapshots", COMMIT, "model.safetensors"))).toContain(sha256(WEIGHTS));
    expect(hub.seen.filter(({ method, server }) => method === "HEAD" && server === "cdn")).toEqual([]);
  });

  it("links otherwise where symbolic links are refused", async () => {
    await start();
    const linker = (): Promise<void> => Promise.reject(Object.assign(new Error("no"), { code: "EPERM" }));
    const { path } = await fetchSnapshot({ id: ID, limits: QUICK, linker });
    expect((await lstat(join(path, "model.safetensors"))).isSymbolicLink()).toBe(false);
    expect((await readFile(join(path, "model.safetensors"))).equals(WEIGHTS)).toBe(true);
  });
});

describe("GGUF repositories", () => {
  const files = {
    "tiny-BF16.gguf": "bf16",
    "tiny-Q4_K_M.gguf": "q4",
    "tiny-UD-Q4_K_M.gguf": "another",
    "tiny-Q8_0-00001-of-00002.gguf": "q8a",
    "tiny-Q8_0-00002-of-00002.gguf": "q8b",
    "mmproj-F16.gguf": "tower",
  };

  it.each([
    [ID, "q4"],
    [`${ID}:q4_k_m`, "q4"],
    [`${ID}:BF16`, "bf16"],
    [`${ID}:Q8_0`, "q8a"],
    [`${ID}/tiny-BF16.gguf`, "bf16"],
  ])("%s", async (id, content) => {
    await start(files);
    const { path } = await pull({}, id);
    expect(await readFile(path, "utf8")).toBe(content);
    hub.seen.length = 0;
    expect((await pull({}, id)).path).toBe(path);
    expect(hub.seen).toEqual([]);
  });

  it("fetches all parts of a split file", async () => {
    await start(files);
    const { path } = await pull({}, `${ID}:Q8_0`);
    expect((await readdir(join(path, ".."))).sort()).toEqual([
      "tiny-Q8_0-00001-of-00002.gguf",
      "tiny-Q8_0-00002-of-00002.gguf",
    ]);
  });

  it("names what there is when the quantisation is not there", async () => {
    await start(files);
    const error = await failure(pull({}, `${ID}:Q2_K`));
    expect(error.message).toMatch(/no \.gguf file is quantised as Q2_K; there are: tiny-BF16\.gguf/);
  });
});

describe("the cache", () => {
  it("answers without the network", async () => {
    await start();
    const first = await pull();
    hub.seen.length = 0;
    const second = await pull();
    expect(second.path).toBe(first.path);
    expect(second.description).toContain("cached");
    expect(second.notice).toBeUndefined();
    expect(hub.seen).toEqual([]);
  });

  it("is enough offline, even half known", async () => {
    await start();
    await pull();
    await rm(cached(".no_exist"), { recursive: true }); // as Python may leave it
    await hub.stop();
    for (const options of [{ local_files_only: true }, {}]) {
      expect((await pull(options)).path).toBe(cached("snapshots", COMMIT));
    }
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    expect((await pull()).revision).toBe(COMMIT);
    expect((await pull({ revision: COMMIT.slice(0, 8) })).revision).toBe(COMMIT);
  });

  it("is all there is offline", async () => {
    await start();
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    expect((await failure(pull())).message).toMatch(/is not in the cache .*hub, and HF_HUB_OFFLINE/);
    vi.stubEnv("HF_HUB_OFFLINE", "");
    expect((await failure(pull({ local_files_only: true }))).message).toContain("local_files_only");
    env.allowRemoteModels = false;
    expect((await failure(pull())).message).toContain("env.allowRemoteModels");
    expect(hub.seen).toEqual([]);
  });

  it("is completed where a file is missing", async () => {
    await start();
    const { path } = await pull();
    await rm(cached("blobs", sha256(WEIGHTS)));
    await rm(join(path, "tokenizer.json"));
    expect(await cachedSnapshot({ id: ID })).toBeUndefined();
    hub.seen.length = 0;
    await pull();
    expect((await readFile(join(path, "model.safetensors"))).equals(WEIGHTS)).toBe(true);
    expect(hub.gets("/resolve/").map(({ path: url }) => url.split("/").at(-1))).toEqual([
      "model.safetensors",
    ]);
  });

  it("follows a branch when told to", async () => {
    await start();
    await pull();
    hub.commit = COMMIT.replace("0", "f");
    expect((await pull()).revision).toBe(COMMIT);
    const moved = await pull({ refresh: true });
    expect(moved.revision).toBe(hub.commit);
    expect(moved.description).toContain("cached"); // the same blobs
    expect(await readFile(cached("refs", "main"), "utf8")).toBe(hub.commit);
  });
});

describe("bad networks", () => {
  it("resumes after dropped connections", async () => {
    await start();
    hub.mischief.dropAfter = [50_000, 30_000];
    await pull();
    expect((await readFile(cached("blobs", sha256(WEIGHTS)))).equals(WEIGHTS)).toBe(true);
    const ranges = hub.seen.filter(({ server }) => server === "cdn").map(({ range }) => range);
    expect(ranges).toEqual([undefined, "bytes=50000-", "bytes=80000-"]);
  });

  it("resumes what an earlier process left", async () => {
    await start();
    await mkdir(cached("blobs"), { recursive: true });
    await writeFile(cached("blobs", `${sha256(WEIGHTS)}.incomplete`), WEIGHTS.subarray(0, 120_000));
    await pull();
    expect(hub.seen.filter(({ server }) => server === "cdn").map(({ range }) => range)).toEqual([
      "bytes=120000-",
    ]);
    expect((await readFile(cached("blobs", sha256(WEIGHTS)))).equals(WEIGHTS)).toBe(true);
  });

  it("starts again where a left file is not a beginning, or ranges are ignored", async () => {
    await start();
    hub.mischief.ignoreRange = true;
    await mkdir(cached("blobs"), { recursive: true });
    await writeFile(cached("blobs", `${sha256(WEIGHTS)}.incomplete`), Buffer.alloc(1000));
    await pull();
    expect((await readFile(cached("blobs", sha256(WEIGHTS)))).equals(WEIGHTS)).toBe(true);
    await rm(cached("blobs", sha256(WEIGHTS)));
    hub.mischief.ignoreRange = false;
    await writeFile(cached("blobs", `${sha256(WEIGHTS)}.incomplete`), Buffer.alloc(1000));
    await pull();
    expect((await readFile(cached("blobs", sha256(WEIGHTS)))).equals(WEIGHTS)).toBe(true);
  });

  it("drops stalled bodies", async () => {
    await start();
    hub.mischief.stallAfter = 70_000;
    await pull();
    expect(hub.seen.filter(({ server }) => server === "cdn").at(-1)?.range).toBe("bytes=70000-");
  });

  it("tries again when the hub is busy, and gives up", async () => {
    await start();
    hub.mischief.busy = [503, 429];
    await pull();
    await rm(cached(), { recursive: true });
    hub.mischief.busy = [502, 502, 502, 502];
    expect((await failure(pull())).status).toBe(502);
  });

  it("keeps the part and says so when the connection keeps breaking", async () => {
    await start();
    hub.mischief.dropAfter = [60_000, 0, 0, 0, 0];
    expect((await failure(pull())).message).toContain("at byte 60000");
    expect((await stat(cached("blobs", `${sha256(WEIGHTS)}.incomplete`))).size).toBe(60_000);
    await expect(stat(cached("refs", "main"))).rejects.toThrow();
  });

  it("refuses wrong bytes", async () => {
    await start();
    hub.mischief.corrupt = true;
    const error = await failure(pull());
    expect(error.message).toContain(`wrong checksum (sha256): expected ${sha256(WEIGHTS)}`);
    expect((await readdir(cached("blobs"))).filter((name) => name.startsWith(sha256(WEIGHTS)))).toEqual([]);
  });

  it("stops at once when told to, and goes on later", async () => {
    await start();
    hub.mischief.slow = 20;
    const controller = new AbortController();
    const reason = new Error("enough");
    const pending = pull({
      signal: controller.signal,
      progress_callback: (event) => {
        if (event.status === "progress" && event.file === "model.safetensors") controller.abort(reason);
      },
    });
    await expect(pending).rejects.toBe(reason);
    const left = (await stat(cached("blobs", `${sha256(WEIGHTS)}.incomplete`))).size;
    expect(left).toBeGreaterThan(0);
    delete hub.mischief.slow;
    await pull();
    expect(hub.seen.at(-1)?.range).toBe(`bytes=${left}-`);
    await expect(pull({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });

  it("fetches once for two who ask at the same time", async () => {
    await start();
    hub.mischief.slow = 2;
    const [one, two] = await Promise.all([pull(), pull()]);
    expect(one.path).toBe(two.path);
    expect(hub.seen.filter(({ server }) => server === "cdn")).toHaveLength(1);
    expect((await readFile(join(one.path, "model.safetensors"))).equals(WEIGHTS)).toBe(true);
  });
});

describe("accounts", () => {
  it("sends the token to the hub and to nobody else", async () => {
    await start();
    await writeFile(join(folder, "token"), "hf_secret\n");
    hub.mischief.token = "hf_secret";
    hub.mischief.refusal = { status: 401 };
    await pull();
    expect(
      new Set(hub.seen.filter(({ server }) => server === "hub").map((seen) => seen.authorization)),
    ).toEqual(new Set(["Bearer hf_secret"]));
    expect(hub.seen.filter(({ server }) => server === "cdn").map((seen) => seen.authorization)).toEqual([
      undefined,
    ]);
  });

  it.each([401, 403])("passes the hub's words on for %d", async (status) => {
    await start(FILES, "google/gemma-3-270m");
    hub.mischief.refusal = {
      status,
      header: "Access to model google/gemma-3-270m is restricted.",
      filesOnly: true,
    };
    const error = await failure(pull({}, "google/gemma-3-270m"));
    expect(error.status).toBe(status);
    expect(error.message).toContain("Access to model google/gemma-3-270m is restricted.");
    expect(error.message).toContain(`${hub.endpoint}/google/gemma-3-270m`);
    expect(error.message).toContain("hf auth login");
    expect(error.message).toContain("HF_TOKEN");
    expect(error.message).toContain('"gemma-3-270m"');
  });

  it("says when there is no such model or revision", async () => {
    await start();
    const error = await failure(pull({}, "google/gemma-3-270n"));
    expect(error.status).toBe(404);
    expect(error.message).toMatch(/Repository not found.*did you mean "google\/gemma-3-270m"/s);
  });

  it("names what a repository without readable weights holds", async () => {
    await start({ "config.json": "{}", "pytorch_model.bin": "x" });
    expect((await failure(pull())).message).toMatch(/no weights that lapidary reads.*pytorch_model\.bin/);
  });
});

describe("hostile servers", () => {
  it.each(["../../../escape.gguf", "/etc/escape.gguf", "a\\..\\escape.gguf", "C:escape.gguf", "a/./b.gguf"])(
    "refuses the file name %s",
    async (name) => {
      await start({ [name]: "x" });
      expect((await failure(pull())).message).toContain("refusing the file name");
      expect(await readdir(folder)).not.toContain("escape.gguf");
    },
  );

  it("refuses shards outside the repository", async () => {
    const index = JSON.stringify({ weight_map: { a: "../../../../escape.safetensors" } });
    await start({ "config.json": "{}", "model.safetensors.index.json": index });
    expect((await failure(pull())).message).toContain("refusing the file name");
  });

  it("refuses a commit that is a path", async () => {
    await start();
    hub.commit = "../../../../escape";
    expect((await failure(pull())).message).toContain("commit");
  });

  it("takes neither more than announced nor what does not fit on the disk", async () => {
    await start();
    const target = join(folder, "file");
    const request = {
      url: `${hub.endpoint}/${ID}/resolve/${COMMIT}/config.json`,
      target,
      label: "file",
      limits: QUICK,
    };
    const partial = `${target}.incomplete`;
    expect((await failure(download({ ...request, partial, size: 10 }))).message).toContain(
      "the server offers 29 bytes",
    );
    expect((await failure(download({ ...request, partial, maxSize: 10 }))).message).toContain(
      "the allowed 10",
    );
    expect((await failure(download({ ...request, partial, size: 1e15 }))).message).toMatch(
      /1000000000 MB are needed/,
    );
    expect(await readdir(folder)).toEqual([]);
    await download({ ...request, partial });
    expect(await readFile(target, "utf8")).toBe(FILES["config.json"]);
  });

  it("refuses to write where it may not", async () => {
    await start();
    const path = join(folder, "a-file");
    await writeFile(path, "");
    expect((await failure(pull({ cache_dir: path }))).message).toContain(
      "a file is where a folder should be",
    );
  });
});
