/** Layers import downwards only; see docs/architecture.md. */
const order = ["graph", "nn", "models", "quantization", "checkpoints", "processing", "runtime", "generation", "api", "pipelines", "cli"];
/** What each folder may import besides itself, the files at the root of src, and packages. */
const allowed = {
  graph: [],
  nn: ["graph"],
  models: ["graph", "nn"],
  quantization: ["checkpoints"],
  checkpoints: ["graph", "quantization"],
  processing: ["checkpoints"],
  runtime: [],
  generation: ["checkpoints", "runtime", "processing"],
  api: ["graph", "nn", "models", "quantization", "checkpoints", "processing", "runtime", "generation"],
  pipelines: ["api", "processing", "generation"],
  cli: ["api", "checkpoints", "models", "processing", "runtime", "generation", "pipelines"],
};
module.exports = {
  forbidden: order.map((folder) => {
    const forbidden = order.filter((other) => other !== folder && !allowed[folder].includes(other));
    return {
      name: `${folder}-imports-downwards`,
      severity: "error",
      from: { path: `^src/${folder}/`, pathNot: "\\.test\\.ts$" },
      to: { path: `^src/(${forbidden.join("|")})/` },
    };
  }),
  options: { tsPreCompilationDeps: true, tsConfig: { fileName: "tsconfig.json" }, doNotFollow: { path: "node_modules" } },
};
