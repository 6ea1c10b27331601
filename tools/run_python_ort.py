"""Runs an ONNX graph of lapidary's in plain Python onnxruntime, to show that it needs nothing of lapidary's.

    python run_python_ort.py REQUEST.json OUT_FOLDER

Needs onnxruntime and numpy only. Tensors travel as raw files: row-major, little-endian, nothing but the elements.
REQUEST.json, with paths relative to its folder:

    {
      "model": "decoder.onnx",
      "external_data_folder": "/models/gemma",
      "inputs": {"input_ids": {"dtype": "int64", "shape": [1, 4], "file": "input_ids.bin"}},
      "outputs": ["logits"],
      "session_config": {"session.intra_op.allow_spinning": "0"},
      "threads": 1
    }

`external_data_folder` is what the locations in the graph are relative to (the model's folder where it is missing);
`outputs` defaults to all; `session_config` and `threads` may be missing. dtypes are numpy's names, and "bfloat16"
(raw 16-bit patterns; onnxruntime's Python API takes these through OrtValues).

Writes OUT_FOLDER/response.json, {"onnxruntime": VERSION, "outputs": {NAME: {"dtype", "shape", "file"}}}, and a raw
file for each output, with files relative to OUT_FOLDER; prints one line for each output. Exit code 3 when onnxruntime
or numpy is missing. `--check` only tests for these and prints onnxruntime's version.
"""

import json
import sys
from pathlib import Path

MISSING_PACKAGE = 3
BFLOAT16 = 16  # its number in TensorProto.DataType

try:
    import numpy as np
    import onnxruntime as ort
except ImportError as error:
    print(f"run_python_ort: {error}", file=sys.stderr)
    sys.exit(MISSING_PACKAGE)


def read_tensor(folder: Path, entry: dict) -> "ort.OrtValue":
    raw = (folder / entry["file"]).read_bytes()
    if entry["dtype"] == "bfloat16":
        values = np.frombuffer(raw, dtype="<u2").reshape(entry["shape"])
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(values.copy(), BFLOAT16)
    dtype = np.dtype(entry["dtype"]).newbyteorder("<")
    values = np.frombuffer(raw, dtype=dtype).reshape(entry["shape"])
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(values))


def make_session(folder: Path, request: dict) -> "ort.InferenceSession":
    model = folder / request["model"]
    data_folder = folder / request.get("external_data_folder", str(model.parent.resolve()))
    options = ort.SessionOptions()
    options.intra_op_num_threads = request.get("threads", 0)
    options.log_severity_level = 3
    # The model is given as bytes, as lapidary gives it: then only this entry says where its weights lie.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(data_folder))
    for key, value in request.get("session_config", {}).items():
        options.add_session_config_entry(key, value)
    return ort.InferenceSession(model.read_bytes(), options, providers=["CPUExecutionProvider"])


def describe(name: str, values: "np.ndarray") -> str:
    text = f"{name}: {values.dtype}{list(values.shape)}"
    if values.size and values.dtype.kind in "fiu":
        flat = values.reshape(-1)
        text += f", first {flat[0]:.6g}, last {flat[-1]:.6g}, sum of squares {np.square(flat.astype(np.float64)).sum():.9g}"
    return text


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        print(ort.__version__)
        return 0
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    request_file, out = Path(sys.argv[1]), Path(sys.argv[2])
    request = json.loads(request_file.read_text())
    folder = request_file.resolve().parent

    session = make_session(folder, request)
    inputs = {name: read_tensor(folder, entry) for name, entry in request["inputs"].items()}
    names = request.get("outputs") or [output.name for output in session.get_outputs()]
    results = session.run_with_ort_values(names, inputs)

    out.mkdir(parents=True, exist_ok=True)
    outputs = {}
    for i, (name, result) in enumerate(zip(names, results)):
        values = np.ascontiguousarray(result.numpy())
        file = f"output-{i}.bin"
        (out / file).write_bytes(values.astype(values.dtype.newbyteorder("<")).tobytes())
        outputs[name] = {"dtype": values.dtype.name, "shape": list(values.shape), "file": file}
        print(describe(name, values))
    response = {"onnxruntime": ort.__version__, "outputs": outputs}
    (out / "response.json").write_text(json.dumps(response, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
