"""Writes test/fixtures/quantization: GGML blocks and the float32 values that the `gguf` package reads in them.

    python3 tools/oracle/gguf_blocks.py        (needs gguf 0.19, numpy)

blocks.json names the parts of blocks.bin as [offset, length] in bytes. Codes are random bytes; the float16
scales run through ordinary values and the extremes. Halves are rounded by numpy (float16) and gguf (bfloat16).
"""

import json
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

OUT = Path(__file__).resolve().parents[2] / "test" / "fixtures" / "quantization"

# Type: (byte offsets of its float16 scales and minima in a block, blocks)
TYPES = {
    "Q4_0": ([0], 24),
    "Q4_1": ([0, 2], 24),
    "Q5_0": ([0], 24),
    "Q5_1": ([0, 2], 24),
    "Q8_0": ([0], 24),
    "Q2_K": ([80, 82], 20),
    "Q3_K": ([108], 20),
    "Q4_K": ([0, 2], 20),
    "Q5_K": ([0, 2], 20),
    "Q6_K": ([208], 20),
}
# Zeros of both signs, the least and the largest subnormal, the least normal, the largest, one, an odd fraction.
EXTREMES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00, 0xB555]


def blocks(rng: np.random.Generator, name: str) -> np.ndarray:
    places, count = TYPES[name]
    _, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    data = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for number, place in enumerate(places):
        scale = rng.normal(0, 0.01, count).astype(np.float16).view(np.uint16)
        scale[: len(EXTREMES)] = np.roll(EXTREMES, 3 * number)
        data[:, place : place + 2] = scale[:, None].view(np.uint8)
    data[-1, max(places) + 2 if places[0] == 0 else 0 :] = 0  # a last block of zeros: codes and packed scales
    return data


def floats(rng: np.random.Generator) -> np.ndarray:
    """Random bit patterns, ordinary values, ties of both formats and the special values."""
    bits = rng.integers(0, 2**32, 500, dtype=np.uint64).astype(np.uint32)
    ordinary = rng.normal(0, 1, 300).astype(np.float32).view(np.uint32)
    small = (rng.normal(0, 1, 300) * 2.0 ** rng.integers(-28, -12, 300)).astype(np.float32).view(np.uint32)
    halves = rng.integers(0, 0x7C00, 300, dtype=np.uint16)
    middle = (halves.view(np.float16).astype(np.float64) + (halves + 1).view(np.float16)) / 2
    tie16 = middle.astype(np.float32).view(np.uint32)
    tie_b = (rng.integers(0, 0x7F80, 300, dtype=np.uint32) << 16) | 0x8000
    special = [0, 0x80000000, 1, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0xFFFFFFFF, 0x7F7FFFFF, 0x477FEFFF,
               0x477FF000, 0x33000000, 0x33000001, 0x337FFFFF, 0x387FFFFF, 0x38800000]
    return np.concatenate([bits, ordinary, small, tie16, tie_b, np.array(special, np.uint32)]).astype(np.uint32)


def main() -> None:
    rng = np.random.default_rng(20)
    parts: list[bytes] = []

    def put(array: np.ndarray) -> list[int]:
        offset = sum(map(len, parts))
        parts.append(array.tobytes())
        return [offset, len(parts[-1])]

    index: dict = {"blocks": {}, "halves": {}}
    with np.errstate(all="ignore"):
        for name in TYPES:
            data = blocks(rng, name)
            values = quants.dequantize(data, GGMLQuantizationType[name])
            index["blocks"][name] = {"bytes": put(data), "values": put(values.astype("<f4"))}
        source = floats(rng)
        index["halves"] = {
            "float32": put(source),
            "float16": put(source.view(np.float32).astype(np.float16)),
            "bfloat16": put(quants.quantize(source.view(np.float32), GGMLQuantizationType.BF16)),
        }
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "blocks.bin").write_bytes(b"".join(parts))
    (OUT / "blocks.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()
