import { expect, it } from "vitest";
import { Callable, callable } from "./callable.ts";

interface Call {
  (a: string): number;
  (a: string[]): number[];
}

class Counter extends Callable<Call> {
  #secret = 3;
  shown = 4;
  override get name(): string {
    return "counter";
  }
  _call(a: string | string[]): number | number[] {
    return typeof a === "string" ? this.#secret + this.shown : a.map(() => this.#secret);
  }
}

class Child extends Counter {
  #own = 5;
  twice(): number {
    return this("a") + this.#own;
  }
}

it("makes instances of a class hierarchy callable", () => {
  const child = new Child();
  const one: number = child("a");
  const many: number[] = child(["a", "b"]);
  expect([one, many, child.twice(), child.name]).toEqual([7, [3, 3], 12, "counter"]);
  expect(child).toBeInstanceOf(Counter);
  child.shown = 0;
  expect(child("a")).toBe(3);
});

it("wraps a single object", () => {
  class Adder {
    base = 1;
    _call(n: number): number {
      return this.base + n;
    }
  }
  const adder = callable(new Adder());
  adder.base = 10;
  expect(adder(5)).toBe(15);
  expect(adder).toBeInstanceOf(Adder);
});
