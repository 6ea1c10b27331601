/** Turns text into ids and back; knows nothing of special tokens being added, padding or templates. */
export interface TokenizerEngine {
  /** Every id is below this number. */
  readonly size: number;
  /** Ids of the tokens that the tokenizer's file marks as special. */
  readonly specialIds: readonly number[];
  /** Ids of a text. Added tokens that stand in the text, special ones too, become their ids. */
  encode(text: string): number[];
  /** Text of a whole sequence, without the tokens in `skip`. */
  decode(ids: ArrayLike<number>, skip?: ReadonlySet<number>): string;
  /** A decoder that is fed one id at a time. */
  decoder(skip?: ReadonlySet<number>): IncrementalDecoder;
  tokenOf(id: number): string | undefined;
  idOf(token: string): number | undefined;
}

/** Decodes ids one by one: the pieces, joined, are the text that `decode` gives for all of them. */
export interface IncrementalDecoder {
  /** The text that is certain after this id: never part of a character, "" while bytes are still missing. */
  push(id: number): string;
  /** What is left at the end; unfinished characters become U+FFFD. The decoder then starts afresh. */
  flush(): string;
}
