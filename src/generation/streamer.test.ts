import { describe, expect, it, vi } from "vitest";
import { FakeTokenizer } from "../../test/support/fake-decoder.ts";
import { InputError } from "../errors.ts";
import { Random } from "./sampling.ts";
import { TextIteratorStreamer, TextStreamer } from "./streamer.ts";

const WORDS = ["Hello", " world", "\n", "<eos>", "日", " a", ""];
const [HELLO, WORLD, NEWLINE, EOS, SUN, A, EMPTY] = [256, 257, 258, 259, 260, 261, 262] as const;

/** What a streamer emits for each token. */
function pieces(ids: readonly number[], tokenizer: FakeTokenizer = new FakeTokenizer(WORDS)): string[] {
  const out: string[] = [];
  let piece = "";
  const streamer = new TextStreamer(tokenizer, {
    callback_function: (text) => {
      piece += text;
    },
  });
  for (const id of ids) {
    piece = "";
    streamer.put([[BigInt(id)]]);
    out.push(piece);
  }
  piece = "";
  streamer.end();
  return [...out, piece];
}

describe("TextStreamer", () => {
  it("emits each token's text at once", () => {
    expect(pieces([HELLO, WORLD, SUN, NEWLINE, EOS])).toEqual(["Hello", " world", "日", "\n", "", ""]);
  });

  it("waits for the end of a run of bytes", () => {
    const emoji = FakeTokenizer.bytes("😀");
    expect(pieces([HELLO, ...emoji, WORLD])).toEqual(["Hello", "", "", "", "", "😀 world", ""]);
    expect(pieces([...emoji])).toEqual(["", "", "", "", "😀"]);
    expect(pieces([...emoji, EOS, ...emoji])).toEqual(["", "", "", "", "", "", "", "", "", "😀😀"]);
  });

  it("emits in all what decoding everything gives, for any tokens", () => {
    const known = [
      HELLO,
      WORLD,
      NEWLINE,
      EOS,
      SUN,
      A,
      EMPTY,
      ...FakeTokenizer.bytes("é😀\u20ac"),
      0x41,
      0xf0,
    ];
    const random = new Random(1);
    const next = (): number => Math.floor(random.next() * 65536);
    for (let round = 0; round < 300; round++) {
      const ids = Array.from({ length: next() % 40 }, () => known[next() % known.length]!);
      const whole = new FakeTokenizer(WORDS).decode(ids, { skip_special_tokens: true });
      expect(pieces(ids).join("")).toBe(whole);
    }
  });

  it("does not decode the whole text again for each token", () => {
    const tokenizer = new FakeTokenizer(WORDS);
    pieces(new Array<number>(2000).fill(A), tokenizer);
    expect(tokenizer.decoded).toBeLessThan(20_000);
  });

  it("handles prompts, special tokens and token callbacks", () => {
    const tokens: bigint[][] = [];
    const text: string[] = [];
    const options = {
      skip_prompt: true,
      skip_special_tokens: false,
      callback_function: (piece: string) => text.push(piece),
      token_callback_function: (ids: bigint[]) => tokens.push(ids),
    };
    const streamer = new TextStreamer(new FakeTokenizer(WORDS), options);
    for (let use = 0; use < 2; use++) {
      streamer.put([[256n, 257n]]);
      streamer.put([[257n]]);
      streamer.put([[BigInt(EOS)]]);
      streamer.end();
    }
    expect(text.join("|")).toBe(" world|<eos>| world|<eos>");
    expect(tokens).toEqual([[257n], [259n], [257n], [259n]]);
    expect(() => streamer.put([[1n], [2n]])).toThrow(InputError);
  });

  it("prints to standard output by default, with a newline at the end", () => {
    const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
    try {
      const streamer = new TextStreamer(new FakeTokenizer(WORDS));
      streamer.put([[256n]]);
      streamer.end();
      expect(write.mock.calls.map(([text]) => text).join("")).toBe("Hello\n");
    } finally {
      write.mockRestore();
    }
  });
});

describe("TextIteratorStreamer", () => {
  it("gives the text while it is made, and ends", async () => {
    const streamer = new TextIteratorStreamer(new FakeTokenizer(WORDS));
    const read = (async () => {
      const text: string[] = [];
      for await (const piece of streamer) text.push(piece);
      return text;
    })();
    streamer.put([[256n]]);
    await new Promise((resolve) => setImmediate(resolve));
    streamer.put([[257n]]);
    streamer.end();
    expect(await read).toEqual(["Hello", " world"]);
  });

  it("throws after the text when generation fails, begun or not", async () => {
    for (const begun of [true, false]) {
      const streamer = new TextIteratorStreamer(new FakeTokenizer(WORDS));
      if (begun) streamer.put([[256n]]);
      streamer.fail(new Error("out of luck"));
      const text: string[] = [];
      const read = async (): Promise<void> => {
        for await (const piece of streamer) text.push(piece);
      };
      await expect(read()).rejects.toThrow("out of luck");
      expect(text).toEqual(begun ? ["Hello"] : []);
    }
  });
});
