import { dirname, join } from "node:path";
import { openCheckpoint } from "../checkpoints/open.ts";
import { loadWeights } from "../checkpoints/pack.ts";
import { ConfigError } from "../errors.ts";
import { RunValues } from "../generation/decoder-model.ts";
import { Graph, type Value } from "../graph/graph.ts";
import { serializeOnnx } from "../graph/onnx/serialize.ts";
import { geluErf, relu, sigmoid, silu, tanh } from "../graph/ops/math.ts";
import { ConfigReader, type JsonObject } from "../models/config-reader.ts";
import { DenseModule, type DenseOptions } from "../models/dense.ts";
import { bind } from "../nn/module.ts";
import { loadEngine } from "../runtime/engine.ts";
import type { Session } from "../runtime/session.ts";
import { Tensor } from "../tensor.ts";
import { modelOptions, type PretrainedOptions } from "./options.ts";
import { packOptions, weightRequest } from "./pretrained-model.ts";

/** The PyTorch classes that a Dense module may name, by the last part of their path. */
const ACTIVATIONS: Readonly<Record<string, (x: Value) => Value>> = {
  Identity: (x) => x,
  Tanh: tanh,
  ReLU: relu,
  GELU: geluErf,
  SiLU: silu,
  Sigmoid: sigmoid,
};

/** A Dense module of a sentence-transformers folder, on the engine: float32 whatever the model's own storage. */
export class DenseLayer {
  readonly in_features: number;
  readonly out_features: number;
  readonly #session: Session;

  private constructor(session: Session, in_features: number, out_features: number) {
    this.#session = session;
    this.in_features = in_features;
    this.out_features = out_features;
  }

  /** Reads config.json's content and the weights of the module's folder. */
  static async load(folder: string, config: JsonObject, options: PretrainedOptions): Promise<DenseLayer> {
    const layer = readDenseConfig(config, folder);
    const { engine: choice, device, threads } = modelOptions(options, "Dense");
    const module = new DenseModule(layer);
    const request = weightRequest(module, { dtype: "fp32", tablesDtype: "fp32" });
    const checkpoint = await openCheckpoint(folder);
    const { weights } = await loadWeights(checkpoint, request, packOptions(folder, options)).finally(() =>
      checkpoint.close(),
    );
    bind(module, weights);
    const matrix = module.linear.weight.weight;
    const graph = new Graph("dense");
    module.trace(graph);
    const externalDataFolder = dirname(matrix.kind === "float" ? matrix.range.file : folder);
    const engine = await loadEngine({ engine: choice });
    const session = await engine.createSession({
      model: serializeOnnx(graph, externalDataFolder),
      externalDataFolder,
      device,
      ...(threads === undefined ? {} : { threads }),
    });
    return new DenseLayer(session, layer.in_features, layer.out_features);
  }

  /** Projects [batch, in_features] to [batch, out_features]. */
  async run(vectors: Tensor, signal?: AbortSignal): Promise<Tensor> {
    const dims = [vectors.dims[0]!, this.out_features];
    const output = new Tensor("float32", new Float32Array(dims[0]! * this.out_features), dims);
    const run = new RunValues(this.#session);
    run.feed("input", vectors);
    run.fetch("output", output);
    await run.run(signal);
    return output;
  }

  dispose(): Promise<void> {
    return this.#session.dispose();
  }
}

function readDenseConfig(config: JsonObject, folder: string): DenseOptions {
  const read = new ConfigReader(config, join(folder, "config.json"));
  for (const key of ["module_input_name", "module_output_name"]) {
    if (read.string(key, "sentence_embedding") !== "sentence_embedding")
      read.fail(key, "only layers on the text's vector (sentence_embedding) are supported");
  }
  const name = read.string("activation_function", "torch.nn.modules.activation.Tanh");
  const found = Object.entries(ACTIVATIONS).find(([known]) => known === name.split(".").at(-1));
  if (found === undefined) {
    throw new ConfigError(
      `unknown activation "${name}"; known are ${Object.keys(ACTIVATIONS).join(", ")} of torch.nn`,
      { key: "activation_function" },
    );
  }
  return {
    in_features: read.positiveInt("in_features"),
    out_features: read.positiveInt("out_features"),
    bias: read.boolean("bias", true),
    activation: found[1],
  };
}
