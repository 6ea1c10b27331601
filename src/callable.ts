/** Any function type. */
type AnyFunction = (...args: never[]) => unknown;

/** An object that says in `_call` what happens when it is called like a function. */
export interface HasCall {
  _call: AnyFunction;
}

/**
 * A callable twin of `instance`: a function with the instance's class and fields, whose call runs `_call`. Keep the
 * twin and drop the original. Fields move over, except ECMAScript-private ones (`#x`): classes that have such fields
 * extend `Callable` instead.
 */
export function callable<T extends HasCall>(instance: T): T & T["_call"] {
  const twin = ((...args: never[]) => (twin as unknown as HasCall)._call(...args)) as unknown as T &
    T["_call"];
  // A function's own name and length would hide fields and getters of the class with these names.
  Reflect.deleteProperty(twin, "name");
  Reflect.deleteProperty(twin, "length");
  Object.setPrototypeOf(twin, Object.getPrototypeOf(instance) as object);
  return Object.defineProperties(twin, Object.getOwnPropertyDescriptors(instance));
}

interface CallableConstructor {
  new <Call extends AnyFunction>(): Call;
}

/**
 * Base of classes whose instances are functions: `class Tokenizer extends Callable<(text: string) => Encoding>` with
 * a method `_call`. Every field of the subclass, private ones included, lives on the function itself, so `this` is
 * the same object everywhere.
 */
export const Callable: CallableConstructor = class {
  constructor() {
    // biome-ignore lint/correctness/noConstructorReturn: an instance can only be callable if it is a function.
    return callable(this);
  }
  _call(): never {
    throw new TypeError("_call is missing");
  }
} as unknown as CallableConstructor;
