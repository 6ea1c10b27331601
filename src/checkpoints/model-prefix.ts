import type { Checkpoint, TensorSlice } from "./checkpoint.ts";

/** Where a file has its text model's tensors, and the prefix that everything else has. */
interface Layout {
  readonly text: string;
  readonly others: string;
}

/**
 * A model with a head, one without, and models with several kinds of input: as on the hub, as transformers has them in
 * memory, and without a head.
 */
const LAYOUTS: readonly Layout[] = [
  { text: "model.", others: "" },
  { text: "", others: "" },
  { text: "language_model.model.", others: "language_model." },
  { text: "model.language_model.", others: "model." },
  { text: "language_model.", others: "" },
];

/** A tensor that every text model has. */
const LANDMARK = "embed_tokens.weight";

/** What stands before the text model's tensors. */
export function textPrefix({ tensors }: Checkpoint): string {
  return LAYOUTS.find(({ text }) => tensors.has(text + LANDMARK))?.text ?? "model.";
}

/** The checkpoint with its text model's tensors under `model.`, wherever they are in the file. Others keep their names. */
export function withModelPrefix(checkpoint: Checkpoint): Checkpoint {
  const layout = LAYOUTS.find(({ text }) => checkpoint.tensors.has(text + LANDMARK));
  if (layout === undefined || layout.text === "model.") return checkpoint;
  const { text, others } = layout;
  return renamed(checkpoint, (name) => {
    if (text === "" && isHead(name)) return name;
    if (name.startsWith(text)) return `model.${name.slice(text.length)}`;
    return name.startsWith(others) ? name.slice(others.length) : name;
  });
}

/** The same with the encoder of images directly under `vision_tower.`: the hub's files have one level more. */
export function withVisionTower(checkpoint: Checkpoint): Checkpoint {
  return renamed(withModelPrefix(checkpoint), (name) =>
    name.replace(/^vision_tower\.vision_model\./, "vision_tower."),
  );
}

/** A tensor that every SigLIP vision model has. */
const VISION_LANDMARK = "embeddings.patch_embedding.weight";

/** A vision model's tensors alone, without what stands before them in a file of its own or of a larger model. */
export function visionModelAlone(checkpoint: Checkpoint): Checkpoint {
  const landmark = [...checkpoint.tensors.keys()].find((name) =>
    /(^|\.)embeddings\.patch_embedding\.weight$/.test(name),
  );
  const prefix = landmark?.slice(0, -VISION_LANDMARK.length) ?? "";
  return renamed(checkpoint, (name) => (name.startsWith(prefix) ? name.slice(prefix.length) : undefined));
}

/** The checkpoint under other names; tensors without one are left out. */
export function renamed(checkpoint: Checkpoint, rename: (name: string) => string | undefined): Checkpoint {
  const tensors = new Map<string, TensorSlice>();
  for (const [name, slice] of checkpoint.tensors) {
    const key = rename(name);
    if (key !== undefined) tensors.set(key, { ...slice, name: key });
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
