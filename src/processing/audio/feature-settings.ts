import { InputError, rejectUnknownOptions } from "../../errors.ts";
import { HIGHEST_RATE, LOWEST_RATE } from "./sample-buffer.ts";

/** What processor_config.json or preprocessor_config.json says, under its names; null is the same as nothing. */
export interface Gemma3nAudioFeatureExtractorConfig {
  /** Mel bands, the length of one frame's features. */
  readonly feature_size?: number | null;
  readonly sampling_rate?: number | null;
  readonly padding_value?: number | null;
  readonly padding_side?: "right" | "left" | null;
  readonly return_attention_mask?: boolean | null;
  readonly frame_length_ms?: number | null;
  readonly hop_length_ms?: number | null;
  readonly min_frequency?: number | null;
  readonly max_frequency?: number | null;
  readonly preemphasis?: number | null;
  readonly preemphasis_htk_flavor?: boolean | null;
  readonly fft_overdrive?: boolean | null;
  /** Standard deviation of noise that is added to the samples: the features are then another every time. */
  readonly dither?: number | null;
  readonly input_scale_factor?: number | null;
  readonly mel_floor?: number | null;
  readonly per_bin_mean?: readonly number[] | null;
  readonly per_bin_stddev?: readonly number[] | null;
}

/** Settings with every default filled in, and what follows from them. */
export interface AudioFeatureSettings {
  readonly feature_size: number;
  readonly sampling_rate: number;
  readonly padding_value: number;
  readonly padding_side: "right" | "left";
  readonly return_attention_mask: boolean;
  readonly min_frequency: number;
  readonly max_frequency: number;
  readonly preemphasis: number;
  readonly preemphasis_htk_flavor: boolean;
  readonly fft_overdrive: boolean;
  readonly dither: number;
  readonly input_scale_factor: number;
  readonly mel_floor: number;
  readonly per_bin_mean: readonly number[] | null;
  readonly per_bin_stddev: readonly number[] | null;
  /** In samples, from frame_length_ms. */
  readonly frame_length: number;
  /** In samples, from hop_length_ms. */
  readonly hop_length: number;
  /** The power of two that holds a frame, twice that with fft_overdrive. */
  readonly fft_length: number;
}

/** HF's class defaults. */
const DEFAULTS = {
  feature_size: 128,
  sampling_rate: 16_000,
  padding_value: 0,
  padding_side: "right",
  return_attention_mask: true,
  frame_length_ms: 32,
  hop_length_ms: 10,
  min_frequency: 125,
  max_frequency: 7600,
  preemphasis: 0.97,
  preemphasis_htk_flavor: true,
  fft_overdrive: true,
  dither: 0,
  input_scale_factor: 1,
  mel_floor: 1e-5,
  per_bin_mean: null,
  per_bin_stddev: null,
} as const satisfies Gemma3nAudioFeatureExtractorConfig;

/** Names of the settings, in files and as options. */
export const AUDIO_SETTING_NAMES: readonly string[] = Object.keys(DEFAULTS);

const FLAGS = ["return_attention_mask", "preemphasis_htk_flavor", "fft_overdrive"] as const;
const NUMBERS = ["padding_value", "preemphasis", "dither", "input_scale_factor"] as const;
const POSITIVE = ["frame_length_ms", "hop_length_ms", "max_frequency", "mel_floor"] as const;
const MOST_BANDS = 4096;
const LONGEST_FRAME = 2 ** 16;

/** Settings in place of the defaults, checked. Throws an InputError for an unknown name or a value that makes no sense. */
export function audioFeatureSettings(
  config: Gemma3nAudioFeatureExtractorConfig,
  call: string,
): AudioFeatureSettings {
  rejectUnknownOptions(config, AUDIO_SETTING_NAMES, call);
  const given = Object.entries(config).filter(([, value]) => value !== undefined && value !== null);
  const { frame_length_ms, hop_length_ms, ...settings } = check(
    { ...DEFAULTS, ...Object.fromEntries(given) },
    call,
  );
  const samples = (ms: number): number => roundHalfEven((settings.sampling_rate * ms) / 1000);
  const frame_length = samples(frame_length_ms);
  const hop_length = samples(hop_length_ms);
  if (frame_length < 2 || frame_length > LONGEST_FRAME || hop_length < 1) {
    throw new InputError(
      `${call}: frames of ${frame_length} samples every ${hop_length}; frame_length_ms must give 2 to ${LONGEST_FRAME}, ` +
        "hop_length_ms at least 1",
      { option: "frame_length_ms" },
    );
  }
  const power = 2 ** Math.ceil(Math.log2(frame_length));
  const fft_length = settings.fft_overdrive ? 2 * power : power;
  return { ...settings, frame_length, hop_length, fft_length };
}

type Given = {
  [name in keyof typeof DEFAULTS]: NonNullable<Gemma3nAudioFeatureExtractorConfig[name]>;
} & Pick<AudioFeatureSettings, "per_bin_mean" | "per_bin_stddev">;

function check(settings: Record<string, unknown>, call: string): Given {
  const expect = (isRight: boolean, name: string, expected: string): void => {
    if (isRight) return;
    const got = JSON.stringify(settings[name]) ?? String(settings[name]);
    throw new InputError(`${call}: ${name} must be ${expected}, got ${got.slice(0, 100)}`, { option: name });
  };
  const value = (name: string): number => settings[name] as number;
  for (const name of FLAGS) expect(typeof settings[name] === "boolean", name, "true or false");
  for (const name of NUMBERS) expect(Number.isFinite(settings[name]), name, "a number");
  for (const name of POSITIVE) expect(Number.isFinite(settings[name]) && value(name) > 0, name, "above 0");
  const bands = value("feature_size");
  expect(Number.isInteger(bands) && bands > 0 && bands <= MOST_BANDS, "feature_size", `1 to ${MOST_BANDS}`);
  const rate = value("sampling_rate");
  const rates = `${LOWEST_RATE} to ${HIGHEST_RATE}`;
  expect(Number.isInteger(rate) && rate >= LOWEST_RATE && rate <= HIGHEST_RATE, "sampling_rate", rates);
  const low = value("min_frequency");
  expect(low >= 0 && low < value("max_frequency"), "min_frequency", "at least 0 and below max_frequency");
  expect(value("dither") >= 0, "dither", "at least 0");
  expect(["right", "left"].includes(String(settings.padding_side)), "padding_side", '"right" or "left"');
  for (const name of ["per_bin_mean", "per_bin_stddev"]) {
    const list = settings[name];
    const isList =
      Array.isArray(list) && list.length === bands && list.every((item) => Number.isFinite(item));
    const hasNoZero = name !== "per_bin_stddev" || !(list as number[] | null)?.includes(0);
    expect(list === null || (isList && hasNoZero), name, `a list of ${bands} numbers, one a band`);
  }
  return settings as unknown as Given;
}

/** Python's `round`. */
function roundHalfEven(value: number): number {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}
