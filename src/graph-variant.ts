/** The border between models, which trace, and generation, which runs: what a traced decoder takes and gives: each combination is a graph of its own. */
export interface GraphVariant {
  /**
   * "causal" appends keys and values to the cache in place and sees all that is held. "stepwise" does the same token
   * by token within one run: the kernel rounds one query otherwise than several, and this way a run of several tokens
   * gives the very numbers of runs of one. "masked" takes any mask as an
   * input, one for each kind of layer, and gives the new keys and values as outputs: for attention in both
   * directions, masks with holes, and attention weights.
   */
  readonly attention: "causal" | "stepwise" | "masked";
  /** "stepwise": how many tokens there are, which are appended and attend one after another; else 0. */
  readonly steps: number;
  /** How the cache holds keys and values; "int8" takes their scales as inputs, and is for "causal" only. */
  readonly cache: "float32" | "int8";
  /** "both": vectors for the first layer, and the ids for what every layer looks up by them (Gemma 3n). */
  readonly input: "input_ids" | "inputs_embeds" | "both";
  /**
   * `logits` of the positions that the input `logits_positions` names; "inputs": what the output layer makes them of,
   * `head_inputs` [rows, hidden_size], where that layer runs apart.
   */
  readonly logits: boolean | "inputs";
  /**
   * "all": `hidden_states.N` [batch, seq, hidden_size], the embeddings first, the normed output last; where a model has
   * several streams [batch, seq, streams*hidden_size], the last layer's output last. "last": the normed output, as
   * `last_hidden_state`; models with streams give it with "all" too.
   */
  readonly hidden_states: "none" | "last" | "all";
  /** `attentions.N` [batch, heads, seq, keys]; "masked" only. */
  readonly attentions: boolean;
}
