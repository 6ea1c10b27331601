import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { decode } from "fast-png";
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { ggufBytes } from "../../test/checkpoints/files.ts";
import { tinyGemma3 } from "../../test/checkpoints/tiny-gemma3-gguf.ts";
import { env } from "../env.ts";
import { ConfigError, InputError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import { AttentionMaskPicture } from "./attention-mask-picture.ts";
import { AttentionMaskVisualizer } from "./attention-mask-visualizer.ts";
import { AutoTokenizer } from "./tokenizers.ts";

interface Printed {
  readonly config: Readonly<Record<string, unknown>>;
  readonly text: string;
  readonly tokens?: readonly string[];
  readonly printed?: string;
  readonly count?: number;
  readonly sha256?: string;
}
interface Masks {
  readonly config: Readonly<Record<string, unknown>>;
  readonly attention_mask: number[][];
  readonly full_attention: string[][];
  readonly sliding_attention: string[][];
}

/** From transformers 5.18: tools/oracle/attention_masks.py. */
const FIXTURES = resolve(import.meta.dirname, "../../test/fixtures");
const ORACLE = JSON.parse(await readFile(join(FIXTURES, "attention-masks.json"), "utf8")) as {
  readonly printed: readonly Printed[];
  readonly masks: readonly Masks[];
};
const QUIET = { print: false };
const WINDOW = { config: { model_type: "gemma3_text", sliding_window: 2 } };

const localModelPath = env.localModelPath;
const folder = await mkdtemp(join(tmpdir(), "lapidary-masks-"));
// The oracle's title says "model".
beforeEach(() => {
  env.localModelPath = join(FIXTURES, "golden-h16/gemma3_text");
});
afterEach(() => {
  env.localModelPath = localModelPath;
});
afterAll(() => rm(folder, { recursive: true }));

describe("AttentionMaskVisualizer", () => {
  it.each(ORACLE.printed)("prints what HF prints: $config, $text", async (expected) => {
    const visualizer = new AttentionMaskVisualizer("model", { config: expected.config });
    const { tokens, matrix, printed } = await visualizer(expected.text, QUIET);
    if (expected.sha256 === undefined) {
      expect(tokens).toEqual(expected.tokens);
      expect(printed).toBe(expected.printed);
    } else {
      expect(tokens.length).toBe(expected.count);
      expect(createHash("sha256").update(printed).digest("hex")).toBe(expected.sha256);
    }
    // <bos> has a row and a column, but no label.
    expect(matrix.dims).toEqual([tokens.length + 1, tokens.length + 1]);
  });

  it("returns the matrices of what it drew", async () => {
    const { tokens, matrix, sliding_window_matrix } = await new AttentionMaskVisualizer("model", WINDOW)(
      "a e",
      QUIET,
    );
    expect(tokens).toEqual(["a", "▁", "e"]);
    expect(matrix.tolist()).toEqual([
      [1, 0, 0, 0],
      [1, 1, 0, 0],
      [1, 1, 1, 0],
      [1, 1, 1, 1],
    ]);
    expect(sliding_window_matrix?.tolist()).toEqual([
      [1, 0, 0],
      [1, 1, 0],
      [0, 1, 1],
    ]);
    const full = await new AttentionMaskVisualizer("model", { config: { model_type: "gemma" } })("a", QUIET);
    expect(full.sliding_window_matrix).toBeUndefined();
  });

  it("shows that a bidirectional model looks both ways", async () => {
    const config = { ...WINDOW.config, use_bidirectional_attention: true };
    const picture = await new AttentionMaskVisualizer("model", { config })("a e", QUIET);
    expect(picture.matrix.data).toEqual(new Uint8Array(16).fill(1));
    expect(picture.sliding_window_matrix?.tolist()).toEqual([
      [1, 1, 0],
      [1, 1, 1],
      [0, 1, 1],
    ]);
  });

  it("prints to standard output, to a stream, or not at all", async () => {
    const stdout = vi.spyOn(process.stdout, "write").mockReturnValue(true);
    try {
      const { printed } = await new AttentionMaskVisualizer("model", WINDOW)("a");
      expect(stdout.mock.calls).toEqual([[printed]]);
      const pieces: string[] = [];
      const stream = { write: (text: string) => pieces.push(text) };
      const visualizer = new AttentionMaskVisualizer("model", { ...WINDOW, stream, color: false });
      const plain = await visualizer("a");
      await visualizer("a", QUIET);
      expect(pieces).toEqual([plain.printed]);
      expect(plain.printed).not.toContain("\u001b");
      expect(plain.printed).toContain("\n'a':  0 ■    |    ■\n");
      expect((await visualizer("a", { color: true })).printed).toBe(printed);
      expect(stdout).toHaveBeenCalledTimes(1);
    } finally {
      stdout.mockRestore();
    }
  });

  it("reads configuration and tokenizer from a GGUF file's metadata", async () => {
    const file = join(folder, "tiny.gguf");
    const bytes = Array.from(
      { length: 256 },
      (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
    );
    const tokens = ["<pad>", "<eos>", "<bos>", "<unk>", ...bytes, "▁", "a", "🙂", "▁a"];
    const vocabulary = {
      "tokenizer.ggml.model": { string: "llama" },
      "tokenizer.ggml.tokens": { array: tokens.map((string) => ({ string })) },
      "tokenizer.ggml.scores": { array: tokens.map((_, i) => ({ f32: -i })) },
      "tokenizer.ggml.token_type": { array: tokens.map((_, i) => ({ i32: i < 4 ? 3 : i < 260 ? 6 : 1 })) },
    };
    await writeFile(file, ggufBytes(tinyGemma3(vocabulary)));
    const picture = await new AttentionMaskVisualizer(file)(" a🙂", QUIET);
    expect(picture.tokens).toEqual(["▁a", "🙂"]);
    expect(picture.printed).toContain("'🙂' :  1 ■");
    expect(picture.sliding_window_matrix?.dims).toEqual([2, 2]);
  });

  it("refuses what it can't draw", async () => {
    const visualizer = new AttentionMaskVisualizer("model", { ...WINDOW, ...QUIET });
    await expect(visualizer("")).rejects.toThrow("the text has no tokens");
    await expect(visualizer("z".repeat(5000))).rejects.toThrow(
      "5001 tokens are too many to draw; up to 4096",
    );
    await expect(visualizer("a", { colour: true } as object)).rejects.toThrow('did you mean "color"');
    expect(() => new AttentionMaskVisualizer("model", { revison: "main" } as object)).toThrow('"revision"');
    const multimodal = { config: { model_type: "gemma3", text_config: {} }, ...QUIET };
    await expect(new AttentionMaskVisualizer("model", multimodal)("<img>a")).rejects.toThrow(
      'a model of type "gemma3_text" has no processor',
    );
    expect((await new AttentionMaskVisualizer("model", multimodal)("what?")).printed).toContain(
      "Gemma3Model",
    );
    const other = new AttentionMaskVisualizer("model", { config: { model_type: "llama" } });
    await expect(other("a")).rejects.toThrow(ConfigError);
  });

  it("looks again after a failure", async () => {
    const visualizer = new AttentionMaskVisualizer("model", QUIET);
    env.localModelPath = folder;
    await expect(visualizer("a")).rejects.toThrow(/can be found/);
    env.localModelPath = join(FIXTURES, "golden-h16/gemma3_text");
    expect((await visualizer("a")).tokens).toEqual(["a"]);
  });
});

describe("AttentionMaskVisualizer.masks", () => {
  it.each(ORACLE.masks)("gives the masks of HF's layers: $config", async (expected) => {
    const { config, attention_mask, full_attention, sliding_attention } = expected;
    const input_ids = attention_mask.map((row) => row.map(() => 5));
    const masks = await new AttentionMaskVisualizer("model", { config }).masks({ input_ids, attention_mask });
    const rows = (mask: unknown): unknown =>
      (mask as number[][][]).map((batch) => batch.map((row) => row.join("")));
    expect(rows(masks.full_attention.tolist())).toEqual(full_attention);
    expect(rows(masks.sliding_attention?.tolist())).toEqual(sliding_attention);
  });

  it("takes what a tokenizer gives", async () => {
    const tokenizer = await AutoTokenizer.from_pretrained("model");
    const batch = tokenizer(["a e", "a"], { padding: true });
    const masks = await new AttentionMaskVisualizer("model", { config: { model_type: "gemma" } }).masks(
      batch,
    );
    expect(masks.full_attention.type).toBe("bool");
    expect(masks.full_attention.dims).toEqual([2, 4, 4]);
    expect([...masks.full_attention.data].reduce((sum: number, value) => sum + Number(value), 0)).toBe(13);
    expect(masks).not.toHaveProperty("sliding_attention");
  });

  it("refuses a mask of another shape, and inputs that it does not know", async () => {
    const { masks } = {
      masks: (inputs: object) => new AttentionMaskVisualizer("model").masks(inputs as never),
    };
    const input_ids = [[5, 5]];
    await expect(masks({ input_ids, attention_mask: [[1]] })).rejects.toThrow(
      /\[1, 1\] where input_ids are \[1, 2\]/,
    );
    await expect(masks({ input_ids, token_types: [[0, 0]] })).rejects.toThrow(InputError);
  });
});

describe("with images", () => {
  const multimodal = join(FIXTURES, "multimodal");
  beforeEach(() => {
    env.localModelPath = join(multimodal, "gemma3_mm");
  });

  interface Seen {
    readonly text: string;
    readonly tokens: readonly string[];
    readonly printed: string;
    readonly matrix: readonly string[];
  }
  const seen = JSON.parse(readFileSync(join(multimodal, "visualizer.json"), "utf8")) as readonly Seen[];

  it.each(seen)("prints what HF prints: $text", async (expected) => {
    const picture = await new AttentionMaskVisualizer("model")(expected.text, QUIET);
    expect(picture.printed).toBe(expected.printed);
    expect(picture.tokens).toEqual(expected.tokens);
    expect((picture.matrix.tolist() as number[][]).map((row) => row.join(""))).toEqual(expected.matrix);
  });

  it("gives the masks of the layers, for any number of images", async () => {
    const config = JSON.parse(
      readFileSync(join(multimodal, "gemma3_mm/model/config.json"), "utf8"),
    ) as Record<string, Record<string, unknown>>;
    const visualizer = new AttentionMaskVisualizer("model", {
      config: { ...config, text_config: { ...config.text_config, sliding_window: 2 } },
    });
    const picture = await visualizer("<img><img>", QUIET);
    const types = (picture.token_type_ids!.tolist() as bigint[][])[0]!.map(Number);
    // bos, newlines, start, five of the image, end, newlines, and from the newlines on once more.
    expect(types.join("")).toBe("00011111000111110".padEnd(types.length, "0"));
    const rows = (matrix: Tensor): string[] => (matrix.tolist() as number[][]).map((row) => row.join(""));
    const full = rows(picture.full_attention);
    expect(full[3]).toBe("111111110".padEnd(types.length, "0"));
    expect(full[11]).toBe("1111111111111111".padEnd(types.length, "0"));
    const sliding = rows(picture.sliding_window_matrix!);
    expect(sliding[3]).toBe("00111111".padEnd(types.length, "0"));
    expect(sliding[8]).toBe("000000011".padEnd(types.length, "0"));
    const masks = await visualizer.masks({
      input_ids: [types],
      token_type_ids: picture.token_type_ids as Tensor,
    });
    expect(masks.full_attention.data).toEqual(picture.full_attention.data);
    expect(masks.sliding_attention?.data).toEqual(picture.sliding_window_matrix?.data);
  });

  it("draws a text without images as for a text model", async () => {
    const { tokens, token_type_ids } = await new AttentionMaskVisualizer("model")("a e", QUIET);
    expect(tokens).not.toContain("<bos>");
    expect(token_type_ids).toBeUndefined();
  });
});

describe("AttentionMaskPicture", () => {
  const drawing = {
    model_type: "gemma3_text",
    model_id: "me/<model>\u0007",
    model_class: "Gemma3TextModel",
    family: "gemma3",
    tokens: ["▁a", "<b>", "日本 &"],
    full: Uint8Array.of(1, 0, 0, 1, 1, 0, 1, 1, 1),
    sliding: Uint8Array.of(1, 0, 0, 1, 1, 0, 0, 1, 1),
    blocks: [-1, -1, -1],
  };
  const matrix = new Tensor("uint8", drawing.full, [3, 3]);
  const pictureOf = (parts: Partial<typeof drawing>): AttentionMaskPicture =>
    new AttentionMaskPicture({
      text: { ...drawing, image_token: "<img>" },
      drawing: { ...drawing, ...parts },
      matrix,
      color: true,
    });
  const picture = pictureOf({});

  it("draws an SVG with a label for each row and column", () => {
    const svg = picture.toSVG();
    const labels = [...svg.matchAll(/<text [^>]*>([^<]*)<\/text>/g)].map(([, label]) => label);
    const rows = ["'▁a' 0", "'&lt;b&gt;' 1", "'日本 &amp;' 2"];
    const title = "gemma3_text:me/&lt;model&gt;\ufffd Gemma3TextModel";
    expect(labels).toEqual([title, ...rows, "Attention Matrix", ...rows, "Sliding Window Mask", ...rows]);
    // The cells that are seen, a run of them at a time: x, y and length.
    const runs = [...svg.matchAll(/<path fill="rgb\(36,41,47\)" d="([^"]*)"/g)].map(([, path]) =>
      [...path!.matchAll(/M(\d+) (\d+)h(\d+)/g)].map(([, ...numbers]) =>
        numbers.map((n) => Number(n) / 14).join(),
      ),
    );
    expect(runs).toEqual([
      ["0,0,1", "0,1,2", "0,2,3"],
      ["0,0,1", "0,1,2", "1,2,2"],
    ]);
  });

  it("draws a PNG of the same cells", async () => {
    const { width, height, data, palette } = decode(await picture.toPNG());
    expect([width, height]).toEqual([16 + 48 + 16 + 48 + 16, 16 + 48 + 16]);
    const colour = (x: number, y: number): unknown => palette?.[data[y * width + x]!];
    const [hidden, seen, self] = [
      [225, 228, 232],
      [36, 41, 47],
      [46, 160, 67],
    ];
    const square = (left: number): unknown[] =>
      [0, 1, 2].map((i) => [0, 1, 2].map((j) => colour(left + 16 * j + 4, 16 + 16 * i + 4)));
    expect(square(16)).toEqual([
      [self, hidden, hidden],
      [seen, self, hidden],
      [seen, seen, self],
    ]);
    expect(square(80)).toEqual([
      [self, hidden, hidden],
      [seen, self, hidden],
      [hidden, seen, self],
    ]);
  });

  it("draws images in a colour of their own", async () => {
    const withImage = pictureOf({ blocks: [-1, 0, 0], full: Uint8Array.of(1, 0, 0, 1, 1, 1, 1, 1, 1) });
    const path = /<path fill="rgb\(227,164,22\)" d="([^"]*)"/.exec(withImage.toSVG())?.[1];
    expect(path).toBe("M14 14h28v14h-28zM14 28h28v14h-28z");
    const { width, data } = decode(await withImage.toPNG());
    const cells = [0, 1, 2].map((i) =>
      [0, 1, 2].map((j) => data[(16 + 16 * i + 4) * width + 16 + 16 * j + 4]),
    );
    expect(cells).toEqual([
      [3, 1, 1],
      [2, 4, 4],
      [2, 4, 4],
    ]);
  });
});
