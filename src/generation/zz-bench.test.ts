import { it } from "vitest";
import { buildProcessors } from "./build.ts";
import { resolveConfig, type GenerationOptions } from "./generation-config.ts";
import { TokenChooser } from "./token-chooser.ts";
it("bench", async () => {
  const n = 262144;
  const x = new Float32Array(n);
  for (let i = 0; i < n; i++) x[i] = (Math.random() + Math.random() + Math.random() + Math.random() - 2) * 6;
  for (const o of [
    { do_sample: false },
    { do_sample: true, top_k: 64, top_p: 0.95 },
    { do_sample: true, top_k: 64, top_p: 0.95, temperature: 0.7 },
    { do_sample: true, top_k: 0, top_p: 0.95 },
    { do_sample: true, top_k: 0, top_p: 0.95, temperature: 0.7 },
    { do_sample: true, top_k: 0, top_p: 0.999, temperature: 3 },
    { do_sample: true, top_k: 0 },
    { do_sample: true, top_k: 0, min_p: 0.1 },
    { do_sample: true, top_k: 0, typical_p: 0.9 },
    { do_sample: true, top_k: 0, eta_cutoff: 0.001 },
    { do_sample: true, top_k: 5000 },
    { do_sample: true, top_k: 64, top_p: 0.95, repetition_penalty: 1.1 },
    { do_sample: false, repetition_penalty: 1.1, no_repeat_ngram_size: 3 },
  ] as GenerationOptions[]) {
    const config = resolveConfig(o);
    const ids = [Array.from({ length: 2000 }, (_, i) => BigInt(i % 700))];
    const p = buildProcessors(config, { promptLength: 10, maxLength: 100, eos: [1], prompts: ids, copies: 1 }, undefined, []);
    const c = new TokenChooser(p, { rows: 1, vocab_size: n, do_sample: config.do_sample === true, seed: 1, output_scores: false });
    const t: number[] = []; const u: number[] = [];
    for (let i = 0; i < 120; i++) { const a = performance.now(); const b = process.cpuUsage(); await c.choose(ids, [x]); t.push(performance.now() - a); const d = process.cpuUsage(b); u.push((d.user+d.system)/1000); }
    t.splice(0, 40); t.sort((a, b) => a - b); u.splice(0,40); u.sort((a, b) => a - b);
    console.log(JSON.stringify(o), "min", t[0]!.toFixed(2), "cpu median", u[40]!.toFixed(2), "median", t[40]!.toFixed(2), "p95", t[76]!.toFixed(2), "max", t.at(-1)!.toFixed(2));
  }
}, 60000);
