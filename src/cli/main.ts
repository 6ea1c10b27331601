#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { Command, CommanderError, Option } from "commander";
import { HubError, InputError, LapidaryError } from "../errors.ts";
import type { BenchFlags } from "./bench.ts";
import type { EmbedFlags } from "./embed.ts";
import { addGenerationFlags, CHAT_NEW_TOKENS } from "./generation-flags.ts";
import type { MaskFlags } from "./mask.ts";
import { addModelFlags, countList, numberList, positiveInteger } from "./model-flags.ts";
import type { SliceFlags } from "./slice.ts";

/** Exit codes: what was typed is wrong, and what happened is. */
const USAGE = 2;
const FAILED = 1;

const INTRODUCTION = `Runs Gemma models on this machine, from their original files.

  lapidary run --model gemma-3-270m "The capital of France is"

The first run fetches the weights and prepares them; later ones start at once. A model is a folder with
safetensors, a .gguf file, a repository of the Hugging Face hub (google/gemma-3-1b-it), or gemma-3-270m, a small
one that needs no account.`;

function buildProgram(): Command {
  const program = new Command("lapidary")
    .description(INTRODUCTION)
    .exitOverride()
    .showHelpAfterError("(lapidary --help tells more)");
  program.version(packageVersion());

  const run = program
    .command("run")
    .description("continue a prompt, or answer one, and print the text as it comes");
  run.argument("[prompt...]", "the text; read from standard input when it is left out");
  addModelFlags(run);
  addGenerationFlags(run);
  run
    .addOption(
      new Option("--task <task>", "continue the text as it is, whatever the model is made for").choices([
        "text-generation",
      ]),
    )
    .option("--raw", "do not put the prompt into the model's chat template")
    .option("--system <text>", "system turn before the prompt, for models with a chat template")
    .option("--image <file>", "a picture before the prompt, path or address; again for more", another)
    .option("--audio <file>", "a sound before the prompt, path or address; again for more", another)
    .option("--pan-and-scan", "show the model cuts of long pictures, too")
    .option("--stats", "print speed and memory to standard error")
    .option("--json", "print one JSON object instead of streaming")
    .action(async (prompt: string[], flags: object) =>
      (await import("./run.ts")).run(prompt.join(" "), flags),
    );

  const chat = program
    .command("chat")
    .description("talk with a model turn by turn; from a pipe every line is a turn");
  addModelFlags(chat);
  addGenerationFlags(chat, CHAT_NEW_TOKENS);
  chat
    .option("--system <text>", "system message before the conversation")
    .option("--load <file>", "go on from a conversation that /save has written")
    .option("--tools <file>", "JSON list of function schemas, for chat templates that take them")
    .option("--pan-and-scan", "show the model cuts of long pictures, too")
    .option("--chat-template <file>", "a Jinja template in place of the model's own")
    .option("--trim", "let the oldest exchanges go when the context is full")
    .option("--no-history", "keep no history of what is typed")
    .option("--stats", "print speed and memory after every answer to standard error")
    .option("--json", "print one JSON object for every answer instead of streaming")
    .action(async (flags: object) => (await import("./chat.ts")).chat(flags));

  const embed = program
    .command("embed")
    .description("turn texts into vectors with an embedding model, or tell how alike they are");
  embed.argument("[text...]", "the texts; read from standard input, one a line, when they are left out");
  addModelFlags(embed, "required");
  embed
    .option("--prompt-name <name>", "one of the model's prompts to put before every text, such as query")
    .option("--prompt <text>", "the prompt itself")
    .option("--truncate-dim <count>", "keep the first so many numbers of every vector", positiveInteger)
    .option("--normalize", "bring vectors to length 1, after --truncate-dim")
    .option("--batch-size <count>", "texts that run together (default: 32)", positiveInteger)
    .option("--similarity", "print how alike the first text is to each of the others instead of vectors")
    .option("--json", "print one JSON object instead of a line for each text")
    .action(async (texts: string[], flags: EmbedFlags) => (await import("./embed.ts")).embed(texts, flags));

  const info = program
    .command("info")
    .description("what a model is: architecture, parameters, dtypes, memory of its cache");
  info.argument("<model>");
  addModelFlags(info, "positional");
  info
    .option("--json", "print one JSON object")
    .action(async (model: string, flags: object) => (await import("./info.ts")).info(model, flags));

  const mask = program
    .command("mask")
    .description("show which tokens of a text the model lets each token see; reads no weights");
  mask.argument("<model>").argument("[text...]", "the text; read from standard input when it is left out");
  addModelFlags(mask, "positional");
  mask
    .option("--svg <file>", "also draw it into an SVG file, with the tokens as labels")
    .option("--png <file>", "also draw it into a PNG file")
    .option("--json", "print one JSON object: tokens and matrices")
    .option("--no-color", "print without colours, as does NO_COLOR in the environment")
    .action(async (model: string, text: string[], flags: MaskFlags) =>
      (await import("./mask.ts")).mask(model, text.join(" "), flags),
    );

  const bench = program.command("bench").description("time a model on this machine");
  bench.argument("<model>");
  addModelFlags(bench, "timed");
  bench
    .option("--prefill <lengths>", "prompts to time, in tokens", countList, [128, 500])
    .option("--depths <lengths>", "tokens before the decoded ones", numberList, [0, 2000])
    .option("--batches <counts>", "rows at a time", countList, [1])
    .option("--tokens <count>", "tokens to decode", positiveInteger, 64)
    .option("--rounds <count>", "measurements of each", positiveInteger, 3)
    .option("--json", "print one JSON array of measurements")
    .action(async (model: string, flags: BenchFlags) => (await import("./bench.ts")).bench(model, flags));

  const pull = program.command("pull").description("fetch a model without running it");
  pull.argument("<model>");
  addModelFlags(pull, "positional");
  pull.action(async (model: string, flags: object) => (await import("./pull.ts")).pull(model, flags));

  const slice = program
    .command("slice")
    .description("write the smaller model inside a Gemma 3n model (MatFormer) as safetensors");
  slice.argument("<model>").argument("<out>", "the folder to make");
  addModelFlags(slice, "positional");
  slice
    .option("--slice <name>", "E2B: the model that Google cut out of E4B")
    .option(
      "--intermediate-size <sizes>",
      "units of the feed-forward layers: one number, or one for each layer kept",
    )
    .option("--skip-layers <layers>", "layers to leave out, such as 20-24 or 3,7")
    .option("--json", "print one JSON object")
    .action(async (model: string, out: string, flags: SliceFlags) =>
      (await import("./slice.ts")).slice(model, out, flags),
    );
  return program;
}

/** Collects the values of a flag that may come again. */
function another(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

/** package.json lies two folders above both the source and the build. */
function packageVersion(): string {
  return (
    JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string }
  ).version;
}

/** Prints an error as one line; a stack only for what should never happen. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE;
  if (error instanceof Error && error.name === "AbortError") return 130;
  const expected = error instanceof LapidaryError;
  const text =
    error instanceof Error ? (expected ? error.message : (error.stack ?? error.message)) : String(error);
  process.stderr.write(`lapidary: ${text}\n`);
  if (error instanceof HubError)
    process.stderr.write('a file of yours needs no fetching: lapidary run --model path/to/model.gguf "…"\n');
  return error instanceof InputError ? USAGE : FAILED;
}

// A reader that has seen enough (`lapidary run … | head -1`) is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) =>
  process.exit(error.code === "EPIPE" ? 0 : FAILED),
);

try {
  await buildProgram().parseAsync();
} catch (error) {
  process.exitCode = report(error);
}
