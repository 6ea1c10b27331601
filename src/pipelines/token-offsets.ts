const BYTE = /^<0x([0-9A-Fa-f]{2})>$/;
const SPACE = "▁";
const LONE_SURROGATE = /\p{Cs}/gu;

/** Where a token stands in its text: start and end as `text.slice` takes them. */
export type TokenOffset = readonly [start: number, end: number];

/**
 * The places of tokens (as the vocabulary writes them) in the text that they were made of. It works where tokens say
 * exactly what they stand for: "▁" for a space, "<0xAB>" for a byte of UTF-8, everything else as it is. Each byte of
 * a character has the whole character's place. Undefined where the tokens are not this text.
 */
export function tokenOffsets(tokens: readonly string[], text: string): TokenOffset[] | undefined {
  // What the tokenizer itself makes of a lone surrogate; the length stays.
  const clean = text.replace(LONE_SURROGATE, "\ufffd");
  const offsets: TokenOffset[] = [];
  let place = 0;
  while (offsets.length < tokens.length) {
    const token = tokens[offsets.length]!;
    if (!BYTE.test(token)) {
      const end = place + token.length;
      if (token === "" || !standsAt(token, clean, place)) return undefined;
      offsets.push([place, end]);
      place = end;
      continue;
    }
    const point = clean.codePointAt(place);
    if (point === undefined) return undefined;
    const character = String.fromCodePoint(point);
    for (const byte of new TextEncoder().encode(character)) {
      const next = tokens[offsets.length];
      // A text that was cut off may end within a character.
      if (next === undefined) break;
      if (Number.parseInt(BYTE.exec(next)?.[1] ?? "", 16) !== byte) return undefined;
      offsets.push([place, place + character.length]);
    }
    place += character.length;
  }
  return offsets;
}

function standsAt(token: string, text: string, place: number): boolean {
  for (let i = 0; i < token.length; i++) {
    const [expected, found] = [token[i], text[place + i]];
    if (expected !== found && !(expected === SPACE && found === " ")) return false;
  }
  return true;
}
