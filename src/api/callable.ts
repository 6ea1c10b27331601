/** The implementation lies lower: tokenizers (processing/) are callable too, and folders import only downwards. */
export { Callable, callable, type HasCall } from "../callable.ts";
