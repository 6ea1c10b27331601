/** The border between configurations, which say what a slice keeps, and checkpoints, which cut it out (MatFormer). */
export interface LayerSlice {
  /** Layers of the model that is cut. */
  readonly layers: number;
  /** Those that stay, in order. */
  readonly kept: readonly number[];
  /** Of each that stays: the first so many units of its feed-forward layer. */
  readonly intermediate_size: readonly number[];
  /** Columns that a layer has in the tables of all layers. */
  readonly hidden_size_per_layer_input: number;
}
