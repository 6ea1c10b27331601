"""Writes the small ONNX models that the tests of src/runtime run, into test/fixtures/onnx.

    pip install onnx numpy
    python tools/oracle/onnx_fixtures.py
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OUT = Path(__file__).resolve().parents[2] / "test" / "fixtures" / "onnx"
OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
F32 = TensorProto.FLOAT


def info(name, dtype, shape):
    return helper.make_tensor_value_info(name, dtype, shape)


def save(name, nodes, inputs, outputs, initializers=(), check=True):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(initializers))
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=10, producer_name="lapidary")
    if check:
        onnx.checker.check_model(model)
    (OUT / f"{name}.onnx").write_bytes(model.SerializeToString())


def elementwise():
    """y = a * b + 1 over [rows, 4]; `rows` is dynamic."""
    save(
        "elementwise",
        [
            helper.make_node("Mul", ["a", "b"], ["ab"]),
            helper.make_node("Add", ["ab", "one"], ["y"]),
        ],
        [info("a", F32, ["rows", 4]), info("b", F32, ["rows", 4])],
        [info("y", F32, ["rows", 4])],
        [numpy_helper.from_array(np.float32(1), "one")],
    )


def identity():
    """One Identity per element type that crosses the border, named <type>_in and <type>_out."""
    types = {
        "float32": F32,
        "float16": TensorProto.FLOAT16,
        "float64": TensorProto.DOUBLE,
        "int64": TensorProto.INT64,
        "int32": TensorProto.INT32,
        "int16": TensorProto.INT16,
        "int8": TensorProto.INT8,
        "uint8": TensorProto.UINT8,
        "uint16": TensorProto.UINT16,
        "uint32": TensorProto.UINT32,
        "uint64": TensorProto.UINT64,
        "bool": TensorProto.BOOL,
    }

    def model(name, types):
        save(
            name,
            [helper.make_node("Identity", [f"{t}_in"], [f"{t}_out"]) for t in types],
            [info(f"{t}_in", code, ["n"]) for t, code in types.items()],
            [info(f"{t}_out", code, ["n"]) for t, code in types.items()],
        )

    model("identity", types)
    model("identity-bfloat16", {"bfloat16": TensorProto.BFLOAT16})  # onnxruntime-node cannot load this one


def attention():
    """GroupQueryAttention with rotary embedding: 4 query heads, 2 key heads, head_dim 16, any capacity."""
    heads, kv_heads, head_dim, positions = 4, 2, 16, 64
    angles = np.outer(np.arange(positions), 10000.0 ** (-np.arange(0, head_dim, 2) / head_dim))
    kv = ["batch", kv_heads, "capacity", head_dim]
    save(
        "attention",
        [
            helper.make_node(
                "GroupQueryAttention",
                ["query", "key", "value", "past_key", "past_value", "seqlens_k", "total", "cos", "sin"],
                ["attended", "present_key", "present_value"],
                domain="com.microsoft",
                num_heads=heads,
                kv_num_heads=kv_heads,
                do_rotary=1,
            )
        ],
        [
            info("query", F32, ["batch", "seq", heads * head_dim]),
            info("key", F32, ["batch", "seq", kv_heads * head_dim]),
            info("value", F32, ["batch", "seq", kv_heads * head_dim]),
            info("past_key", F32, kv),
            info("past_value", F32, kv),
            info("seqlens_k", TensorProto.INT32, ["batch"]),
            info("total", TensorProto.INT32, []),
        ],
        [
            info("attended", F32, ["batch", "seq", heads * head_dim]),
            info("present_key", F32, ["batch", kv_heads, "present", head_dim]),
            info("present_value", F32, ["batch", kv_heads, "present", head_dim]),
        ],
        [
            numpy_helper.from_array(np.cos(angles).astype(np.float32), "cos"),
            numpy_helper.from_array(np.sin(angles).astype(np.float32), "sin"),
        ],
        check=False,  # the checker knows no com.microsoft operators
    )


def external():
    """y = x @ w with w [4, 3] = 0 .. 11 in external.bin at an offset of 64 bytes."""
    weights = np.arange(12, dtype=np.float32).reshape(4, 3)
    (OUT / "external.bin").write_bytes(bytes(64) + weights.tobytes())
    tensor = TensorProto(name="w", data_type=F32, dims=weights.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "external.bin", "offset": "64", "length": str(weights.nbytes)}.items():
        tensor.external_data.add(key=key, value=value)
    save(
        "external",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [info("x", F32, ["rows", 4])],
        [info("y", F32, ["rows", 3])],
        [tensor],
        check=False,  # the checker would look for the file in the working folder
    )


def slow():
    """y = x after `turns` turns of x = tanh(x @ x) over [size, size]: as slow as wanted, in many short operators."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["x_before", "x_before"], ["squared"]),
            helper.make_node("Tanh", ["squared"], ["x_after"]),
            helper.make_node("Identity", ["go_before"], ["go_after"]),
        ],
        "body",
        [info("turn", TensorProto.INT64, []), info("go_before", TensorProto.BOOL, []), info("x_before", F32, None)],
        [info("go_after", TensorProto.BOOL, []), info("x_after", F32, None)],
    )
    save(
        "slow",
        [helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body)],
        [info("turns", TensorProto.INT64, []), info("x", F32, ["size", "size"])],
        [info("y", F32, ["size", "size"])],
    )


def many():
    """45 inputs and 37 outputs of 4 numbers, as many as a small decoder has: what a run costs by itself."""
    names = [f"input_{i}" for i in range(45)]
    save(
        "many",
        [helper.make_node("Identity", [names[i]], [f"output_{i}"]) for i in range(37)],
        [info(name, F32, [4]) for name in names],
        [info(f"output_{i}", F32, [4]) for i in range(37)],
    )


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for write in (elementwise, identity, attention, external, slow, many):
        write()
