import type { ConfigReader } from "./config-reader.ts";
import type { LayerType } from "./decoder-inputs.ts";

/** Config key `layer_types`; without it layer i is global when i + 1 is a multiple of `period`. */
export function readLayerTypes(read: ConfigReader, count: number, period: number): LayerType[] {
  const types = read.raw("layer_types");
  if (types === undefined) {
    return Array.from({ length: count }, (_, i) =>
      (i + 1) % period === 0 ? "full_attention" : "sliding_attention",
    );
  }
  if (!Array.isArray(types) || types.length !== count) {
    const got = Array.isArray(types) ? `${types.length} entries` : JSON.stringify(types);
    read.fail("layer_types", `expected a list of ${count} entries, one a layer, got ${got}`);
  }
  for (const type of types) {
    if (type !== "sliding_attention" && type !== "full_attention")
      read.fail("layer_types", `unknown layer type ${JSON.stringify(type)}`);
  }
  return types;
}
