/** The models of tools/oracle/onnx_fixtures.py, and short ways to run them. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { allocateTensor } from "../element-types.ts";
import type { ElementType, RuntimeValue, Session, TypedArray } from "../session.ts";

/** Where the models lie. */
export const FIXTURES: string = fileURLToPath(new URL("../../../test/fixtures/onnx", import.meta.url));

/** The bytes of one of the models. */
export function fixture(name: string): Uint8Array {
  return readFileSync(`${FIXTURES}/${name}`);
}

/** A value over `data`. */
export function value(
  session: Session,
  type: ElementType,
  dims: readonly number[],
  data: TypedArray,
): RuntimeValue {
  return session.createValue({ type, dims, data });
}

/** A float32 value over a copy of `numbers`. */
export function floats(session: Session, dims: readonly number[], numbers: Iterable<number>): RuntimeValue {
  return value(session, "float32", dims, Float32Array.from(numbers));
}

/** A value over zeroed memory. */
export function zeros(session: Session, type: ElementType, dims: readonly number[]): RuntimeValue {
  return session.createValue(allocateTensor(type, dims));
}

/** The numbers of a float32 value. */
export function numbers(of: RuntimeValue): number[] {
  return Array.from(of.tensor.data, Number);
}

/** Binds the slow model: `turns` products of two [size, size] matrices, about 2 size³ operations each. */
export function bindSlow(session: Session, turns: number, size: number): ReturnType<Session["bind"]> {
  return session.bind(
    {
      turns: value(session, "int64", [], BigInt64Array.of(BigInt(turns))),
      x: zeros(session, "float32", [size, size]),
    },
    { y: zeros(session, "float32", [size, size]) },
  );
}
