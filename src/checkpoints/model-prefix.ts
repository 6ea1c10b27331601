import type { Checkpoint, TensorSlice } from "./checkpoint.ts";

/** Prefixes of a text model's tensors: of a model with a head, of one without, and inside a multimodal one (older and newer layout). */
const PREFIXES = ["model.", "", "language_model.model.", "model.language_model."];

/** A tensor that every text model has. */
const LANDMARK = "embed_tokens.weight";

/** The checkpoint with its text model's tensors under `model.`, wherever they are in the file. Others keep their names. */
export function withModelPrefix(checkpoint: Checkpoint): Checkpoint {
  const prefix = PREFIXES.find((candidate) => checkpoint.tensors.has(candidate + LANDMARK));
  if (prefix === undefined || prefix === "model.") return checkpoint;
  // A multimodal file has the head beside the text model.
  const owner = prefix.endsWith("model.") ? prefix.slice(0, -"model.".length) : "";
  const renamed = (name: string): string => {
    if (name.startsWith(prefix)) return `model.${name.slice(prefix.length)}`;
    return owner !== "" && name.startsWith(owner) ? name.slice(owner.length) : name;
  };
  const headless = prefix === "";
  const tensors = new Map<string, TensorSlice>();
  for (const [name, slice] of checkpoint.tensors) {
    const key = headless && isHead(name) ? name : renamed(name);
    tensors.set(key, { ...slice, name: key });
  }
  return {
    format: checkpoint.format,
    files: checkpoint.files,
    tensors,
    metadata: checkpoint.metadata,
    read: (slice, start, end) => checkpoint.read(slice, start, end),
    close: () => checkpoint.close(),
  };
}

/** Heads stand beside the text model, also where that has no prefix. */
function isHead(name: string): boolean {
  return name.startsWith("lm_head.") || name.startsWith("score.");
}
