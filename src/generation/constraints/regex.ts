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
  return outer(regex, context, "open", "open");
}

/** A function of sets that works each of them out once: the same few occur over and over. */
export function remembering(make: (set: CodePoints) => Expression): (set: CodePoints) => Expression {
  const known = new Map<string, Expression>();
  return (set) => {
    const key = set.join(";");
    const expression = known.get(key) ?? make(set);
    known.set(key, expression);
    return expression;
  };
}

/** Where a side of a part lies: within the text, at its edge with anything between, or right at its edge. */
type Side = "within" | "open" | "tied";

/** A part that may lie at the text's edges. */
function outer(regex: Regex, context: RegexContext, left: Side, right: Side): Expression {
  const { expressions, around } = context;
  const edge = (side: Side): Expression => (side === "open" ? around : expressions.epsilon);
  if (regex.type === "alt") {
    return expressions.alt(regex.items.map((item) => outer(item, context, left, right)));
  }
  const items = regex.type === "seq" ? regex.items : [regex];
  if (left !== "within" && items[0]?.type === "start") {
    return outer({ type: "seq", items: items.slice(1) }, context, "tied", right);
  }
  if (right !== "within" && items.at(-1)?.type === "end") {
    return outer({ type: "seq", items: items.slice(0, -1) }, context, left, "tied");
  }
  if (items.length === 0) return left === "open" || right === "open" ? around : expressions.epsilon;
  if (items.length === 1) {
    if (regex.type === "seq") return outer(items[0]!, context, left, right);
    return expressions.seq(edge(left), inner(regex, context), edge(right));
  }
  return expressions.seq(
    outer(items[0]!, context, left, "within"),
    ...items.slice(1, -1).map((item) => inner(item, context)),
    outer(items.at(-1)!, context, "within", right),
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
