import { existsSync } from "node:fs";
import { copyFile, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

/** Which special tokens a tokenizer is to add around a text. */
export type TokenizerSetting = "chat" | "embedding";

/** Temporary twins of checkpoint folders that differ in one file. Files are links, so a twin costs nothing. */
export class Twins {
  readonly #made = new Map<string, Promise<string>>();

  /** `folder` with its file `configFile` in the place of config.json. */
  withConfig(folder: string, configFile: string): Promise<string> {
    return this.#once(`${folder}\n${configFile}`, async () => {
      const twin = await linkAll(folder, ["config.json", configFile]);
      await link(path.join(folder, configFile), path.join(twin, "config.json"));
      return twin;
    });
  }

  /**
   * A released tokenizer as the tests without checkpoint mean it: <bos> in front ("chat"), or <bos> and <eos> around
   * the text and padding on the right ("embedding"). Copies of tokenizer.json differ in just this.
   */
  withTokenizerSetting(folder: string, setting: TokenizerSetting): Promise<string> {
    return this.#once(`${folder}\n${setting}`, async () => {
      const twin = await linkAll(folder, ["tokenizer.json", "tokenizer_config.json"]);
      const tokenizer = await readJson(path.join(folder, "tokenizer.json"));
      tokenizer.post_processor = postProcessor(tokenizer, setting);
      await writeFile(path.join(twin, "tokenizer.json"), JSON.stringify(tokenizer));
      const configFile = path.join(folder, "tokenizer_config.json");
      const config = existsSync(configFile) ? await readJson(configFile) : {};
      config.add_bos_token = true;
      config.add_eos_token = setting === "embedding";
      if (setting === "embedding") Object.assign(config, { padding_side: "right", eos_token: "<eos>" });
      await writeFile(path.join(twin, "tokenizer_config.json"), JSON.stringify(config));
      return twin;
    });
  }

  /** Removes all twins. */
  async dispose(): Promise<void> {
    const made = [...this.#made.values()];
    this.#made.clear();
    for (const twin of made) await rm(await twin, { recursive: true, force: true });
  }

  #once(key: string, make: () => Promise<string>): Promise<string> {
    const known = this.#made.get(key);
    if (known !== undefined) return known;
    const made = make();
    this.#made.set(key, made);
    return made;
  }
}

type Json = Record<string, unknown>;

async function readJson(file: string): Promise<Json> {
  return JSON.parse(await readFile(file, "utf8")) as Json;
}

async function linkAll(folder: string, except: readonly string[]): Promise<string> {
  const twin = await mkdtemp(path.join(tmpdir(), "lapidary-parity-"));
  for (const name of await readdir(folder)) {
    if (!except.includes(name)) await link(path.join(folder, name), path.join(twin, name));
  }
  return twin;
}

/** A symbolic link, or a copy where the system allows none. */
async function link(target: string, place: string): Promise<void> {
  await symlink(path.resolve(target), place).catch(() => copyFile(target, place));
}

function postProcessor(tokenizer: Json, setting: TokenizerSetting): Json {
  const special = (token: string, type: number): Json => ({ SpecialToken: { id: token, type_id: type } });
  const sequence = (id: string, type: number): Json => ({ Sequence: { id, type_id: type } });
  const around = (id: string, type: number): Json[] => [
    special("<bos>", type),
    sequence(id, type),
    ...(setting === "embedding" ? [special("<eos>", type)] : []),
  ];
  const used = setting === "embedding" ? ["<bos>", "<eos>"] : ["<bos>"];
  return {
    type: "TemplateProcessing",
    single: around("A", 0),
    pair: [...around("A", 0), ...around("B", 1)],
    special_tokens: Object.fromEntries(
      used.map((token) => [token, { id: token, ids: [idOf(tokenizer, token)], tokens: [token] }]),
    ),
  };
}

function idOf(tokenizer: Json, token: string): number {
  const added = tokenizer.added_tokens as readonly { id: number; content: string }[];
  const found = added.find((entry) => entry.content === token);
  if (found === undefined) throw new Error(`tokenizer.json has no added token ${token}`);
  return found.id;
}
