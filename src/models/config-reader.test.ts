import { describe, expect, it } from "vitest";
import { ConfigError } from "../errors.ts";
import { Gemma3TextConfig } from "./gemma3/config.ts";
import { Gemma3nAudioConfig } from "./gemma3n/audio-config.ts";
import { SiglipVisionConfig } from "./siglip/config.ts";

describe("a number of layers", () => {
  it("is refused where making them would take all memory", () => {
    const count = 1e9;
    expect(() => new Gemma3TextConfig({ num_hidden_layers: count })).toThrow(ConfigError);
    expect(() => new SiglipVisionConfig({ num_hidden_layers: count })).toThrow("num_hidden_layers");
    expect(() => new Gemma3nAudioConfig({ conf_num_hidden_layers: count })).toThrow("at most 1024");
  });
});
