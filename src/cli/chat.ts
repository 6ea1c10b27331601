import { join } from "node:path";
import type { CausalLM } from "../api/causal-lm.ts";
import { cacheFolder } from "../cache-folder.ts";
import { InputError } from "../errors.ts";
import { ChatSession, type ChatSessionOptions } from "../generation/chat-session.ts";
import { Conversation } from "./chat/conversation.ts";
import { loadConversation, loadTools, readText } from "./chat/files.ts";
import { InputHistory } from "./chat/history.ts";
import { LineInput } from "./chat/input.ts";
import { CHAT_NEW_TOKENS, type GenerationFlags, generationOptions } from "./generation-flags.ts";
import { DEFAULT_MODEL, type ModelFlags } from "./model-flags.ts";
import { loadWidestEncoder, type PromptEncoder } from "./prompt-inputs.ts";
import { describeModel, loadAssistant, loadingOptions, loadOnDevice, locations } from "./run.ts";

export interface ChatFlags extends ModelFlags, GenerationFlags {
  readonly system?: string;
  readonly load?: string;
  readonly tools?: string;
  readonly chatTemplate?: string;
  readonly trim?: boolean;
  readonly panAndScan?: boolean;
  readonly history?: boolean;
  readonly stats?: boolean;
  readonly json?: boolean;
}

/** `lapidary chat`: a conversation on the terminal, or with the lines of a pipe. */
export async function chat(flags: ChatFlags): Promise<void> {
  const options = await sessionOptions(flags);
  const { model, tokenizer, processor, assistant } = await load(flags);
  try {
    const guesses = assistant === undefined ? {} : { assistant_model: assistant };
    const session = new ChatSession(model, tokenizer, {
      ...options,
      ...(processor && { processor }),
      ...(flags.panAndScan === true && { processor_kwargs: { do_pan_and_scan: true } }),
      generation: { ...options.generation, ...guesses },
    });
    note(describeModel(model));
    await converse(session, flags);
    session.dispose();
  } finally {
    await Promise.all([model.dispose(), assistant?.dispose()]);
  }
}

/** Reads the files that the flags name first: a wrong one should not wait for the model. */
async function sessionOptions(flags: ChatFlags): Promise<ChatSessionOptions> {
  return {
    generation: generationOptions(flags, CHAT_NEW_TOKENS),
    trim: flags.trim === true,
    ...(flags.system === undefined ? {} : { system: flags.system }),
    ...(flags.tools === undefined ? {} : { tools: await loadTools(flags.tools) }),
    ...(flags.load === undefined ? {} : { messages: await loadConversation(flags.load) }),
  };
}

interface Loaded extends PromptEncoder {
  readonly model: CausalLM;
  readonly assistant: CausalLM | undefined;
}

async function load(flags: ChatFlags): Promise<Loaded> {
  const id = flags.model ?? DEFAULT_MODEL;
  const template =
    flags.chatTemplate === undefined ? {} : { chat_template: await readText(flags.chatTemplate) };
  const abort = new AbortController();
  const interrupt = (): void => abort.abort();
  process.once("SIGINT", interrupt);
  try {
    const options = await loadingOptions(id, flags, abort.signal);
    const encoder = await loadWidestEncoder(id, { ...locations(options), ...template });
    const { tokenizer, processor } = encoder;
    // Said before the weights are prepared, which takes a while.
    if ((tokenizer.chat_template ?? null) === null) throw noTemplate(id);
    const model = await loadOnDevice(id, options, flags, processor !== undefined);
    return { ...encoder, model, assistant: await loadAssistant(flags, abort.signal) };
  } finally {
    process.off("SIGINT", interrupt);
  }
}

function noTemplate(id: string): InputError {
  return new InputError(
    `${id} has no chat template: it is a base model, which continues texts and does not answer. ` +
      `Use lapidary run --model ${id} "…" for that, chat with an instruction-tuned model (their names end in -it), ` +
      "or give the template that it was tuned with by --chat-template FILE",
  );
}

async function converse(session: ChatSession, flags: ChatFlags): Promise<void> {
  const json = flags.json === true;
  const terminal = process.stdin.isTTY === true && process.stdout.isTTY === true && !json;
  const file = terminal && flags.history !== false ? join(cacheFolder(), "chat-history") : undefined;
  if (terminal) note("/help lists the commands, Ctrl-D leaves");
  const input = new LineInput(terminal, await InputHistory.open(file, note));
  try {
    await new Conversation(session, input, { terminal, json, stats: flags.stats === true }).run();
  } finally {
    input.close();
  }
}

function note(text: string): void {
  process.stderr.write(`${text}\n`);
}
