import { createInterface, type Interface } from "node:readline";
import type { InputHistory } from "./history.ts";

/** A line; "interrupt" for Ctrl-C, "cleared" where it took away what was being typed; "end" for the end (Ctrl-D). */
export type InputEvent = { readonly line: string } | "interrupt" | "cleared" | "end";

/** Terminals then mark what is pasted, so that its lines are told from typed ones. */
const PASTE_ON = "\u001b[?2004h";
const PASTE_OFF = "\u001b[?2004l";
const HISTORY_SIZE = 1000;

/** Lines from standard input: from a terminal with editing and a history, from a pipe as they are. */
export class LineInput {
  readonly #terminal: boolean;
  readonly #history: InputHistory;
  readonly #readline: Interface;
  readonly #events: InputEvent[] = [];
  #wake: (() => void) | undefined;
  #pasting = false;
  /** Lines that were pasted; what follows up to the next line end belongs to them. */
  #pasted: string[] = [];

  constructor(terminal: boolean, history: InputHistory) {
    this.#terminal = terminal;
    this.#history = history;
    const { stdin: input, stdout: output } = process;
    this.#readline = terminal
      ? createInterface({
          input,
          output,
          terminal,
          history: [...history.lines],
          historySize: HISTORY_SIZE,
          removeHistoryDuplicates: true,
        })
      : createInterface({ input, terminal: false, crlfDelay: Number.POSITIVE_INFINITY });
    this.#readline.on("line", (line) => this.#line(line));
    this.#readline.on("SIGINT", () => this.interrupt());
    this.#readline.on("close", () => this.#add("end"));
    if (terminal) input.on("keypress", this.#keypress);
  }

  /** The next line. Between calls the terminal is left in its usual mode, in which Ctrl-C is a signal. */
  async next(prompt: string): Promise<InputEvent> {
    if (this.#events.length === 0) {
      this.#listen(prompt);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#pause();
    }
    const event = this.#events[0]!;
    // What ends input, ends it for good.
    if (event !== "end") this.#events.shift();
    return event;
  }

  /** Acts as Ctrl-C: drops what is being typed. */
  interrupt(): void {
    const isEmpty = this.#pasted.length === 0 && this.#readline.line === "";
    this.#pasted = [];
    if (this.#terminal) {
      this.#readline.write(null, { ctrl: true, name: "e" });
      this.#readline.write(null, { ctrl: true, name: "u" });
      process.stdout.write("\n");
    }
    this.#add(isEmpty ? "interrupt" : "cleared");
  }

  close(): void {
    this.#readline.close();
    process.stdin.off("keypress", this.#keypress);
  }

  #listen(prompt: string): void {
    if (!this.#terminal) {
      this.#readline.resume();
      return;
    }
    process.stdin.setRawMode(true);
    process.stdout.write(PASTE_ON);
    this.#readline.setPrompt(prompt);
    this.#readline.prompt();
  }

  #pause(): void {
    this.#readline.pause();
    if (!this.#terminal) return;
    process.stdout.write(PASTE_OFF);
    process.stdin.setRawMode(false);
  }

  #line(line: string): void {
    if (this.#terminal) this.#history.add(line);
    this.#pasted.push(line);
    if (!this.#pasting) this.#add({ line: this.#pasted.splice(0).join("\n") });
  }

  #add(event: InputEvent): void {
    this.#events.push(event);
    this.#wake?.();
  }

  readonly #keypress = (_: unknown, key: { readonly name?: string } | undefined): void => {
    if (key?.name === "paste-start") this.#pasting = true;
    if (key?.name === "paste-end") this.#pasting = false;
  };
}
