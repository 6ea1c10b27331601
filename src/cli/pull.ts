import { resolveModel } from "../checkpoints/resolve.ts";
import { type ModelFlags, pretrainedOptions } from "./model-flags.ts";
import { progressBar } from "./progress.ts";

/** Fetches a model, tells where it lies, and shows the terms that it comes under. */
export async function pull(model: string, flags: ModelFlags): Promise<void> {
  const bar = progressBar();
  const { revision, file, source, cache_dir, local_files_only } = pretrainedOptions(flags);
  const resolved = await resolveModel(model, {
    revision,
    file,
    source,
    cache_dir,
    local_files_only,
    progress_callback: bar.callback,
  }).finally(bar.clear);
  process.stderr.write(`${resolved.description}\n`);
  if (resolved.notice !== undefined) process.stderr.write(`${resolved.notice}\n`);
  process.stdout.write(`${resolved.path}\n`);
}
