import { InputError } from "../errors.ts";
import { float32, RunValues } from "../generation/decoder-model.ts";
import type { IdsInput } from "../generation/prompt.ts";
import { checkTokens } from "../generation/step-input.ts";
import type { Graph } from "../graph/graph.ts";
import type { Gemma3nTextConfig } from "../models/gemma3n/config.ts";
import { Gemma3nTextModule } from "../models/gemma3n/text.ts";
import type { TextModule } from "../models/heads.ts";
import type { HostTensor } from "../runtime/session.ts";
import { Tensor } from "../tensor.ts";
import { BaseTextModel } from "./base-model.ts";
import { CausalLM } from "./causal-lm.ts";
import { idRows } from "./inputs.ts";
import type { PretrainedOptions } from "./options.ts";
import { TextModelCore } from "./pretrained-decoder.ts";
import { GEMMA3N_TEXT, LANGUAGE_MODEL, NO_HEAD } from "./text-models.ts";

/** Gemma 3n's text model without its head; of a model with images and sounds it takes the text alone. */
export class Gemma3nTextModel extends BaseTextModel<Gemma3nTextConfig> {
  /** Loads a model: a folder, a .gguf file, or a hub id. */
  static async from_pretrained(id: string, options?: PretrainedOptions): Promise<Gemma3nTextModel> {
    return new Gemma3nTextModel(
      await TextModelCore.load(id, options, "Gemma3nTextModel", GEMMA3N_TEXT, NO_HEAD),
    );
  }

  /**
   * The tokens' embeddings for every layer: float32 [batch, length, layers, hidden_size_per_layer_input]. Ids that have
   * none take those of id 0.
   */
  async get_per_layer_inputs(input_ids: IdsInput): Promise<Tensor> {
    const rows = idRows(input_ids, "input_ids");
    checkTokens(rows, this.config.vocab_size);
    const ids = {
      type: "int64" as const,
      data: BigInt64Array.from(rows.flat(), BigInt),
      dims: [rows.length, rows[0]!.length],
    };
    return this.#perLayer("per-layer embedding", { ids }, traceEmbedding);
  }

  /** What the layers get of them, beside a projection of `inputs_embeds` [batch, length, hidden_size]; the same shape. */
  async project_per_layer_inputs(inputs_embeds: Tensor, per_layer_inputs?: Tensor | null): Promise<Tensor> {
    const { hidden_size } = this.config;
    const expected = [...inputs_embeds.dims.slice(0, 2), hidden_size];
    checkFloats("inputs_embeds", inputs_embeds, expected);
    if (per_layer_inputs == null)
      return this.#perLayer("per-layer projection alone", { embeds: inputs_embeds }, traceProjection);
    checkFloats("per_layer_inputs", per_layer_inputs, this.#shape(expected));
    const embedded = float32(per_layer_inputs.data as Float32Array, [
      ...expected.slice(0, 2),
      per_layer_inputs.size / (expected[0]! * expected[1]!),
    ]);
    return this.#perLayer("per-layer projection", { embeds: inputs_embeds, embedded }, traceProjection);
  }

  #shape(dims: readonly number[]): number[] {
    return [...dims.slice(0, 2), this.config.num_hidden_layers, this.config.hidden_size_per_layer_input];
  }

  async #perLayer(
    name: string,
    feeds: Readonly<Record<string, HostTensor>>,
    trace: (graph: Graph, model: Gemma3nTextModule, names: readonly string[]) => void,
  ): Promise<Tensor> {
    const names = Object.keys(feeds);
    const session = await this.core.sessions.piece(name, (graph, model) =>
      trace(graph, asGemma3n(model), names),
    );
    const dims = this.#shape(feeds[names[0]!]!.dims);
    const data = new Float32Array(dims.reduce((size, dim) => size * dim, 1));
    const run = new RunValues(session);
    for (const [input, tensor] of Object.entries(feeds)) run.feed(input, tensor);
    run.fetch("per_layer_inputs", float32(data, [dims[0]!, dims[1]!, dims[2]! * dims[3]!]));
    await run.run(undefined);
    return new Tensor("float32", data, dims);
  }
}

/** Gemma 3n's text model with its language-model head. */
export class Gemma3nForCausalLM extends CausalLM<Gemma3nTextConfig> {
  /** Loads a model: a folder, a .gguf file, or a hub id. */
  static async from_pretrained(id: string, options?: PretrainedOptions): Promise<Gemma3nForCausalLM> {
    return new Gemma3nForCausalLM(
      await TextModelCore.load(id, options, "Gemma3nForCausalLM", GEMMA3N_TEXT, LANGUAGE_MODEL),
    );
  }

  protected override makeModel(): Gemma3nTextModel {
    return new Gemma3nTextModel(this.core);
  }

  override get model(): Gemma3nTextModel {
    return super.model as Gemma3nTextModel;
  }
}

function traceEmbedding(graph: Graph, model: Gemma3nTextModule): void {
  graph.output("per_layer_inputs", model.embedPerLayer(graph.input("ids", "int64", ["batch", "seq"])));
}

function traceProjection(graph: Graph, model: Gemma3nTextModule, names: readonly string[]): void {
  const hidden_size = model.per_layer_model_projection.weight.shape[1]!;
  const width = model.per_layer_model_projection.weight.shape[0]!;
  const embeds = graph.input("embeds", "float32", ["batch", "seq", hidden_size]);
  const embedded = names.includes("embedded")
    ? graph.input("embedded", "float32", ["batch", "seq", width])
    : undefined;
  graph.output("per_layer_inputs", model.projectPerLayer(embeds, embedded));
}

function asGemma3n(model: TextModule): Gemma3nTextModule {
  if (model instanceof Gemma3nTextModule) return model;
  throw new InputError("the model has no per-layer embeddings");
}

function checkFloats(option: string, { type, dims }: Tensor, expected: readonly number[]): void {
  if (type === "float32" && dims.join() === expected.join()) return;
  throw new InputError(
    `${option}: expected float32 [${expected.join(", ")}], got ${type} [${dims.join(", ")}]`,
    { option },
  );
}
