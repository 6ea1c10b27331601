import { describe, expect, it } from "vitest";
import { type Turn, TurnReader } from "./turns.ts";

function read(...lines: string[]): Turn[] {
  const reader = new TurnReader();
  const turns = lines.map((line) => reader.push(line));
  return [...turns, reader.end()].filter((turn) => turn !== undefined);
}

const text = (...lines: string[]): Turn => ({ kind: "text", text: lines.join("\n") });
const command = (...lines: string[]): Turn => ({ kind: "command", text: lines.join("\n") });

describe("TurnReader", () => {
  it.each<[string[], Turn[]]>([
    [
      ["a", "", "  ", "b"],
      [text("a"), text("b")],
    ],
    [
      ["a\\", "b \\", "c", "d"],
      [text("a", "b ", "c"), text("d")],
    ],
    [["a\\"], [text("a")]],
    [
      ['"""', "a", "", "/b\\", '"""', "c"],
      [text("a", "", "/b\\"), text("c")],
    ],
    [['"""a', 'b"""  '], [text("a", "b")]],
    [['"""/etc/hosts"""'], [text("/etc/hosts")]],
    [['"""', "a"], [text("a")]],
    [['"""', '"""'], []],
    [
      ["/help", " /help"],
      [command("/help"), text(" /help")],
    ],
    [["/system a\\", "b"], [command("/system a", "b")]],
    [['/system """', "a", 'b"""'], [command("/system a", "b")]],
    [["/one\ntwo"], [text("/one\ntwo")]],
    [['say """'], [text('say """')]],
  ])("%j", (lines, turns) => {
    expect(read(...lines)).toEqual(turns);
  });

  it("forgets what has begun", () => {
    const reader = new TurnReader();
    reader.push('"""a');
    expect(reader.open).toBe(true);
    reader.reset();
    expect(reader.open).toBe(false);
    expect(reader.push("b")).toEqual(text("b"));
  });
});
