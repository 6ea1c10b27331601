import type { Checkpoint } from "../checkpoints/checkpoint.ts";
import { CheckpointError } from "../errors.ts";
import { type Module, namedParameters } from "../nn/module.ts";

/** Bytes of a part's tensors, from the headers; throws where the checkpoint does not have them all in their shapes. */
export function partBytes(name: string, module: Module, checkpoint: Checkpoint): number {
  const missing: string[] = [];
  let bytes = 0;
  for (const [key, { shape }] of namedParameters(module)) {
    const slice = checkpoint.tensors.get(key);
    if (slice === undefined) {
      missing.push(key);
      continue;
    }
    if (slice.shape.join() !== shape.join()) {
      const shapes = `its shape is [${slice.shape.join(", ")}], the configuration asks for [${shape.join(", ")}]`;
      throw new CheckpointError(shapes, { file: slice.file, tensor: key });
    }
    bytes += slice.length;
  }
  if (missing.length === 0) return bytes;
  const shown = missing.slice(0, 5).join(", ");
  throw new CheckpointError(
    `lacks ${missing.length} tensors of the ${name.replace("_", " ")}: ${shown}${missing.length > 5 ? ", …" : ""}`,
    { ...(checkpoint.files[0] === undefined ? {} : { file: checkpoint.files[0] }) },
  );
}
