import { InputError, rejectUnknownOptions } from "../../errors.ts";
import type { ChatSession } from "../../generation/chat-session.ts";
import { FIELD_NAMES } from "../../generation/generation-fields.ts";
import { SAMPLING_OPTIONS } from "../generation-flags.ts";

/** `/set`: sets an option of generate for the answers to come, or shows what is set. Returns what to print. */
export function setOption(session: ChatSession, argument: string): string {
  const [, name = "", given = ""] = /^(\S*)\s*([\s\S]*)$/.exec(argument)!;
  const own = session.generation as Readonly<Record<string, unknown>>;
  if (name === "") {
    const lines = Object.entries(own).map(([option, value]) => `${option} ${JSON.stringify(value)}`);
    return lines.length === 0 ? "nothing is set" : lines.join("\n");
  }
  rejectUnknownOptions({ [name]: true }, FIELD_NAMES, "/set");
  if (given === "") return `${name} ${show(session, name)}`;
  const { [name]: _before, ...others } = own;
  if (given === "default") {
    session.generation = others;
    return `${name} ${show(session, name)}`;
  }
  const samples = SAMPLING_OPTIONS.includes(name) && own["do_sample"] === undefined;
  session.generation = { ...others, ...(samples ? { do_sample: true } : {}), [name]: parseValue(given) };
  return `${name} ${show(session, name)}`;
}

/** The value that answers will have, and whether it is the model's own. */
function show(session: ChatSession, name: string): string {
  const own = (session.generation as Readonly<Record<string, unknown>>)[name];
  if (own !== undefined) return JSON.stringify(own);
  const { [name]: value } = session.model.generation_config as unknown as Readonly<Record<string, unknown>>;
  return value === null || value === undefined ? "is not set" : `${JSON.stringify(value)} (the model's own)`;
}

/** Numbers, true, false, null, lists and quoted texts are JSON; anything else is a text. */
function parseValue(text: string): unknown {
  if (!/^(-?[\d.]|\[|\{|"|(true|false|null)$)/.test(text)) return text;
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InputError(`${text} is not a value: write a number, true, false, null, a list or a text`, {
      cause,
    });
  }
}
