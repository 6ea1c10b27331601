import { InputError, LapidaryError } from "../../errors.ts";
import type { ChatSession } from "../../generation/chat-session.ts";
import { load_audio } from "../../processing/audio/raw-audio.ts";
import type { ChatContent } from "../../processing/chat-template.ts";
import { load_image } from "../../processing/raw-image.ts";
import { type ChatContext, runCommand } from "./commands.ts";
import type { LineInput } from "./input.ts";
import { endingOf, formatStats } from "./stats.ts";
import { type Turn, TurnReader } from "./turns.ts";

/** How answers are shown. */
export interface ConversationOptions {
  /** Someone sits at a terminal: prompts, and errors that don't end the conversation. */
  readonly terminal: boolean;
  readonly json: boolean;
  readonly stats: boolean;
}

const PROMPT = "> ";
const GOES_ON = "… ";
/** Control characters but tabs and line ends: a terminal would take them for orders. */
const CONTROL = /[^\P{Cc}\t\n\r]/gu;

/** Reads turns, runs commands, prints answers. */
export class Conversation implements ChatContext {
  readonly session: ChatSession;
  readonly #input: LineInput;
  readonly #options: ConversationOptions;
  readonly #turns: TurnReader = new TurnReader();
  /** Of the answer that is being written. */
  #abort: AbortController | undefined;
  /** Images and sounds for the next question. */
  #attached: ChatContent[] = [];
  /** Ctrl-C was the last thing typed. */
  #leaving = false;

  constructor(session: ChatSession, input: LineInput, options: ConversationOptions) {
    this.session = session;
    this.#input = input;
    this.#options = options;
  }

  /** Goes on until the user leaves or input ends. Errors end it, too, where nobody sits at a terminal. */
  async run(): Promise<void> {
    const interrupt = (): void => (this.#abort === undefined ? this.#input.interrupt() : this.#abort.abort());
    process.on("SIGINT", interrupt);
    try {
      for (let turn = await this.#next(); turn !== undefined; turn = await this.#next()) {
        if (await this.#leaves(turn)) return;
      }
    } finally {
      process.off("SIGINT", interrupt);
    }
  }

  note(text: string): void {
    process.stderr.write(`${text}\n`);
  }

  async attach(kind: "image" | "audio", path: string): Promise<void> {
    const { processor } = this.session;
    if (processor === undefined || (kind === "audio" && processor.audio_token === undefined))
      throw new InputError(`the model takes no ${kind === "image" ? "images" : "audio"}`);
    // A file that can't be read should not wait for the question.
    await (kind === "image" ? load_image(path) : load_audio(path));
    this.#attached.push({ type: kind, [kind]: path });
    this.note(`${path} goes with the next question`);
  }

  async answer(ask: (signal: AbortSignal) => AsyncIterable<string>): Promise<void> {
    const abort = new AbortController();
    this.#abort = abort;
    let text = "";
    try {
      for await (const piece of ask(abort.signal)) {
        text += piece;
        this.#print(piece);
      }
    } catch (error) {
      if (!(this.#options.terminal && abort.signal.aborted)) throw error;
      if (text === "") this.note("stopped before the answer began: the conversation is as before");
    } finally {
      this.#abort = undefined;
      if (text !== "" && !text.endsWith("\n")) this.#print("\n");
    }
    this.#report();
  }

  /** The next turn, undefined where input ends or the user leaves. */
  async #next(): Promise<Turn | undefined> {
    for (;;) {
      const event = await this.#input.next(this.#turns.open ? GOES_ON : PROMPT);
      if (event === "end") return this.#turns.end();
      if (event === "interrupt" && !this.#turns.open) {
        if (!this.#options.terminal) throw new DOMException("interrupted", "AbortError");
        if (this.#leaving) return undefined;
        this.note("Ctrl-C again leaves, as do Ctrl-D and /exit");
      }
      this.#leaving = event === "interrupt" && !this.#turns.open;
      if (typeof event === "string") {
        this.#turns.reset();
        continue;
      }
      const turn = this.#turns.push(event.line);
      if (turn !== undefined) return turn;
    }
  }

  /** Answers a turn or runs its command. Returns whether the user leaves. */
  async #leaves({ kind, text }: Turn): Promise<boolean> {
    try {
      if (kind === "command") return await runCommand(text, this);
      const content = this.#attached.length === 0 ? text : [...this.#attached, { type: "text", text }];
      this.#attached = [];
      await this.answer((signal) => this.session.send(content, { signal }));
    } catch (error) {
      if (!this.#options.terminal || !(error instanceof LapidaryError)) throw error;
      this.note(error.message);
    }
    return false;
  }

  #print(text: string): void {
    if (this.#options.json) return;
    process.stdout.write(this.#options.terminal ? text.replace(CONTROL, "\uFFFD") : text);
  }

  /** What is to be said after an answer. */
  #report(): void {
    const stats = this.session.stats!;
    if (this.#options.json) {
      process.stdout.write(`${JSON.stringify({ ...this.session.messages.at(-1), stats })}\n`);
      return;
    }
    if (stats.dropped_messages > 0)
      this.note(`the context was full: the ${stats.dropped_messages} oldest messages are gone`);
    const ending = endingOf(stats);
    if (ending !== undefined) this.note(ending);
    if (this.#options.stats) this.note(formatStats(stats));
  }
}
