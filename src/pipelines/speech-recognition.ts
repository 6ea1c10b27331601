import { InputError, rejectUnknownOptions } from "../errors.ts";
import type { ProcessorAudio } from "../processing/processor-call.ts";
import { Pipeline } from "./base.ts";
import type { GenerativeModel } from "./generating.ts";
import {
  ImageTextToTextPipeline,
  type MediaPipelineParts,
  type MediaTextOptions,
} from "./image-text-to-text.ts";

/** Options of the call: those of `generate`, and what is asked about each sound. */
export interface SpeechRecognitionOptions
  extends Omit<MediaTextOptions, "text" | "images" | "audio" | "return_full_text" | "return_tensors"> {
  /** The words around a sound; "Transcribe this audio." by default. */
  readonly prompt?: string;
  /** Cuts longer sounds into pieces of so many seconds. */
  readonly chunk_length_s?: number;
}

/** What was said in one sound. */
export interface SpeechRecognitionOutput {
  readonly text: string;
}

/** One sound gives one text, a list a list. */
export interface SpeechRecognitionCall {
  (sounds: readonly unknown[], options?: SpeechRecognitionOptions): Promise<SpeechRecognitionOutput[]>;
  (sound: ProcessorAudio, options?: SpeechRecognitionOptions): Promise<SpeechRecognitionOutput>;
}

const PROMPT = "Transcribe this audio.";

/** Writes down what is said, by asking a model that hears: through its chat template where it has one. */
export class AutomaticSpeechRecognitionPipeline extends Pipeline<SpeechRecognitionCall, GenerativeModel> {
  readonly #writer: ImageTextToTextPipeline;

  constructor(parts: MediaPipelineParts) {
    super(parts);
    if (parts.processor.audio_token === undefined)
      throw new InputError("automatic-speech-recognition: the model takes no audio", { option: "model" });
    this.#writer = new ImageTextToTextPipeline(parts);
  }

  async _call(audio: unknown, options: SpeechRecognitionOptions = {}): Promise<unknown> {
    rejectUnknownOptions({ ...pickReturns(options) }, [], "automatic-speech-recognition");
    const { prompt = PROMPT, chunk_length_s, processor_kwargs, ...others } = options;
    const batched = Array.isArray(audio) && typeof audio[0] !== "number";
    const sounds = (batched ? audio : [audio]) as readonly unknown[];
    if (sounds.length === 0 || sounds[0] === undefined || sounds[0] === null)
      throw new InputError("automatic-speech-recognition: at least one sound is needed", { option: "audio" });
    const given = {
      ...others,
      return_full_text: false as const,
      processor_kwargs: { ...processor_kwargs, ...(chunk_length_s !== undefined && { chunk_length_s }) },
    };
    const { chat_template } = this.tokenizer;
    const call = this.#writer as unknown as (input: object, options: object) => Promise<unknown>;
    const records =
      chat_template === undefined
        ? await call({ text: sounds.map(() => prompt), audio: sounds.map((sound) => [sound]) }, given)
        : await call(
            sounds.map((sound) => chatAbout(sound, prompt)),
            given,
          );
    const texts = (records as { readonly generated_text: string }[][]).flat();
    const outputs = texts.map(({ generated_text }) => ({ text: generated_text.trim() }));
    return batched ? outputs : outputs[0]!;
  }
}

/** Options that have no place where the output is text alone. */
function pickReturns(options: object): object {
  const names = ["text", "images", "audio", "return_full_text", "return_tensors"];
  return Object.fromEntries(Object.entries(options).filter(([name]) => names.includes(name)));
}

function chatAbout(sound: unknown, prompt: string): object[] {
  return [
    {
      role: "user",
      content: [
        { type: "audio", audio: sound },
        { type: "text", text: prompt },
      ],
    },
  ];
}
