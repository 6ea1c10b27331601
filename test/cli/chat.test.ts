import { type SpawnSyncReturns, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { hasTerminal, Terminal } from "../support/terminal.ts";

/** The built command line, as a user runs it. */
const MAIN = resolve(import.meta.dirname, "../../dist/cli/main.js");
const TINY = resolve(import.meta.dirname, "../fixtures/golden-h16/gemma3_text/model");
const folder = mkdtempSync(join(tmpdir(), "lapidary-chat-"));
afterAll(() => rmSync(folder, { recursive: true }));

const env = {
  ...process.env,
  LAPIDARY_CACHE: join(folder, "cache"),
  HF_HOME: join(folder, "hf"),
  HF_HUB_OFFLINE: "1",
};
/** Greedy, and no token that the model has and the tokenizer has not. */
const GREEDY = ["--no-do-sample", "--ignore-eos", "-n", "6"];
const SUPPRESS = "/set suppress_tokens [433,434,435,436,437,438,439]\n";

function chat(args: readonly string[], input: string, model = TINY): SpawnSyncReturns<string> {
  const command = [MAIN, "chat", "--model", model, ...args];
  return spawnSync(process.execPath, command, { encoding: "utf8", env, timeout: 60_000, input });
}

interface Answer {
  role: string;
  content: string;
  stats: Record<string, number | string>;
}

function answers(stdout: string): Answer[] {
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Answer);
}

/** A copy of the tiny model, changed. */
function variant(name: string, change: (copy: string) => void): string {
  const copy = join(folder, name);
  cpSync(TINY, copy, { recursive: true });
  change(copy);
  return copy;
}

/** Answers can be of any length in it. */
const endless = variant("endless", (copy) => {
  const file = join(copy, "config.json");
  const config = JSON.parse(readFileSync(file, "utf8")) as object;
  writeFileSync(file, JSON.stringify({ ...config, max_position_embeddings: 1_000_000 }));
});

describe("lapidary chat with a pipe", () => {
  it("answers line by line, and computes only what is new", () => {
    const { status, stdout, stderr } = chat(
      [...GREEDY, "--json"],
      `${SUPPRESS}Hello there\nAnd you?\n/retry\n`,
    );
    expect(stderr).toContain("onnxruntime");
    expect(status).toBe(0);
    const [first, second, third] = answers(stdout);
    expect(first).toMatchObject({ role: "assistant", stats: { cached_tokens: 0, new_tokens: 6 } });
    expect(second!.stats.cached_tokens).toBeGreaterThan(Number(first!.stats.prompt_tokens) - 1);
    expect(third!.content).toBe(second!.content);
    expect(Number(third!.stats.prompt_tokens) - Number(third!.stats.cached_tokens)).toBe(1);
  });

  it("guesses ahead with another model, and says the same", () => {
    const plain = answers(chat([...GREEDY, "--json"], `${SUPPRESS}Hello there\n`).stdout);
    const { stdout, stderr } = chat([...GREEDY, "--json", "--assistant", TINY], `${SUPPRESS}Hello there\n`);
    expect(answers(stdout)[0]!.content).toBe(plain[0]!.content);
    expect(stderr).not.toContain("lapidary:");
    expect(chat([...GREEDY, "--assistant", join(folder, "none")], "Hello\n").status).not.toBe(0);
  });

  it("prints answers and nothing else to standard output", () => {
    const { stdout, stderr } = chat(
      [...GREEDY, "--stats"],
      `${SUPPRESS}Hello there\n\n/stats\n/exit\nnever\n`,
    );
    const [{ content }] = answers(chat([...GREEDY, "--json"], `${SUPPRESS}Hello there\n`).stdout) as [Answer];
    expect(stdout).toBe(`${content}\n`);
    expect(stderr).toMatch(/cut at 6 tokens/);
    expect(stderr.match(/decode +[\d.]+ tok\/s \(6 tokens\)/g)).toHaveLength(2);
  });

  it("saves a conversation and goes on from it", () => {
    const file = join(folder, "saved.json");
    const talk = `${SUPPRESS}Hello there\n"""\n/two\nlines\n"""\nmore \\\nand more\n/undo\n`;
    const saved = chat([...GREEDY, "--system", "Be brief."], `${talk}/save ${file}\nGo on\n`);
    expect(saved.status).toBe(0);
    const messages = JSON.parse(readFileSync(file, "utf8")) as Answer[];
    expect(messages.map(({ role }) => role)).toEqual(["system", "user", "assistant", "user", "assistant"]);
    expect([messages[0]!.content, messages[3]!.content]).toEqual(["Be brief.", "/two\nlines"]);
    const loaded = chat([...GREEDY, "--load", file], `${SUPPRESS}Go on\n`);
    expect(`${loaded.stdout}`).toBe(saved.stdout.slice(-loaded.stdout.length));
    expect(loaded.stdout.length).toBeGreaterThan(3);
    expect(chat(GREEDY, `/load ${file}\n/system\n`).stderr).toMatch(/5 messages loaded\nBe brief\.\n/);
  });

  it("says when the context is full, and drops nothing without being told to", () => {
    const long = `Hello ${"there ".repeat(36)}\n`;
    const stuck = chat(GREEDY, SUPPRESS + long + long + long);
    expect(stuck.status).toBe(2);
    expect(stuck.stderr).toMatch(/tokens of 256, which leaves no room.*\(trim\)\n$/);
    const trimmed = chat([...GREEDY, "--trim", "--json"], SUPPRESS + long + long + long);
    expect(trimmed.status).toBe(0);
    expect(answers(trimmed.stdout).map(({ stats }) => stats.dropped_messages)).toEqual([0, 0, 4]);
  });

  it("tells what to do with a base model", () => {
    const base = variant("base", (copy) => rmSync(join(copy, "chat_template.jinja")));
    const { status, stderr } = chat([], "Hello\n", base);
    expect(status).toBe(2);
    expect(stderr).toMatch(/base model, which continues texts.*lapidary run/);
    const template = join(TINY, "chat_template.jinja");
    expect(chat([...GREEDY, "--chat-template", template], `${SUPPRESS}Hello\n`, base).status).toBe(0);
  });

  it("passes functions to templates that take them", () => {
    const tools = join(folder, "tools.json");
    writeFileSync(tools, '[{ "name": "look_up" }]');
    expect(chat([...GREEDY, "--tools", tools], "Hello\n").stderr).toMatch(/template does not read them/);
    const template = join(folder, "template.jinja");
    writeFileSync(template, "{% if tools %}{{ tools[0]['name'] }}{% endif %}{{ messages[-1]['content'] }}");
    const tokens = (...args: string[]): unknown =>
      answers(
        chat([...GREEDY, "--json", "--chat-template", template, ...args], `${SUPPRESS}Hello\n`).stdout,
      )[0]!.stats.prompt_tokens;
    expect(tokens("--tools", tools)).toBeGreaterThan(Number(tokens()));
  });

  it.each([
    [[], "/sett\n", /unknown command \/sett; did you mean \/set\?/],
    [[], "/set temprature 1\n", /did you mean "temperature"/],
    [[], "/set temperature hot\n", /temperature must be/],
    [[], "/load /nowhere/at/all.json\n", /all\.json: no such file/],
    [["--load", MAIN], "", /main\.js: not JSON/],
    [["--load", join(TINY, "config.json")], "", /config\.json: a conversation is a list/],
    [["--system", "x", "--temprature", "1"], "", /temperature/],
  ])("%j and %j are refused in one line", (args, input, message) => {
    const { status, stderr } = chat(args, input);
    expect(stderr).toMatch(message);
    expect(status).toBe(2);
    expect(stderr).not.toMatch(/\n\s+at /);
  });

  it("ends on an interrupt, having printed what came", async () => {
    const command = [MAIN, "chat", "--model", endless, ...GREEDY, "-n", "900000"];
    const child = spawn(process.execPath, command, { env, stdio: ["pipe", "pipe", "ignore"] });
    child.stdin.write(`${SUPPRESS}Hello there\nnever\n`);
    let printed = "";
    for await (const text of child.stdout.setEncoding("utf8")) {
      if (printed === "") child.kill("SIGINT");
      printed += text;
    }
    expect(printed).toMatch(/^.+\n$/s);
    const code = child.exitCode ?? (await once(child, "exit"))[0];
    expect(code).toBe(130);
  });

  it("ends with an error where it can't write", () => {
    const { status, stderr } = chat(GREEDY, "/save /nowhere/at/all.json\n");
    expect(stderr).toMatch(/all\.json: can't be written/);
    expect(status).toBe(1);
  });
});

describe.skipIf(!hasTerminal())("lapidary chat on a terminal (needs python3)", () => {
  const flags = ["--no-do-sample", "--ignore-eos", "-n", "900000"];
  let terminal: Terminal;
  afterEach(() => terminal.kill());

  async function start(...args: string[]): Promise<void> {
    terminal = new Terminal([process.execPath, MAIN, "chat", "--model", endless, ...flags, ...args], env);
    await terminal.until(/Ctrl-D leaves/);
    await enter(SUPPRESS.trimEnd());
  }

  /** Types a line at the prompt; what it brings up to the next prompt is returned by `until`. */
  async function enter(line: string): Promise<void> {
    await terminal.until(/> /);
    terminal.type(`${line}\r`);
    await terminal.until(/\[\?2004l/);
  }

  it("stops an answer on Ctrl-C, goes on, and leaves on the second at an empty prompt", async () => {
    await start();
    await enter("Hello there");
    await terminal.until(/\S[\s\S]{20}/);
    terminal.type("\u0003");
    await enter("/stats");
    expect(await terminal.until(/cache +\d/)).toMatch(/decode .*tok\/s/);
    await terminal.until(/> /);
    terminal.type("never mind\u0003");
    await terminal.until(/\n.*> /);
    terminal.type("\u0003");
    await terminal.until(/Ctrl-C again leaves/);
    await terminal.until(/> /);
    terminal.type("\u0003");
    expect(await terminal.end()).toBe(0);
  });

  it("takes what is pasted as one turn, and tells of mistakes without ending", async () => {
    const file = join(folder, "pasted.json");
    await start();
    await enter("/sett");
    await terminal.until(/did you mean \/set\?/);
    await enter("/set max_new_tokens 3");
    await terminal.until(/max_new_tokens 3/);
    await enter("\u001b[200~one\r/two\u001b[201~");
    await terminal.until(/cut at 3 tokens/);
    await enter(`/save ${file}`);
    await terminal.until(/2 messages saved/);
    expect((JSON.parse(readFileSync(file, "utf8")) as Answer[])[0]!.content).toBe("one\n/two");
    await terminal.until(/> /);
    terminal.type("\u0004");
    expect(await terminal.end()).toBe(0);
  });

  it("remembers what was typed, unless told not to", async () => {
    const history = join(env.LAPIDARY_CACHE, "chat-history");
    rmSync(history, { force: true });
    await start("--no-history");
    await enter("/exit");
    expect(await terminal.end()).toBe(0);
    expect(existsSync(history)).toBe(false);
    await start();
    await enter("/system Be brief.");
    await enter("/exit");
    expect(await terminal.end()).toBe(0);
    expect(readFileSync(history, "utf8")).toBe(`${SUPPRESS}/system Be brief.\n/exit\n`);
    await start();
    // Up three times: the line of this chat, "/exit" of the last one, and what came before it.
    await enter("\u001b[A\u001b[A\u001b[A");
    await enter("/system");
    expect(await terminal.until(/Be brief\./)).toBeDefined();
    await enter("/bye");
    expect(await terminal.end()).toBe(0);
  });
});
