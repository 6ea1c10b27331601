/** What was typed to its end: something to say, or a command. */
export interface Turn {
  readonly kind: "text" | "command";
  readonly text: string;
}

const FENCE = '"""';
/** A fence begins a turn, or the argument of a command: `/system """…`. */
const OPENING = /^(\/[a-z]+\s+)?"""/i;

/**
 * Makes turns out of lines. A line that ends in a backslash goes on in the next one, and between triple quotes
 * everything is text. A turn that begins with a slash is a command, unless it was quoted or pasted as several lines.
 */
export class TurnReader {
  #state: "empty" | "lines" | "fenced" = "empty";
  /** The command whose argument is fenced. */
  #command = "";
  #parts: string[] = [];

  /** Whether a turn has begun and not ended. */
  get open(): boolean {
    return this.#state !== "empty";
  }

  /** Takes a line, or several that were pasted. Returns the turn that they end, unless it is empty. */
  push(line: string): Turn | undefined {
    if (this.#state === "fenced") return this.#pushFenced(line);
    const opening = this.#state === "empty" ? OPENING.exec(line) : null;
    if (opening !== null) {
      this.#state = "fenced";
      this.#command = opening[1] ?? "";
      return this.#pushFenced(line.slice(opening[0].length));
    }
    this.#state = "lines";
    const goesOn = line.endsWith("\\");
    this.#parts.push(goesOn ? line.slice(0, -1) : line);
    return goesOn ? undefined : this.end();
  }

  /** Ends the turn that has begun, as the end of the input does. */
  end(): Turn | undefined {
    const body = this.#parts.join("\n");
    const first = this.#parts[0] ?? "";
    const fenced = this.#state === "fenced";
    const isCommand = fenced ? this.#command !== "" : first.startsWith("/") && !first.includes("\n");
    const text = fenced ? this.#command + body.replace(/^\n|\n$/g, "") : body;
    this.reset();
    return text.trim() === "" ? undefined : { kind: isCommand ? "command" : "text", text };
  }

  /** Forgets what has begun. */
  reset(): void {
    this.#state = "empty";
    this.#command = "";
    this.#parts = [];
  }

  #pushFenced(line: string): Turn | undefined {
    const ends = line.trimEnd().endsWith(FENCE);
    this.#parts.push(ends ? line.trimEnd().slice(0, -FENCE.length) : line);
    return ends ? this.end() : undefined;
  }
}
