/** Bytes by what expressions make of them: bytes of one class never lead to different states. */
export interface ByteClasses {
  /** The class of each byte. */
  readonly classOf: Uint8Array;
  /** One byte of each class. */
  readonly representatives: readonly number[];
}

/** Collects the sets of bytes that occur in expressions. */
export class ByteClassifier {
  readonly #sets = new Map<string, Uint8Array>();
  /** Bytes that occur in literals: each is a class of its own. */
  readonly #single = new Uint8Array(256);
  #classes: ByteClasses | undefined;

  get classes(): ByteClasses {
    this.#classes ??= this.#computed();
    return this.#classes;
  }

  addSet(set: Uint8Array): void {
    const key = set.join("");
    if (this.#sets.has(key)) return;
    this.#sets.set(key, set);
    this.#classes = undefined;
  }

  /** `text` has one character for each byte. */
  addText(text: string): void {
    for (let i = 0; i < text.length; i++) {
      const byte = text.charCodeAt(i);
      if (this.#single[byte] === 1) continue;
      this.#single[byte] = 1;
      this.#classes = undefined;
    }
  }

  #computed(): ByteClasses {
    let classOf = Uint8Array.from(this.#single, (single, byte) => (single === 1 ? byte : 0));
    // Byte 0 shares the number of the others if it is single: a set of its own parts them.
    const sets = [...this.#sets.values()];
    if (this.#single[0] === 1) sets.push(Uint8Array.from({ length: 256 }, (_, byte) => (byte === 0 ? 1 : 0)));
    for (const set of sets) classOf = renumbered((byte) => classOf[byte]! * 2 + set[byte]!);
    const representatives: number[] = [];
    classOf = renumbered((byte) => classOf[byte]!);
    for (let byte = 0; byte < 256; byte++) {
      if (classOf[byte] === representatives.length) representatives.push(byte);
    }
    return { classOf, representatives };
  }
}

/** Classes numbered in the order in which they first occur. */
function renumbered(label: (byte: number) => number): Uint8Array<ArrayBuffer> {
  const numbers = new Map<number, number>();
  return Uint8Array.from({ length: 256 }, (_, byte) => {
    const key = label(byte);
    if (!numbers.has(key)) numbers.set(key, numbers.size);
    return numbers.get(key)!;
  });
}
