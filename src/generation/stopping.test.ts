import { describe, expect, it } from "vitest";
import { FakeTokenizer } from "../../test/support/fake-decoder.ts";
import { InputError } from "../errors.ts";
import { Tensor } from "../tensor.ts";
import {
  EosTokenCriteria,
  InterruptableStoppingCriteria,
  MaxLengthCriteria,
  MaxTimeCriteria,
  StoppingCriteria,
  StoppingCriteriaList,
  StopStringCriteria,
} from "./stopping.ts";

const IDS = [
  [1n, 2n],
  [3n, 4n],
];

describe("criteria", () => {
  it("answer for each row", () => {
    expect(new MaxLengthCriteria(2)(IDS)).toEqual([true, true]);
    expect(new MaxLengthCriteria({ max_length: 3 })(IDS)).toEqual([false, false]);
    expect(new EosTokenCriteria([4, 9])(IDS)).toEqual([false, true]);
    expect(new EosTokenCriteria(2)(new Tensor("int64", [1, 2, 3, 4], [2, 2]))).toEqual([true, false]);
    expect(new MaxTimeCriteria(100)(IDS)).toBe(false);
    expect(new MaxTimeCriteria(1, Date.now() / 1000 - 2)(IDS)).toBe(true);
  });

  it("join in lists, which take lists, arrays and single ones", () => {
    const button = new InterruptableStoppingCriteria();
    const list = new StoppingCriteriaList(new EosTokenCriteria(4));
    list.push(button);
    list.extend(new StoppingCriteriaList([(ids) => (ids as bigint[][]).map((row) => row[0] === 9n)]));
    expect([list.length, [...list].length]).toEqual([3, 3]);
    expect(list(IDS)).toEqual([false, true]);
    button.interrupt();
    expect(list(IDS)).toEqual([true, true]);
    button.reset();
    expect(list(IDS)).toEqual([false, true]);
  });

  it("are checked", () => {
    class Empty extends StoppingCriteria {}
    expect(() => new Empty()(IDS)).toThrow(/Empty does not define/);
    expect(() => new StoppingCriteriaList([(() => [true]) as never])(IDS)).toThrow(/2 booleans/);
    expect(() => new StoppingCriteriaList([3 as never])).toThrow(InputError);
    expect(() => new MaxTimeCriteria(-1)).toThrow(InputError);
  });
});

describe("StopStringCriteria", () => {
  const tokenizer = new FakeTokenizer(["stop", "st", "op", "opera", " the ", "<end>"]);
  const [STOP, ST, OP, OPERA, THE, END] = [256n, 257n, 258n, 259n, 260n, 261n] as const;
  const hits = (stop: string | string[], ...ids: bigint[]): boolean =>
    (new StopStringCriteria(tokenizer, stop)([ids]) as boolean[])[0]!;

  it("needs the last token in the match", () => {
    expect([hits("stop", STOP), hits("stop", ST, OP), hits("stop", ST, OPERA)]).toEqual([true, true, true]);
    expect([hits("stop", STOP, THE), hits("stop", OP, ST), hits("stop", THE)]).toEqual([false, false, false]);
    expect(hits(["zzz", "p th"], STOP, THE)).toBe(true);
    expect(hits("stop", STOP, ST)).toBe(false);
    expect(hits("<end>", THE, END)).toBe(true);
  });

  it("reads text of single bytes, behind any number of others", () => {
    const bytes = (text: string): bigint[] => FakeTokenizer.bytes(text).map(BigInt);
    expect(hits("日", THE, ...bytes("日"))).toBe(true);
    expect(hits("日", THE, ...bytes("日").slice(0, 2))).toBe(false);
    expect(hits("終", THE, ...bytes("日本語日本語日本語終"))).toBe(true);
    expect(hits("語日", ...bytes("日本語日本語"))).toBe(false);
  });

  it("takes its arguments by name, too", () => {
    const criterion = new StopStringCriteria({ tokenizer, stop_strings: ["stop"] });
    expect(criterion([[STOP], [THE]])).toEqual([true, false]);
    expect(() => new StopStringCriteria(tokenizer, "")).toThrow(InputError);
  });
});
