import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { CheckpointError, InputError } from "../errors.ts";
import { GemmaBpe } from "./gemma-bpe.ts";
import { loadTokenizer } from "./load-tokenizer.ts";
import { GemmaTokenizer } from "./tokenizer.ts";

const folder = path.resolve(import.meta.dirname, "../../test/fixtures/tokenizer");
const temporary = await mkdtemp(path.join(tmpdir(), "tokenizer-"));
afterAll(() => rm(temporary, { recursive: true }));

async function copyWith(
  name: string,
  file: string,
  change: (json: Record<string, unknown>) => void,
): Promise<string> {
  const copy = path.join(temporary, name);
  await import("node:fs/promises").then((fs) => fs.mkdir(copy));
  for (const entry of await readdir(folder)) await copyFile(path.join(folder, entry), path.join(copy, entry));
  const json = JSON.parse(await readFile(path.join(copy, file), "utf8")) as Record<string, unknown>;
  change(json);
  await writeFile(path.join(copy, file), JSON.stringify(json));
  return copy;
}

describe("loadTokenizer", () => {
  it("writes the compact form, uses it, and replaces a damaged one", async () => {
    const cacheFile = path.join(temporary, "cache", "a.bin");
    const built = await loadTokenizer({ folder, cacheFile });
    expect(await readdir(path.dirname(cacheFile))).toEqual(["a.bin"]);
    const good = await readFile(cacheFile);
    const cached = await loadTokenizer({ folder: "/does/not/exist", cacheFile });
    expect(cached.settings).toEqual(built.settings);
    expect(cached.encode("Hello world")).toEqual(built.encode("Hello world"));
    const damaged = Buffer.from(good);
    damaged[damaged.length >> 1]! ^= 1;
    await writeFile(cacheFile, damaged);
    await loadTokenizer({ folder, cacheFile });
    expect(await readFile(cacheFile)).toEqual(good);
  });

  it("works where the cache can't be written", async () => {
    const cacheFile = path.join(folder, "tokenizer.json", "a.bin");
    expect((await loadTokenizer({ folder, cacheFile })).encode("one")).toHaveLength(3);
  });

  it("opens a GGUF file only when the cache has nothing", async () => {
    const cacheFile = path.join(temporary, "cache", "b.bin");
    await loadTokenizer({ folder, cacheFile });
    const gguf = () => {
      throw new Error("opened");
    };
    await loadTokenizer({ gguf, cacheFile });
    await expect(loadTokenizer({ gguf })).rejects.toThrow("opened");
  });

  it("follows the settings of tokenizer_config.json and of the caller", async () => {
    const bos = (await loadTokenizer({ folder })).bos_token_id!;
    const copy = await copyWith("both", "tokenizer_config.json", (json) => {
      Object.assign(json, { add_bos_token: true, add_eos_token: true, padding_side: "right" });
    });
    const both = await loadTokenizer({ folder: copy });
    expect(both.encode("")).toEqual([bos, both.eos_token_id]);
    expect(both.padding_side).toBe("right");
    // As in HF, naming one of the two turns the other off.
    const eosOnly = await loadTokenizer({ folder: copy, overrides: { add_eos_token: true } });
    expect(eosOnly.encode("")).toEqual([both.eos_token_id]);
    await expect(loadTokenizer({ folder, overrides: { padding_side: "up" as never } })).rejects.toThrow(
      InputError,
    );
    await expect(loadTokenizer({ folder, overrides: { padding: 1 } as never })).rejects.toThrow(InputError);
  });

  it("adds the tokens of added_tokens_decoder", async () => {
    const copy = await copyWith("added", "tokenizer_config.json", (json) => {
      json.added_tokens_decoder = { "513": { content: "<new>", special: true } };
      json.chat_template = [{ name: "default", template: "x" }];
    });
    await rm(path.join(copy, "chat_template.jinja"));
    const tokenizer = await loadTokenizer({ folder: copy });
    expect(tokenizer.encode("a<new>", { add_special_tokens: false }).at(-1)).toBe(513);
    expect(tokenizer.decode([513], { skip_special_tokens: true })).toBe("");
    expect(tokenizer.chat_template).toEqual({ default: "x" });
  });

  it("hands other structures to @huggingface/tokenizers", async () => {
    const copy = await copyWith("other", "tokenizer.json", (json) => {
      json.normalizer = { type: "Sequence", normalizers: [json.normalizer] };
    });
    const other = await loadTokenizer({ folder: copy });
    expect(other.engine).not.toBeInstanceOf(GemmaBpe);
    expect(other).not.toBeInstanceOf(GemmaTokenizer);
    const gemma = await loadTokenizer({ folder });
    const text = "Hello 한글 뷁 😀 world\n\n  <b>x</b> \u{13000}";
    const ids = gemma.encode(text);
    expect(other.encode(text)).toEqual(ids);
    expect(other.decode(ids)).toBe(gemma.decode(ids));
    expect(other.decode(ids, { skip_special_tokens: true })).toBe(text);
    expect(other.vocab_size).toBe(gemma.vocab_size);
    const decoder = other.decoder();
    const pieces = ids.map((id) => decoder.push(id));
    expect(pieces.join("") + decoder.flush()).toBe(gemma.decode(ids));
    expect(pieces.some((piece) => piece.includes("\ufffd"))).toBe(false);
  });

  it("names the file that is missing or broken", async () => {
    await expect(loadTokenizer({})).rejects.toThrow(CheckpointError);
    await expect(loadTokenizer({ folder: temporary })).rejects.toThrow(/no tokenizer\.json/);
    const broken = await copyWith("broken", "tokenizer.json", () => undefined);
    await writeFile(path.join(broken, "tokenizer.json"), "{");
    await expect(loadTokenizer({ folder: broken })).rejects.toThrow(/tokenizer\.json: not JSON/);
  });
});
