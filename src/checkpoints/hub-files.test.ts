import { expect, it } from "vitest";
import { chooseFiles } from "./hub-files.ts";

it("takes the steps of a sentence-transformers repository along", () => {
  const steps = [
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
  ];
  const others = ["README.md", "2_Dense/pytorch_model.bin", "onnx/config.json", "onnx/model.safetensors"];
  const names = ["config.json", "model.safetensors", ...steps, ...others];
  expect(chooseFiles(names, {}, "test")).toEqual({
    kind: "safetensors",
    small: ["config.json", ...steps],
    weights: "model.safetensors",
    sharded: false,
  });
});
