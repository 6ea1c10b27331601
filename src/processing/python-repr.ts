/** A value inside the template engine, told apart by its `type`. */
export interface TemplateValue {
  readonly type: string;
  readonly value: unknown;
}

/** Python's `str()` of a template value: what a list or dict looks like where a template prints it as text. */
export function pythonText(value: TemplateValue): string {
  return value.type === "StringValue" ? (value.value as string) : pythonRepr(value);
}

function pythonRepr(value: TemplateValue): string {
  switch (value.type) {
    case "StringValue":
      return pythonString(value.value as string);
    case "BooleanValue":
      return value.value === true ? "True" : "False";
    case "NullValue":
      return "None";
    case "ArrayValue":
      return `[${(value.value as TemplateValue[]).map(pythonRepr).join(", ")}]`;
    case "TupleValue": {
      const items = (value.value as TemplateValue[]).map(pythonRepr);
      return items.length === 1 ? `(${items[0]},)` : `(${items.join(", ")})`;
    }
    case "ObjectValue": {
      const entries = [...(value.value as Map<string, TemplateValue>)];
      return `{${entries.map(([key, item]) => `${pythonString(key)}: ${pythonRepr(item)}`).join(", ")}}`;
    }
    default:
      return String(value);
  }
}

const ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** Python's `repr()` of a string. */
export function pythonString(text: string): string {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(/[\\\p{C}\p{Z}]/gu, (character) => {
    if (character === " ") return character;
    if (character in ESCAPES) return ESCAPES[character]!;
    const code = character.codePointAt(0)!;
    const digits = code < 0x100 ? 2 : code < 0x10000 ? 4 : 8;
    return `\\${digits === 2 ? "x" : digits === 4 ? "u" : "U"}${code.toString(16).padStart(digits, "0")}`;
  });
  return mark + escaped.replaceAll(mark, `\\${mark}`) + mark;
}
