"""Writes test/fixtures/siglip: tiny SigLIP image encoders with and without a pooling head, and what HF makes of images.

    python make_siglip.py --out test/fixtures/siglip

Each folder is a saved SiglipVisionModel; the file beside it holds pixel_values of two images, last_hidden_state, every
hidden state, and pooler_output where there is a head. Needs torch 2.13, transformers 5.18 and safetensors. Two runs on
one machine give the same bytes.
"""

import argparse
import sys
from pathlib import Path

sys.modules["torchvision"] = None
sys.modules["torchao"] = None

import torch
from safetensors.torch import save_file
from transformers import SiglipVisionConfig, SiglipVisionModel

SETS = {
    # Head size 7; an image that the patches do not fill.
    "head": dict(hidden_size=21, num_attention_heads=3, intermediate_size=34, num_hidden_layers=3, image_size=23,
                 patch_size=5, hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-5),
    # Head size 5, one channel.
    "no-head": dict(hidden_size=20, num_attention_heads=4, intermediate_size=27, num_hidden_layers=2, image_size=18,
                    patch_size=6, num_channels=1, hidden_act="gelu", vision_use_head=False),
}


def make(setting: dict, out: Path, name: str, generator: torch.Generator) -> None:
    config = SiglipVisionConfig(**setting)
    model = SiglipVisionModel._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = "norm" in key and key.endswith("weight")
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.copy_(1 + 0.2 * noise if is_norm else noise / fan_in**0.5)
        size = (2, config.num_channels, config.image_size, config.image_size)
        pixel_values = torch.rand(size, generator=generator) * 2 - 1
        output = model(pixel_values, output_hidden_states=True)
    model.save_pretrained(out / name)
    tensors = {"pixel_values": pixel_values, "last_hidden_state": output.last_hidden_state}
    tensors |= {f"hidden_states.{i}": state for i, state in enumerate(output.hidden_states)}
    if output.pooler_output is not None:
        tensors["pooler_output"] = output.pooler_output
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, out / f"{name}.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(23)
    for name, setting in SETS.items():
        make(setting, args.out, name, generator)


main()
