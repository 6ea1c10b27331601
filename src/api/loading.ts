import { RuntimeError } from "../errors.ts";
import type { Device } from "../runtime/session.ts";

/** What HF's `device=0` comes to: the first accelerator that works, or the processor where there is none. */
export const ACCELERATORS_FIRST: readonly Device[] = ["cuda", "webgpu", "cpu"];

/** A model that can make its session before it is used, so that a missing device shows. */
interface Preparable {
  prepare?(): Promise<void>;
  dispose(): Promise<void>;
}

/** The model on the first device on which it can run, prepared, and why it is not on those before. */
export async function loadOnFirst<Model extends Preparable>(
  devices: readonly Device[],
  load: (device: Device) => Promise<Model>,
): Promise<{ model: Model; reasons: readonly string[] }> {
  const reasons: string[] = [];
  for (const device of devices) {
    let model: Model | undefined;
    try {
      model = await load(device);
      await model.prepare?.();
      return { model, reasons };
    } catch (error) {
      await model?.dispose();
      if (device === devices.at(-1) || !(error instanceof RuntimeError)) throw error;
      reasons.push(`${device}: ${error.message}`);
    }
  }
  throw new RuntimeError("no device could be used");
}

/** Both, once both are there; where the second fails, the first is given back. */
export async function together<Model extends Preparable, Other>(
  model: Promise<Model>,
  other: Promise<Other>,
): Promise<[Model, Other]> {
  const [first, second] = await Promise.allSettled([model, other]);
  if (first.status === "rejected") throw first.reason;
  if (second.status === "fulfilled") return [first.value, second.value];
  await first.value.dispose();
  throw second.reason;
}
