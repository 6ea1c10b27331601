/**
 * AltUp ("Alternating Updates for Efficient Transformers", 2023): a token has several vectors, the streams, of which a
 * layer computes only one. The others are predicted from all before the layer, and corrected by what it made of the
 * active one after it.
 */
import type { Value } from "../../graph/graph.ts";
import {
  add,
  atLeast,
  div,
  matmul,
  meanSquareLast,
  mul,
  scale,
  sqrt,
  sub,
  tanh,
} from "../../graph/ops/math.ts";
import { concat, reshape, split } from "../../graph/ops/shape.ts";
import { inlineWeight } from "../../nn/inline.ts";
import { Linear } from "../../nn/linear.ts";
import { Module, Parameter } from "../../nn/module.ts";
import { RMSNorm } from "../../nn/rms-norm.ts";
import type { Gemma3nTextConfig } from "./config.ts";

/** Streams are [batch, seq, streams, hidden_size] in graphs; HF has the streams' axis first. */
export class Gemma3nTextAltUp extends Module {
  readonly correct_output_scale: Parameter;
  readonly correction_coefs: Linear;
  readonly prediction_coefs: Linear;
  readonly modality_router: Linear;
  readonly router_norm: RMSNorm;
  readonly #config: Gemma3nTextConfig;

  constructor(config: Gemma3nTextConfig) {
    super();
    const { hidden_size, altup_num_inputs, rms_norm_eps } = config;
    this.correct_output_scale = new Parameter([hidden_size]);
    // A few numbers that steer everything: never quantised.
    this.correction_coefs = new Linear(altup_num_inputs, altup_num_inputs, { plain: true });
    this.prediction_coefs = new Linear(altup_num_inputs, altup_num_inputs ** 2, { plain: true });
    this.modality_router = new Linear(hidden_size, altup_num_inputs, { plain: true });
    this.router_norm = new RMSNorm(hidden_size, rms_norm_eps);
    this.#config = config;
  }

  /** Streams as they should be after the layer: each plus a mixture of all that the active one chooses. */
  predict(streams: Value): Value {
    const { altup_num_inputs: count } = this.#config;
    const coefs = this.prediction_coefs.forward(this.#modalities(this.active(streams)));
    const mixture = reshape(coefs, [...coefs.shape.slice(0, -1), count, count]);
    return add(matmul(mixture, streams), streams);
  }

  /** Every prediction moved by its share of how far the active one was off: `activated` [batch, seq, hidden_size]. */
  correct(predictions: Value, activated: Value): Value {
    const coefs = this.correction_coefs.forward(this.#modalities(activated));
    const shares = add(coefs, coefs.graph.constant("float32", [1], []));
    const innovation = sub(activated, this.active(predictions));
    const moves = mul(asColumn(shares), asStream(innovation));
    return add(moves, predictions);
  }

  /** The corrected active stream, scaled for what follows (config key `altup_correct_scale`). */
  scaled(active: Value): Value {
    if (!this.#config.altup_correct_scale) return active;
    return mul(active, inlineWeight(active.graph, this.correct_output_scale));
  }

  /** The stream that the layer computes on: [batch, seq, hidden_size]. */
  active(streams: Value): Value {
    return splitStreams(streams)[this.#config.altup_active_idx]!;
  }

  /** How much of each kind of input a token seems to be: [batch, seq, streams], from -1 to 1. */
  #modalities(x: Value): Value {
    const router = scale(this.router_norm.forward(x), 1 / this.#config.hidden_size);
    return tanh(this.modality_router.forward(router));
  }
}

/** [batch, seq, streams, hidden_size] → [batch, seq, hidden_size] each. */
export function splitStreams(streams: Value): Value[] {
  const count = Number(streams.dim(2));
  const flat = [...streams.shape.slice(0, 2), streams.dim(3)];
  return split(streams, new Array<number>(count).fill(1), 2).map((part) => reshape(part, flat));
}

/** The reverse. */
export function joinStreams(streams: readonly Value[]): Value {
  return concat(streams.map(asStream), 2);
}

/** x [batch, seq, hidden_size] with the root mean square of `like`; that of x counts as sqrt(1e-5) at least. */
export function matchMagnitude(x: Value, like: Value): Value {
  const magnitude = sqrt(atLeast(meanSquareLast(x), 1e-5));
  return div(mul(x, sqrt(meanSquareLast(like))), magnitude);
}

/** [batch, seq, hidden_size] → [batch, seq, 1, hidden_size]. */
function asStream(x: Value): Value {
  return reshape(x, [...x.shape.slice(0, -1), 1, x.dim(-1)]);
}

/** [batch, seq, streams] → [batch, seq, streams, 1]. */
function asColumn(x: Value): Value {
  return reshape(x, [...x.shape, 1]);
}
