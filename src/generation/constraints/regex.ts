import { InputError } from "../../errors.ts";
import type { CodePoints } from "./code-points.ts";
import type { Expression, Expressions } from "./expressions.ts";
import type { Regex } from "./regex-parser.ts";

/** How a pattern becomes an expression. */
export interface RegexContext {
  readonly expressions: Expressions;
  /** One character of a set, as it is written: plain UTF-8, or with the escapes of JSON. */
  readonly character: (set: CodePoints) => Expression;
  /** What may stand before and after a match that ^ and $ don't tie down; nothing for a pattern of the whole text. */
  readonly around: Expression;
}

/** The texts that a pattern matches. ^ and $ may stand where the text begins and ends, as in `^(a|b)$` or `^a|b$`. */
export function regexExpression(regex: Regex, context: RegexContext): Expression {
  return outer(regex, context, true, true);
}

/** A part at the text's edges: `first` and `last` say at which. */
function outer(regex: Regex, context: RegexContext, first: boolean, last: boolean): Expression {
  const { expressions, around } = context;
  if (regex.type === "alt") {
    return expressions.alt(regex.items.map((item) => outer(item, context, first, last)));
  }
  if (regex.type !== "seq") {
    const edge = (open: boolean): Expression => (open ? around : expressions.epsilon);
    return expressions.seq(edge(first), inner(regex, context), edge(last));
  }
  let items = regex.items;
  const [starts, ends] = [first && items[0]?.type === "start", last && items.at(-1)?.type === "end"];
  items = items.slice(starts ? 1 : 0, ends ? -1 : items.length);
  const [openStart, openEnd] = [first && !starts, last && !ends];
  if (items.length === 0) return openStart || openEnd ? around : expressions.epsilon;
  if (items.length === 1) return outer(items[0]!, context, openStart, openEnd);
  return expressions.seq(
    outer(items[0]!, context, openStart, false),
    ...items.slice(1, -1).map((item) => inner(item, context)),
    outer(items.at(-1)!, context, false, openEnd),
  );
}

function inner(regex: Regex, context: RegexContext): Expression {
  const { expressions, character } = context;
  switch (regex.type) {
    case "set":
      return character(regex.set);
    case "seq":
      return expressions.seq(...regex.items.map((item) => inner(item, context)));
    case "alt":
      return expressions.alt(regex.items.map((item) => inner(item, context)));
    case "repeat":
      return expressions.repeat(inner(regex.item, context), regex.least, regex.most);
    default:
      throw new InputError(
        `${expressions.option}: ^ and $ are supported only where the text begins and ends`,
        { option: expressions.option },
      );
  }
}
