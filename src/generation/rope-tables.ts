/** Rotary position embedding of one kind of layer. */
export interface RopeSpec {
  readonly rope_theta: number;
  /** Positions are divided by it (linear scaling); 1 without scaling. */
  readonly factor: number;
  readonly head_dim: number;
  /** Head size that the tables are made for: each half is padded with angle 0. */
  readonly aligned_head_dim: number;
}

/** Cosines and sines of positions 0.. up to what was asked for, grown as contexts grow: a full table of a long-context model would take tens of MB. */
export class RopeTables {
  /** float32 [positions, aligned_head_dim / 2] */
  cos: Float32Array = new Float32Array(0);
  sin: Float32Array = new Float32Array(0);
  positions = 0;
  readonly width: number;
  readonly #inverseFrequencies: Float32Array;

  constructor(spec: RopeSpec) {
    this.width = spec.aligned_head_dim / 2;
    const half = spec.head_dim / 2;
    // float32 arithmetic where HF has it: angles of late positions depend on the rounding of the frequency.
    this.#inverseFrequencies = Float32Array.from({ length: half }, (_, i) => {
      const exponent = Math.fround((2 * i) / spec.head_dim);
      return Math.fround(Math.fround(1 / Math.fround(spec.rope_theta ** exponent)) / spec.factor);
    });
  }

  /** Makes the tables reach `positions` positions; true when they were replaced. */
  ensure(positions: number): boolean {
    if (positions <= this.positions) return false;
    const count = Math.max(256, 2 ** Math.ceil(Math.log2(positions)));
    const cos = new Float32Array(count * this.width).fill(1);
    const sin = new Float32Array(count * this.width);
    cos.set(this.cos);
    sin.set(this.sin);
    for (let position = this.positions; position < count; position++) {
      for (const [i, frequency] of this.#inverseFrequencies.entries()) {
        const angle = Math.fround(position * frequency);
        cos[position * this.width + i] = Math.cos(angle);
        sin[position * this.width + i] = Math.sin(angle);
      }
    }
    [this.cos, this.sin, this.positions] = [cos, sin, count];
    return true;
  }
}
