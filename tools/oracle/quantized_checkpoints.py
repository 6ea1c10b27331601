"""Writes test/fixtures/quantized: a tiny Gemma 3 saved by HF with bitsandbytes' quantisations, and expected logits.

    python quantized_checkpoints.py --out test/fixtures/quantized

float/ is the model itself; nf4/, nf4_double/, fp4/ and int8/ are what `from_pretrained(quantization_config=...)` then
`save_pretrained` made of it. expected.json has the logits of each: those of the float model with the weights that the
codes stand for. (The model saved as int8 would give others, since LLM.int8() rounds its inputs too.) `torchao` in it
has codes and scales of int8 and int4 weights. Sizes are awkward on purpose: rows of 36 and heads of 12, so that blocks of 64 run
over rows and the last one is short. Codes are read by the format's definition: on processors with AVX-512 the CPU
kernel of bitsandbytes 0.50.2 takes wrong scales where rows are no whole number of blocks.

Needs torch 2.13, transformers 5.18, accelerate, bitsandbytes 0.50.2 and torchao 0.18. CPU only.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.modules["torchvision"] = None  # only text models here; a mismatched torchvision would stop the import

import torch
import transformers
from bitsandbytes import functional as bnb
from transformers import BitsAndBytesConfig, Gemma3ForCausalLM, Gemma3TextConfig

SETTINGS = {
    "nf4": dict(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    "nf4_double": dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True),
    "fp4": dict(load_in_4bit=True, bnb_4bit_quant_type="fp4"),
    "int8": dict(load_in_8bit=True),
}
IDS = [2, 17, 30, 41, 59, 5, 6, 77, 18, 50, 31, 12]


def make_model() -> Gemma3ForCausalLM:
    rope = {kind: {"rope_type": "default", "rope_theta": theta}
            for kind, theta in (("full_attention", 1e6), ("sliding_attention", 1e4))}
    config = Gemma3TextConfig(
        vocab_size=80, hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, query_pre_attn_scalar=10, sliding_window=5, max_position_embeddings=64,
        layer_types=["sliding_attention", "full_attention"], rope_parameters=rope, attn_implementation="eager")
    model = Gemma3ForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return model


def logits_of(model) -> list[float]:
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([IDS])).logits[0].float()
    return [float(f"{value:.7g}") for value in logits.flatten().tolist()]


def restore(codes: torch.Tensor, state) -> torch.Tensor:
    """value = code's value times the block's absmax, over the flattened matrix."""
    absmax = state.absmax
    if state.nested:
        absmax = bnb.dequantize_blockwise(absmax, state.state2) + state.offset
    codes = torch.stack([codes.flatten() >> 4, codes.flatten() & 15], dim=-1).flatten()
    values = state.code[codes.long()][:state.shape.numel()]
    return (values * absmax.repeat_interleave(state.blocksize)[:len(values)]).reshape(state.shape)


def with_dequantised_weights(folder: Path, quantised) -> Gemma3ForCausalLM:
    """The float model with the weights that a quantised one stands for."""
    model = Gemma3ForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, module in quantised.named_modules():
            state = getattr(module.weight, "quant_state", None) if hasattr(module, "weight") else None
            if state is not None:
                model.get_submodule(name).weight.copy_(restore(module.weight, state))
            elif type(module).__name__ == "Linear8bitLt":
                weight = bnb.int8_vectorwise_dequant(module.weight.data, module.weight.SCB)
                model.get_submodule(name).weight.copy_(weight)
    return model


def save(out: Path, name: str) -> list[float]:
    config = BitsAndBytesConfig(**SETTINGS[name])
    model = Gemma3ForCausalLM.from_pretrained(out / "float", quantization_config=config, dtype=torch.float32,
                                              attn_implementation="eager").eval()
    model.save_pretrained(out / name)
    again = Gemma3ForCausalLM.from_pretrained(out / name, attn_implementation="eager").eval()
    return logits_of(with_dequantised_weights(out / "float", again))


def torchao_matrices(dtype: torch.dtype) -> dict:
    """Codes and scales of int8 weights by row, and of int4 weights in groups of 32 with float zero points."""
    from torchao.quantization import PerRow
    from torchao.quantization import quant_primitives as ao
    from torchao.quantization.quantize_.workflows.int8.int8_tensor import Int8Tensor

    generator = torch.Generator().manual_seed(11)
    rows, groups = ((torch.randn(shape, generator=generator) * 0.3).to(dtype) for shape in ((5, 36), (3, 64)))
    rows[1] = groups[1, :32] = 0
    int8 = Int8Tensor.from_hp(rows, granularity=PerRow())
    how = ((1, 32), torch.int32, 0, 15)
    scale, zero = ao._choose_qparams_affine_tinygemm(groups, ao.MappingType.ASYMMETRIC, *how, eps=1e-6,
                                                     scale_dtype=dtype, zero_point_dtype=dtype)
    codes = ao._quantize_affine_tinygemm(groups, how[0], scale, zero, *how[1:])
    restored = ao._dequantize_affine_tinygemm(codes, how[0], scale, zero, *how[1:], output_dtype=dtype)
    return {"int8": numbers(weight=rows, codes=int8.qdata, scale=int8.scale),
            "int4": numbers(weight=groups, codes=codes, scale=scale, zero_point=zero, restored=restored)}


def numbers(**tensors: torch.Tensor) -> dict:
    return {name: tensor.double().flatten().tolist() for name, tensor in tensors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    shutil.rmtree(out, ignore_errors=True)
    model = make_model()
    model.save_pretrained(out / "float")
    logits = {"float": logits_of(model), **{name: save(out, name) for name in SETTINGS}}
    rows = {str(dtype).removeprefix("torch."): torchao_matrices(dtype) for dtype in (torch.float32, torch.bfloat16)}
    (out / "expected.json").write_text(json.dumps({"input_ids": IDS, "logits": logits, "torchao": rows}) + "\n")
    for leftover in out.glob("*/generation_config.json"):
        leftover.unlink()


if __name__ == "__main__":
    main()
