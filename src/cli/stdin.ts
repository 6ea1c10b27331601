import { text as readAll } from "node:stream/consumers";
import { InputError } from "../errors.ts";

/** The prompt that is piped in, without its last line end; `example` shows how to write it as an argument. */
export async function promptFromStdin(example: string): Promise<string> {
  if (process.stdin.isTTY) throw new InputError(`no prompt: write one, as in ${example}, or pipe it in`);
  const text = (await readAll(process.stdin)).replace(/\n$/, "");
  if (text === "") throw new InputError("no prompt: standard input is empty");
  return text;
}
