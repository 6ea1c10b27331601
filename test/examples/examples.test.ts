import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { realModel } from "../real/weights.ts";
import { writeSentenceFolder } from "../support/sentence-folder.ts";
import { writeTinyModel } from "../support/tiny-model.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const EXAMPLES = join(ROOT, "examples");

/** Sizes that fit the tokenizer, and groups of 128. */
const SIZES = {
  vocab_size: 520,
  hidden_size: 128,
  intermediate_size: 256,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 1,
  head_dim: 32,
};
const LLM = "LLMs generate text through a process known as";

type Model = "gemma" | "gemma3" | "sentences" | "images" | "gemma3n";

/** Which tiny model each example runs on, what it must print, and what it is given after the model. */
const PRINTS: Readonly<Record<string, readonly [Model, string | RegExp, ...string[]]>> = {
  "cache-fork.ts": ["gemma3", /The four seasons[\s\S]*In spring[\s\S]*The four seasons[\s\S]*In winter/],
  "chat-stream.ts": ["gemma3", /role: 'assistant'/],
  "embeddings.ts": ["sentences", /^\[ \[ -?[\d.]+, -?[\d.]+, -?[\d.]+ \] \]/],
  "gemma-attention-mask.ts": ["gemma", "Attention Matrix"],
  "gemma-auto-model.ts": ["gemma", LLM],
  "gemma-cache.ts": ["gemma", /LLMs generate[\s\S]*\d+ positions held/],
  "gemma-command-line.sh": ["gemma", /\S/],
  "gemma-pipeline.ts": ["gemma", LLM],
  "gemma-quantized.ts": ["gemma", /LLMs generate[\s\S]*nf4/],
  "gemma3-image-auto-model.ts": ["images", /What is shown in this image\?\nmodel\n/],
  "gemma3-image-mask.ts": ["images", /<start_of_image>[\s\S]*<end_of_image>/],
  "gemma3-image-pipeline.ts": ["images", "<start_of_image> What is shown in this image?"],
  "gemma3-image-quantized.ts": ["images", /What is shown in this image\?\nmodel\n/],
  "gemma3-images.ts": ["images", /^\d+ images and crops[\s\S]*Which image is cuter\?/],
  "gemma3-quantized.ts": ["gemma3", /Why is the sky blue\?[\s\S]*int4/],
  "gemma3-text.ts": ["gemma3", "Plants create energy through a process known as"],
  "gemma3n-command-line.sh": ["gemma3n", /\S/],
  "gemma3n-image-and-audio.ts": ["gemma3n", /^\d+ tokens with/, "images/shapes.png", "sounds/clip1.wav"],
  "gemma3n-image-auto-model.ts": ["gemma3n", /What is shown in this image\?\nmodel\n/, "images/alpha.png"],
  "gemma3n-image-pipeline.ts": [
    "gemma3n",
    "<start_of_image> What is shown in this image?",
    "images/shapes.png",
  ],
  "gemma3n-images.ts": [
    "gemma3n",
    /Which image is cuter\?\nmodel\n/,
    "images/shapes.png",
    "images/noise.png",
  ],
  "gemma3n-ko-image-auto-model.ts": ["gemma3n", /이 이미지에 무엇이 보이나요\?\nmodel\n/, "images/alpha.png"],
  "gemma3n-ko-image-pipeline.ts": ["gemma3n", "이 이미지에 무엇이 보이나요?", "images/shapes.png"],
  "gemma3n-ko-images.ts": [
    "gemma3n",
    /어떤 이미지가 더 귀엽습니까\?\nmodel\n/,
    "images/shapes.png",
    "images/noise.png",
  ],
  "gemma3n-slice.ts": ["gemma3n", /layers: 10[\s\S]*32[\s\S]*known as/, "32"],
  "gemma3n-transcription.ts": ["gemma3n", /^\{\s*text: /, "sounds/clip0.wav"],
  "json-output.ts": ["gemma3", /\{ name: .*, population: -?\d+ \}/],
};

const IMAGES = join(ROOT, "test/fixtures/multimodal/gemma3_mm");
/** Of images and sounds too: it comes with the checks of others, not with the sources. */
const GEMMA3N = resolve(ROOT, "../shared/golden/gemma3n_mm");

/** Examples that need a chat template, or are about another model. */
const CHATS = ["chat-stream.ts", "gemma3-quantized.ts", "json-output.ts", "embeddings.ts"];

const real = await realModel();
const embedding = process.env["LAPIDARY_TEST_EMBEDDING"];

describe.skipIf(process.platform === "win32")("examples", () => {
  const folder = mkdtempSync(join(tmpdir(), "lapidary-examples-"));
  beforeAll(async () => {
    await writeTinyModel(join(folder, "gemma"), { model_type: "gemma", ...SIZES });
    const gemma3 = { model_type: "gemma3_text", ...SIZES, sliding_window: 8, query_pre_attn_scalar: 32 };
    await writeTinyModel(join(folder, "gemma3"), gemma3);
    writeSentenceFolder(join(folder, "sentences"), { hidden_size: 20 });
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("are all run here", () => {
    expect(readdirSync(EXAMPLES).sort()).toEqual(Object.keys(PRINTS).sort());
  });

  const runs = Object.entries(PRINTS);
  it.each(runs.filter(([, [model]]) => model !== "gemma3n"))("%s", (name, [model, printed]) => {
    const isAboutImages = model === "images";
    const args = isAboutImages ? ["shapes", "wide"].map((image) => join(IMAGES, `images/${image}.png`)) : [];
    const path = isAboutImages ? join(IMAGES, "model") : join(folder, model);
    expect(run(name, path, join(folder, "cache"), args)).toMatch(printed);
  });

  describe.skipIf(!existsSync(GEMMA3N))("of Gemma 3n", () => {
    it.each(runs.filter(([, [model]]) => model === "gemma3n"))("%s", (name, [, printed, ...given]) => {
      const args = given.map((each) => (each.includes("/") ? join(GEMMA3N, each) : each));
      expect(run(name, join(GEMMA3N, "model"), join(folder, "cache"), args)).toMatch(printed);
    });
  });

  /** Those that a base model can answer, on the real weights where they are at hand. */
  const base = Object.keys(PRINTS).filter(
    (name) => !CHATS.includes(name) && !["images", "gemma3n"].includes(PRINTS[name]![0]),
  );
  it.skipIf(real === undefined).each(base)("%s on the real 270M", (name) => {
    expect(run(name, real!)).toMatch(PRINTS[name]![1]);
  });

  it.skipIf(embedding === undefined)("embeddings.ts on the real EmbeddingGemma", () => {
    const [[venus, mars, saturn]] = JSON.parse(run("embeddings.ts", embedding!)) as [number[]];
    expect(mars).toBeGreaterThan(Math.max(venus!, saturn!));
  });
});

/** What an example prints; the real weights keep the usual cache. */
function run(
  name: string,
  model: string,
  cache = process.env["LAPIDARY_CACHE"] ?? "",
  args: string[] = [],
): string {
  const file = join(EXAMPLES, name);
  const [command, start] = name.endsWith(".sh")
    ? ["sh", [file]]
    : [process.execPath, ["--import", "tsx", file]];
  const { stdout, stderr, status } = spawnSync(command, [...start, model, ...args], {
    cwd: ROOT,
    encoding: "utf8",
    env: { ...process.env, LAPIDARY_CACHE: cache, HF_HUB_OFFLINE: "1" },
    timeout: 110_000,
  });
  expect(`${stderr}${status}`).toMatch(/0$/);
  return stdout;
}
