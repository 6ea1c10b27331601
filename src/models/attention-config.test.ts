import { describe, expect, it } from "vitest";
import { ConfigError } from "../errors.ts";
import { readAttentionConfig } from "./attention-config.ts";
import type { JsonObject } from "./config-reader.ts";
import { Gemma3TextConfig } from "./gemma3/config.ts";

describe("readAttentionConfig", () => {
  it.each([
    [{ model_type: "gemma" }, null, "GemmaModel"],
    [{ model_type: "gemma", sliding_window: 7 }, null, "GemmaModel"],
    [{ model_type: "gemma3_text" }, 4096, "Gemma3TextModel"],
    [{ model_type: "gemma3_text", sliding_window: 512 }, 512, "Gemma3TextModel"],
    [{ model_type: "gemma3_text", sliding_window: null }, null, "Gemma3TextModel"],
    [
      { model_type: "gemma3_text", sliding_window: 512, use_bidirectional_attention: true },
      257,
      "Gemma3TextModel",
    ],
    [{ model_type: "gemma3", text_config: { sliding_window: 1024 } }, 1024, "Gemma3Model"],
    [{ model_type: "gemma3n", text_config: {} }, 512, "Gemma3nModel"],
    [{ model_type: "gemma3n_text", sliding_window: 16 }, 16, "Gemma3nTextModel"],
  ])("reads the window of %j", (config, window, model_class) => {
    expect(readAttentionConfig(config)).toMatchObject({
      window,
      model_class,
      bidirectional: "use_bidirectional_attention" in config,
      image_blocks: config.model_type === "gemma3",
    });
  });

  it("takes instances of configuration classes", () => {
    const config = { model_type: "gemma3_text", sliding_window: 512, use_bidirectional_attention: true };
    const instance: object = new Gemma3TextConfig(config);
    expect(readAttentionConfig(instance as JsonObject)).toEqual(readAttentionConfig(config));
  });

  it.each([
    [{}, "model_type", /missing/],
    [{ model_type: "llama" }, "model_type", /"llama" is not known; supported are gemma, gemma3_text/],
    [{ model_type: "constructor" }, "model_type", /is not known/],
    [{ model_type: "gemma3_text", sliding_window: 0 }, "sliding_window", /a positive integer, got 0/],
    [{ model_type: "gemma3", text_config: 3 }, "text_config", /expected an object, got 3/],
    [{ model_type: "gemma3", text_config: { sliding_window: "8" } }, "text_config.sliding_window", /got "8"/],
  ])("refuses %j", (config, key, message) => {
    const read = () => readAttentionConfig(config);
    expect(read).toThrow(ConfigError);
    expect(read).toThrow(message);
    expect(read).toThrow(expect.objectContaining({ key }));
  });
});
