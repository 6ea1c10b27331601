import { readFileSync } from "node:fs";
import { type Command, InvalidArgumentError } from "commander";
import { anyNumber, positiveInteger, wholeNumber } from "./model-flags.ts";

/** Flags named after the options of `generate`. */
export interface GenerationFlags {
  readonly maxNewTokens?: number;
  readonly minNewTokens?: number;
  readonly maxLength?: number;
  readonly doSample?: boolean;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly seed?: number;
  readonly numBeams?: number;
  readonly repetitionPenalty?: number;
  readonly noRepeatNgramSize?: number;
  readonly stop?: readonly string[];
  readonly ignoreEos?: boolean;
  readonly promptLookup?: number;
  /** Loaded by the command. */
  readonly assistant?: string;
  readonly jsonSchema?: string;
  readonly regex?: string;
}

/** What is generated where nothing says how much. */
const DEFAULT_NEW_TOKENS = 256;
/** The same for an answer in a chat: room for a page or two. */
export const CHAT_NEW_TOKENS = 1024;

/** Options of `generate` that make it draw tokens, unless `do_sample` says otherwise. */
export const SAMPLING_OPTIONS: readonly string[] = ["temperature", "top_k", "top_p", "min_p", "seed"];

export function addGenerationFlags(command: Command, newTokens: number = DEFAULT_NEW_TOKENS): void {
  command
    .option(
      "-n, --max-new-tokens <count>",
      `tokens to write at most (default: ${newTokens})`,
      positiveInteger,
    )
    .option("--min-new-tokens <count>", "tokens to write at least", wholeNumber)
    .option(
      "--max-length <count>",
      "tokens of prompt and text together, instead of --max-new-tokens",
      positiveInteger,
    )
    .option("--do-sample", "draw tokens instead of taking the likeliest; on when a sampling flag is given")
    .option("--no-do-sample", "take the likeliest token even if the model's settings draw")
    .option("--temperature <number>", "below 1 sharper, above 1 flatter", anyNumber)
    .option("--top-k <count>", "draw from the likeliest so many", wholeNumber)
    .option("--top-p <fraction>", "draw from the likeliest that make up this much", anyNumber)
    .option(
      "--min-p <fraction>",
      "draw from tokens at least so likely, as a fraction of the likeliest",
      anyNumber,
    )
    .option("--seed <number>", "the same draws every time", wholeNumber)
    .option("--num-beams <count>", "beam search", positiveInteger)
    .option("--repetition-penalty <number>", "above 1 against repetition", anyNumber)
    .option("--no-repeat-ngram-size <count>", "never repeat a run of so many tokens", wholeNumber)
    .option("--stop <text>", "stop after this text; may be given several times", anotherText)
    .option("--ignore-eos", "write on past the end-of-text token")
    .option(
      "--prompt-lookup <count>",
      "guess so many tokens ahead where the text repeats itself: the same text, sooner",
      positiveInteger,
    )
    .option("--assistant <model>", "a smaller model with the same vocabulary that guesses ahead")
    .option("--json-schema <file or JSON>", "write JSON that satisfies this schema; {} for any", schemaText)
    .option("--regex <pattern>", "write a text that matches as a whole");
}

function anotherText(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}

/** A schema as it stands in the argument, or in the file that this names. */
function schemaText(argument: string): string {
  if (/^\s*(\{|true\s*$)/.test(argument)) return argument;
  try {
    return readFileSync(argument, "utf8");
  } catch (error) {
    throw new InvalidArgumentError(`neither JSON nor a file that can be read (${(error as Error).message})`);
  }
}

/** The flags as options of `generate`. */
export function generationOptions(
  flags: GenerationFlags,
  newTokens: number = DEFAULT_NEW_TOKENS,
): Record<string, unknown> {
  const options = {
    max_new_tokens: flags.maxNewTokens ?? (flags.maxLength === undefined ? newTokens : undefined),
    min_new_tokens: flags.minNewTokens,
    max_length: flags.maxLength,
    do_sample: flags.doSample,
    temperature: flags.temperature,
    top_k: flags.topK,
    top_p: flags.topP,
    min_p: flags.minP,
    seed: flags.seed,
    num_beams: flags.numBeams,
    repetition_penalty: flags.repetitionPenalty,
    no_repeat_ngram_size: flags.noRepeatNgramSize,
    stop_strings: flags.stop,
    eos_token_id: flags.ignoreEos === true ? [] : undefined,
    prompt_lookup_num_tokens: flags.promptLookup,
    json_schema: flags.jsonSchema,
    regex: flags.regex,
  };
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  // As everywhere, a temperature of 0 means the likeliest token.
  if (flags.temperature === 0 && flags.doSample === undefined) return { ...given, do_sample: false };
  return SAMPLING_OPTIONS.some((name) => name in given) ? { do_sample: true, ...given } : given;
}
