import { describe, expect, it } from "vitest";
import { ChatSession } from "../../generation/chat-session.ts";
import { GenerationConfig } from "../../generation/generation-config.ts";
import { type ChatContext, runCommand } from "./commands.ts";

/** A session that is not asked anything, and what commands say about it. */
function context(): ChatContext & { readonly notes: string[] } {
  const model = {
    config: { get_text_config: () => ({ max_position_embeddings: 100 }) },
    generation_config: new GenerationConfig({ do_sample: false, top_k: 64 }),
    generate: () => Promise.reject(new Error("not asked")),
  };
  const tokenizer = { decode: () => "", get_chat_template: () => "", apply_chat_template: () => [1, 2] };
  const notes: string[] = [];
  return {
    notes,
    session: new ChatSession(model, tokenizer),
    note: (text) => notes.push(text),
    attach: async () => {},
    answer: () => Promise.reject(new Error("not asked")),
  };
}

async function notesOf(...commands: string[]): Promise<string[]> {
  const chat = context();
  for (const command of commands) await runCommand(command, chat);
  return chat.notes;
}

describe("runCommand", () => {
  it("sets options with their checks, and shows them", async () => {
    expect(await notesOf("/set", "/set top_k", "/set top_p", "/set max_new_tokens 7", "/set")).toEqual([
      "nothing is set",
      "top_k 64 (the model's own)",
      "top_p is not set",
      "max_new_tokens 7",
      "max_new_tokens 7",
    ]);
    expect(await notesOf("/set stop_strings ###", '/set stop_strings ["a", "b"]')).toEqual([
      'stop_strings "###"',
      'stop_strings ["a","b"]',
    ]);
    expect(await notesOf("/set top_k 5", "/set top_k default")).toEqual([
      "top_k 5",
      "top_k 64 (the model's own)",
    ]);
  });

  it("draws tokens once an option asks for it, unless it is told not to", async () => {
    const chat = context();
    await runCommand("/set temperature 0.7", chat);
    expect(chat.session.generation).toEqual({ do_sample: true, temperature: 0.7 });
    await runCommand("/set do_sample false", chat);
    await runCommand("/set top_p 0.5", chat);
    expect(chat.session.generation).toEqual({ do_sample: false, temperature: 0.7, top_p: 0.5 });
  });

  it("sets, shows and takes away the system message", async () => {
    const chat = context();
    for (const command of ["/system", "/system Be brief.\nAlways.", "/system", '/system ""', "/system"])
      await runCommand(command, chat);
    expect(chat.notes).toEqual([
      "there is no system message",
      "Be brief.\nAlways.",
      "there is no system message",
    ]);
  });

  it("knows when to leave", async () => {
    for (const name of ["/exit", "/bye", "/EXIT"]) expect(await runCommand(name, context())).toBe(true);
    expect(await runCommand("/help", context())).toBe(false);
  });

  it.each([
    ["/sav x", /unknown command \/sav; did you mean \/save\?/],
    ["/etc/hosts", /unknown command \/etc\/hosts \(/],
    ["/save", /\/save needs a file name/],
    ["/undo 2", /\/undo takes nothing behind it, got 2/],
    ["/trim maybe", /on or off/],
    ["/set temprature 1", /did you mean "temperature"/],
    ["/set streamer 1", /unknown option/],
    ["/set num_return_sequences 2", /can't be set in a chat/],
    ["/set top_k [1", /\[1 is not a value/],
    ["/set max_new_tokens 0", /max_new_tokens must be/],
  ])("refuses %s", async (command, error) => {
    const chat = context();
    await expect(runCommand(command, chat)).rejects.toThrow(error);
    expect(chat.session.generation).toEqual({});
  });
});
