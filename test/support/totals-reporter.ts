import { writeFileSync } from "node:fs";
import type { Reporter, TestModule } from "vitest/node";

/** Writes "N passed, N failed, N skipped" to the file that LAPIDARY_TEST_TOTALS names. A file that cannot run counts as failed. */
export class TotalsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    const path = process.env["LAPIDARY_TEST_TOTALS"];
    if (path === undefined || path === "") return;
    const counts = { passed: 0, failed: errors.length, skipped: 0 };
    for (const module of modules) {
      const tests = [...module.children.allTests()];
      for (const test of tests) {
        const { state } = test.result();
        if (state === "passed" || state === "failed") counts[state]++;
        else counts.skipped++;
      }
      if (module.state() === "failed" && !tests.some((test) => test.result().state === "failed"))
        counts.failed++;
    }
    writeFileSync(path, `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`);
  }
}
