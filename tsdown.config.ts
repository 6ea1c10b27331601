import { defineConfig, type UserConfig } from "tsdown";

const config: UserConfig = defineConfig({
  entry: ["src/index.ts", "src/cli/main.ts"],
  format: "esm",
  dts: true,
  platform: "node",
  target: "node20",
  fixedExtension: false,
  publint: true,
});

export default config;
