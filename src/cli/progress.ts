import type { ProgressCallback, ProgressInfo } from "../api/options.ts";

/** Redrawing faster than this is only flicker. */
const INTERVAL_MS = 100;
const BAR_WIDTH = 30;

/** A bar on a terminal's standard error, cleared when done; nothing in a pipe. */
export function progressBar(stream: NodeJS.WriteStream = process.stderr): {
  callback: ProgressCallback;
  clear: () => void;
} {
  if (!stream.isTTY) return { callback: () => {}, clear: () => {} };
  let drawn = 0;
  let shown = false;
  return {
    callback: (info) => {
      if (info.status !== "progress" || Date.now() - drawn < INTERVAL_MS) return;
      drawn = Date.now();
      shown = true;
      stream.write(`\r${bar(info)}\u001b[K`);
    },
    clear: () => {
      if (shown) stream.write("\r\u001b[K");
      shown = false;
    },
  };
}

function bar({ file = "", loaded = 0, total = 0 }: ProgressInfo): string {
  const share = total > 0 ? Math.min(1, loaded / total) : 0;
  const filled = Math.round(share * BAR_WIDTH);
  const sizes = total > 0 ? ` ${(loaded / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB` : "";
  return `${file} [${"#".repeat(filled)}${" ".repeat(BAR_WIDTH - filled)}] ${(100 * share).toFixed(0)}%${sizes}`;
}
