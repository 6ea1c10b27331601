import { availableParallelism } from "node:os";
export function defaultThreads(): number {
  return availableParallelism();
}
