import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  AutoConfig,
  ConfigError,
  Gemma3Config,
  Gemma3nTextConfig,
  Gemma3TextConfig,
  GemmaConfig,
  SiglipVisionConfig,
} from "../index.ts";

describe("from_pretrained of configuration classes", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "lapidary-configs-"));
    const text_config = { model_type: "gemma3_text", hidden_size: 40 };
    const vision_config = { model_type: "siglip_vision_model", image_size: 56, patch_size: 14 };
    const config = { model_type: "gemma3", mm_tokens_per_image: 4, text_config, vision_config };
    await writeFile(join(folder, "config.json"), JSON.stringify(config));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it("reads a model's configuration without weights, as the class that AutoConfig chooses", async () => {
    const config = await Gemma3Config.from_pretrained(folder);
    expect(config).toBeInstanceOf(Gemma3Config);
    expect(await AutoConfig.from_pretrained(folder)).toEqual(config);
    expect(config.text_config).toBeInstanceOf(Gemma3TextConfig);
  });

  it("takes a part's configuration out of the whole model's", async () => {
    expect((await Gemma3TextConfig.from_pretrained(folder)).hidden_size).toBe(40);
    expect((await SiglipVisionConfig.from_pretrained(folder)).image_size).toBe(56);
  });

  it("refuses the configuration of another model, and unknown options", async () => {
    await expect(GemmaConfig.from_pretrained(folder)).rejects.toThrow(/"gemma3" is not for GemmaConfig/);
    await expect(Gemma3nTextConfig.from_pretrained(folder)).rejects.toThrow(ConfigError);
    await expect(GemmaConfig.from_pretrained(folder, { revison: "main" } as object)).rejects.toThrow(
      /revision/,
    );
  });
});
