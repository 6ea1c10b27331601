/** Stops native calls when the process ends: Node waits for its worker threads, and a run may take minutes. */

const running = new Set<() => void>();
let listening = false;

/** Until the returned function is called, `stop` will be called if the process exits. */
export function stopAtExit(stop: () => void): () => void {
  if (!listening) {
    listening = true;
    process.on("exit", stopAll);
  }
  running.add(stop);
  return () => {
    running.delete(stop);
  };
}

function stopAll(): void {
  for (const stop of running) stop();
}
