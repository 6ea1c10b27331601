import { InputError, nearestName } from "../../errors.ts";
import type { ChatSession } from "../../generation/chat-session.ts";
import { loadConversation, saveConversation } from "./files.ts";
import { setOption } from "./set-option.ts";
import { formatStats } from "./stats.ts";

/** What commands work on. */
export interface ChatContext {
  readonly session: ChatSession;
  /** Prints a remark, apart from the answers. */
  note(text: string): void;
  /** Keeps an image or a sound for the next question. */
  attach(kind: "image" | "audio", path: string): Promise<void>;
  /** Asks for an answer and prints it as it comes; Ctrl-C aborts the signal. */
  answer(ask: (signal: AbortSignal) => AsyncIterable<string>): Promise<void>;
}

interface Command {
  /** The name, then other names for it. */
  readonly names: readonly string[];
  /** How its argument is called in the help; null where it takes none. */
  readonly argument: string | null;
  readonly help: string;
  run(context: ChatContext, argument: string): Promise<void> | void;
}

const COMMANDS: readonly Command[] = [
  { names: ["help"], argument: null, help: "this list", run: ({ note }) => note(HELP) },
  { names: ["exit", "bye"], argument: null, help: "leaves, as Ctrl-D does", run: () => {} },
  {
    names: ["clear", "new"],
    argument: null,
    help: "starts a new conversation under the same system message",
    run: ({ session, note }) => {
      session.clear();
      note("a new conversation");
    },
  },
  {
    names: ["system"],
    argument: "[TEXT]",
    help: 'sets the system message, or shows it; /system "" takes it away',
    run: setSystem,
  },
  {
    names: ["save"],
    argument: "FILE",
    help: "writes the conversation as JSON",
    run: async ({ session, note }, file) => {
      await saveConversation(file, session.messages);
      note(`${session.messages.length} messages saved`);
    },
  },
  { names: ["load"], argument: "FILE", help: "goes on from a saved conversation", run: load },
  {
    names: ["image"],
    argument: "FILE",
    help: "shows a picture with the next question; again for more",
    run: (context, file) => context.attach("image", file),
  },
  {
    names: ["audio"],
    argument: "FILE",
    help: "plays a sound with the next question",
    run: (context, file) => context.attach("audio", file),
  },
  {
    names: ["retry"],
    argument: null,
    help: "answers the last question again",
    run: (context) => context.answer((signal) => context.session.retry({ signal })),
  },
  {
    names: ["undo"],
    argument: null,
    help: "drops the last question and its answer",
    run: ({ session, note }) => note(session.undo() ? "dropped" : "there is nothing to drop"),
  },
  {
    names: ["set"],
    argument: "[OPTION [VALUE]]",
    help: "an option for the answers to come, as temperature 0.7; VALUE default is the model's own",
    run: ({ session, note }, argument) => note(setOption(session, argument)),
  },
  {
    names: ["trim"],
    argument: "[on|off]",
    help: "lets the oldest exchanges go when the context is full",
    run: setTrim,
  },
  {
    names: ["stats"],
    argument: null,
    help: "tokens, speed and memory of the last answer",
    run: ({ session, note }) =>
      note(session.stats === undefined ? "no answer yet" : formatStats(session.stats)),
  },
];

const HELP = [
  ...COMMANDS.map(({ names, argument, help }) => {
    const usage = [names.map((name) => `/${name}`).join(", "), argument ?? ""].join(" ");
    return `${usage.padEnd(24)}${help}`;
  }),
  "",
  'A line that ends in \\ goes on in the next one. """ begins a text of several lines, and ends it.',
  "Ctrl-C stops an answer.",
].join("\n");

/** Runs a command as it was typed, slash included. Returns whether it was the one that leaves. */
export async function runCommand(text: string, context: ChatContext): Promise<boolean> {
  const [, typed = "", argument = ""] = /^\/(\S*)\s*([\s\S]*)$/.exec(text)!;
  const command = COMMANDS.find(({ names }) => names.includes(typed.toLowerCase()));
  if (command === undefined) throw unknownCommand(typed);
  const [name] = command.names;
  if (command.argument === null && argument.trim() !== "")
    throw new InputError(`/${name} takes nothing behind it, got ${argument.trim()}`);
  if (command.argument === "FILE" && argument.trim() === "")
    throw new InputError(`/${name} needs a file name`);
  await command.run(context, argument.trim());
  return name === "exit";
}

function unknownCommand(typed: string): InputError {
  const near = nearestName(
    typed,
    COMMANDS.flatMap(({ names }) => names),
  );
  const advice = near === undefined ? "" : `; did you mean /${near}?`;
  return new InputError(
    `unknown command /${typed}${advice} (/help lists them; a text that begins with a slash goes between """)`,
  );
}

function setSystem({ session, note }: ChatContext, text: string): void {
  if (text === "") note(session.system ?? "there is no system message");
  else session.system = text === '""' ? undefined : text;
}

async function load({ session, note }: ChatContext, file: string): Promise<void> {
  session.messages = await loadConversation(file);
  note(`${session.messages.length} messages loaded`);
  if (session.messages.at(-1)?.role === "user") note("the last one has no answer yet: /retry answers it");
}

function setTrim({ session, note }: ChatContext, argument: string): void {
  if (!["", "on", "off"].includes(argument)) throw new InputError("/trim is on or off");
  session.trim = argument !== "off";
  note(session.trim ? "the oldest exchanges go when the context is full" : "nothing is dropped");
}
