import { defineConfig, type ViteUserConfig } from "vitest/config";
import { TotalsReporter } from "./test/support/totals-reporter.ts";

const config: ViteUserConfig = defineConfig({
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts", "tools/**/*.test.ts", "bench/**/*.test.ts"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: "forks",
    maxWorkers: 2,
    reporters: ["default", new TotalsReporter()],
    env: { LAPIDARY_CACHE: "node_modules/.cache/lapidary" },
  },
});

export default config;
