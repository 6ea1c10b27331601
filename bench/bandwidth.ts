/** How fast this machine reads memory: the limit of decoding, which reads all weights for every token. */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";

/** Far more than a processor's cache holds. */
const BYTES = 256 * 2 ** 20;
const PASSES = 4;

/** Copies its own memory over and over, once told to, and says how many seconds that took. */
const COPIER = `
const { parentPort } = require("node:worker_threads");
const source = new Uint8Array(${BYTES}).fill(1);
const target = new Uint8Array(${BYTES}).fill(2);
parentPort.on("message", () => {
  const start = performance.now();
  for (let pass = 0; pass < ${PASSES}; pass++) target.set(source);
  parentPort.postMessage((performance.now() - start) / 1000);
});
parentPort.postMessage(0);
`;

/** Bytes a second that all threads together move by copying: what is read and what is written. */
export async function memoryBandwidth(threads: number = availableParallelism()): Promise<number> {
  const workers = Array.from({ length: threads }, () => new Worker(COPIER, { eval: true }));
  const answers = (): Promise<number[]> =>
    Promise.all(
      workers.map(
        (worker) =>
          new Promise<number>((resolve, reject) => {
            worker.once("message", resolve);
            worker.once("error", reject);
          }),
      ),
    );
  try {
    await answers();
    const done = answers();
    for (const worker of workers) worker.postMessage("copy");
    const seconds = await done;
    return (threads * 2 * PASSES * BYTES) / Math.max(...seconds);
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}
