import { InputError } from "../errors.ts";
import { pythonText, type TemplateValue } from "./python-repr.ts";

/** One turn. Templates read `role` and `content`; further keys (tool_calls, name …) are theirs to use. */
export interface ChatMessage {
  role: string;
  content: string | readonly ChatContent[];
  [key: string]: unknown;
}

/** A part of a turn: text, or the place of an image or a sound. */
export interface ChatContent {
  type: string;
  text?: string;
  [key: string]: unknown;
}

/** Templates come with checkpoints and are not to be trusted with the machine's time and memory. */
const MAX_SOURCE = 1 << 18;
const MAX_RENDERED = 1 << 26;
const MAX_SECONDS = 5;
const MAX_RANGE = 10_000;

/** What raise_exception throws: its message goes to the caller as it is. */
class TemplateMessage extends Error {}

/** The part of @huggingface/jinja in use; its own declarations do not resolve under Node's module rules. */
interface Jinja {
  readonly Environment: new () => JinjaEnvironment;
  readonly Interpreter: new (environment: JinjaEnvironment) => JinjaInterpreter;
  readonly Template: new (source: string) => { readonly parsed: JinjaNode };
}

interface JinjaEnvironment {
  /** Returns the value as the engine holds it. */
  set(name: string, value: unknown): TemplateValue;
}

interface JinjaInterpreter {
  run(program: JinjaNode): TemplateValue;
  evaluate(node: JinjaNode | undefined, environment: JinjaEnvironment): TemplateValue;
}

interface JinjaNode {
  readonly type: string;
  readonly operand?: JinjaNode;
  readonly filter?: { readonly value?: unknown };
}

/** Stands for an operand that has been evaluated already. */
interface EvaluatedNode extends JinjaNode {
  readonly result: TemplateValue;
}

let jinja: Jinja | undefined;

/** Loads the template engine ahead, where it can't be loaded on demand (browsers). */
export async function loadJinja(): Promise<void> {
  jinja ??= (await import("@huggingface/jinja")) as unknown as Jinja;
}

/** Renders a chat template with the given variables. Every failure is an InputError. */
export function renderTemplate(source: string, variables: Readonly<Record<string, unknown>>): string {
  if (source.length > MAX_SOURCE) {
    throw new InputError(`chat template: ${source.length} characters, at most ${MAX_SOURCE} are accepted`);
  }
  jinja ??= requireJinja();
  try {
    return render(jinja, source, variables);
  } catch (error) {
    if (error instanceof InputError) throw error;
    if (error instanceof TemplateMessage) throw new InputError(error.message, { cause: error });
    throw new InputError(`chat template: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

/** Whether a template reads a variable of this name, as far as its text tells. */
export function templateMentions(source: string, name: string): boolean {
  return new RegExp(`\\b${name.replace(/\W/g, "\\$&")}\\b`).test(source);
}

/**
 * Cuts a rendered chat after the last message's text, so that the model goes on writing that message
 * (HF's continue_final_message).
 */
export function cutAfterFinalMessage(rendered: string, messages: readonly ChatMessage[]): string {
  const content = messages.at(-1)?.content;
  const text =
    typeof content === "string" ? content : content?.findLast((part) => typeof part.text === "string")?.text;
  if (text === undefined) throw new InputError("continue_final_message: the last message has no text");
  const start = rendered.lastIndexOf(text.trim());
  if (start === -1) {
    throw new InputError("continue_final_message: the chat template changes the last message's text");
  }
  // A template that trims leaves nothing of the text's end to keep.
  const kept = rendered.startsWith(text.trimStart(), start) ? text.trimStart() : text.trim();
  return rendered.slice(0, start + kept.length);
}

function render(engine: Jinja, source: string, variables: Readonly<Record<string, unknown>>): string {
  const environment = new engine.Environment();
  const globals = { false: false, true: true, none: null, False: false, True: true, None: null };
  for (const [name, value] of Object.entries({ ...globals, ...FUNCTIONS, ...variables })) {
    if (value !== undefined) environment.set(name, value);
  }
  const deadline = performance.now() + MAX_SECONDS * 1000;
  class BoundedInterpreter extends engine.Interpreter {
    override evaluate(node: JinjaNode | undefined, scope: JinjaEnvironment): TemplateValue {
      if (performance.now() > deadline)
        throw new InputError(`chat template: it takes over ${MAX_SECONDS} seconds`);
      if (node?.type === EVALUATED) return (node as EvaluatedNode).result;
      const result = super.evaluate(this.#withTextOperand(node, scope), scope);
      const { value } = result;
      if ((typeof value === "string" || Array.isArray(value)) && value.length > MAX_RENDERED) {
        throw new InputError(`chat template: it makes more than ${MAX_RENDERED} characters`);
      }
      return result;
    }

    /** Python's text filters take the text of any value; the engine's take texts only. */
    #withTextOperand(node: JinjaNode | undefined, scope: JinjaEnvironment): JinjaNode | undefined {
      if (node?.type !== "FilterExpression" || !TEXT_FILTERS.has(node.filter?.value)) return node;
      const operand = this.evaluate(node.operand, scope);
      const isContainer = ["ArrayValue", "TupleValue", "ObjectValue"].includes(operand.type);
      const result = isContainer ? new engine.Environment().set("text", pythonText(operand)) : operand;
      const evaluated: EvaluatedNode = { type: EVALUATED, result };
      return { ...node, operand: evaluated };
    }
  }
  const { parsed } = new engine.Template(source);
  return new BoundedInterpreter(environment).run(parsed).value as string;
}

const EVALUATED = "Evaluated";
const TEXT_FILTERS: ReadonlySet<unknown> = new Set(["trim", "upper", "lower", "title", "capitalize"]);

const FUNCTIONS = {
  raise_exception: (message: unknown): never => {
    throw new TemplateMessage(String(message));
  },
  range: (first: number, second?: number, step = 1): number[] => {
    const [start, stop] = second === undefined ? [0, first] : [first, second];
    const length = Math.max(0, Math.ceil((stop - start) / step));
    if (!(length <= MAX_RANGE)) throw new InputError(`chat template: range of ${length} numbers`);
    return Array.from({ length }, (_, i) => start + i * step);
  },
  strftime_now: (format: string): string => formatDate(new Date(), format),
};

function formatDate(date: Date, format: string): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const month = (style: "long" | "short"): string => date.toLocaleString("en-US", { month: style });
  const fields: Record<string, () => string> = {
    "%Y": () => String(date.getFullYear()),
    "%m": () => two(date.getMonth() + 1),
    "%d": () => two(date.getDate()),
    "%H": () => two(date.getHours()),
    "%M": () => two(date.getMinutes()),
    "%S": () => two(date.getSeconds()),
    "%B": () => month("long"),
    "%b": () => month("short"),
    "%%": () => "%",
  };
  return format.replace(/%[YmdHMSBb%]/g, (field) => fields[field]!());
}

/** Templates are rendered in synchronous calls, so Node loads the engine with require when the first one comes. */
function requireJinja(): Jinja {
  const node = globalThis.process?.getBuiltinModule?.("node:module");
  if (node === undefined) throw new InputError("chat template: call loadJinja() first");
  return node.createRequire(import.meta.url)("@huggingface/jinja") as Jinja;
}
