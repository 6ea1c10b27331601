import { expect, test } from "vitest";
import { memoryUsage } from "./memory.ts";

test("tells the resident memory and its peak", () => {
  const { resident, peakResident } = memoryUsage();
  expect(resident).toBeGreaterThan(10e6);
  expect(peakResident).toBeGreaterThanOrEqual(resident * 0.9);
});

test.runIf(process.platform === "linux")("counts what the process wrote as anonymous", () => {
  const before = memoryUsage();
  const memory = new Uint8Array(64 << 20).fill(1);
  const after = memoryUsage();
  expect(after.anonymous! - before.anonymous!).toBeGreaterThan(memory.length * 0.8);
  expect(after.fileBacked! - before.fileBacked!).toBeLessThan(memory.length * 0.2);
  expect(after.anonymous! + after.fileBacked!).toBeLessThanOrEqual(after.resident * 1.01);
});
