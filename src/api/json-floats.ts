import { randomUUID } from "node:crypto";
import { isJsonObject } from "../models/config-reader.ts";

/** Strings and numbers of a well-formed JSON text. */
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;

/**
 * A changed JSON value as text in which floats stay floats: 30.0 is not written as 30, which HF's typed configurations
 * refuse. What was a float in the `original` text keeps its spelling, and numbers under the keys `floats` are some too.
 */
export function stringifyWithFloats(
  original: string,
  value: unknown,
  floats: readonly string[] = [],
): string {
  const mark = `float ${randomUUID()} `;
  const marked: unknown = JSON.parse(
    original.replace(TOKENS, (token) => (/^[^"]*[.eE]/.test(token) ? `"${mark}${token}"` : token)),
  );
  const spelled = (now: unknown, before: unknown, key: string): unknown => {
    if (typeof now === "number") {
      if (typeof before === "string" && before.startsWith(mark) && Number(before.slice(mark.length)) === now)
        return before;
      return floats.includes(key) && Number.isInteger(now) ? `${mark}${now.toFixed(1)}` : now;
    }
    if (Array.isArray(now))
      return now.map((item, i) => spelled(item, Array.isArray(before) ? before[i] : undefined, key));
    if (!isJsonObject(now)) return now;
    const known = isJsonObject(before) ? before : {};
    return Object.fromEntries(
      Object.entries(now).map(([name, item]) => [name, spelled(item, known[name], name)]),
    );
  };
  const text = JSON.stringify(spelled(value, marked, ""), null, 2);
  return text.replaceAll(new RegExp(`"${mark}([^"]*)"`, "g"), "$1");
}
