/**
 * Dimensions of traced values: a number, a symbol ("batch"), or a product of both ("4*batch*seq"). Shapes are
 * checked while tracing, so a mismatch names the module that made it instead of failing inside the engine.
 */
export type Dim = number | string;
export type Shape = readonly Dim[];

interface Product {
  readonly factor: number;
  readonly symbols: readonly string[];
}

function parse(dims: Shape): Product {
  let factor = 1;
  const symbols: string[] = [];
  for (const dim of dims) {
    for (const part of typeof dim === "number" ? [dim] : dim.split("*")) {
      const value = Number(part);
      if (Number.isInteger(value)) factor *= value;
      else symbols.push(String(part));
    }
  }
  return { factor, symbols: symbols.sort() };
}

/** The product of dimensions as one dimension. */
export function productOf(dims: Shape): Dim {
  const { factor, symbols } = parse(dims);
  if (symbols.length === 0) return factor;
  return factor === 1 ? symbols.join("*") : [factor, ...symbols].join("*");
}

/** Whether two shapes hold the same number of elements for every value of their symbols. */
export function sameSize(a: Shape, b: Shape): boolean {
  return productOf(a) === productOf(b);
}

/** `[batch, seq, 640]`, for messages. */
export function formatShape(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

/** The shape of an element-wise operation by ONNX's (NumPy's) broadcasting, or undefined where there is none. */
export function broadcast(a: Shape, b: Shape): Shape | undefined {
  const rank = Math.max(a.length, b.length);
  const result: Dim[] = [];
  for (let i = 0; i < rank; i++) {
    const left = a[i - rank + a.length] ?? 1;
    const right = b[i - rank + b.length] ?? 1;
    if (left !== right && left !== 1 && right !== 1) return undefined;
    result.push(left === 1 ? right : left);
  }
  return result;
}
