"""Writes test/fixtures/vision-towers: small MobileNet-V5 encoders of timm's with awkward sizes, and what they give.

    python make_vision_towers.py --golden-make GOLDEN/make --out test/fixtures/vision-towers

Each set is a safetensors file with the weights (bfloat16 numbers, so that the file is small), an image and its
feature maps, and the arguments in towers.json. Needs torch 2.13, timm 1.0.31 and safetensors; `--golden-make` is the `make`
folder beside the golden data, which knows how to import torchvision, which timm needs. Two runs on one machine
give the same bytes.
"""

import argparse
import copy
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

SETS = {
    # Sizes that no stride divides, a grid that does not fit, and every depthwise convolution that there is.
    "odd": dict(
        image=(43, 62),
        blocks=[
            ["er_r1_k5_s2_e2_c8", "er_r1_k3_s1_e2_c8_p3"],
            ["uir_r1_a3_k5_s2_e2_c12_p3", "uir_r1_a0_k4_s1_e1_c12"],
            ["uir_r1_a5_k0_s2_e2_c24", "mqa_r1_k3_h3_v2_s1_d6_c24", "uir_r1_a0_k0_s1_e2_c24_noskip"],
            ["uir_r1_a0_k0_s2_e2_c16_p3", "mqa_r1_k5_h2_v3_s1_d4_c16", "mqa_r2_k3_h1_s1_d5_c16", "uir_r1_a3_k0_s1_e1_c16"],
        ],
        arguments=dict(stem_size=10, msfa_output_resolution=[3, 4]),
    ),
    # A fifth stride, which becomes a dilation; PyTorch's padding; three scales fused; pooled tokens.
    "dilated": dict(
        image=(64, 96),
        blocks=[
            ["er_r1_k3_s2_e1_c8_gs8"],
            ["uir_r1_a3_k3_s2_e2_c8_gs4"],
            ["uir_r1_a3_k3_s2_e2_c16", "mqa_r1_k3_h2_v2_s1_d8_c16", "uir_r1_a0_k0_s1_e2_c16"],
            ["uir_r1_a0_k5_s2_e2_c16"],
            ["uir_r1_a3_k5_s2_e2_c16", "mqa_r1_k3_h2_v2_s1_d8_c16", "uir_r1_a5_k3_s1_e1_c16"],
        ],
        arguments=dict(stem_size=12, fix_stem=True, stem_bias=False, pad_type="",
                       msfa_indices=[-3, -1, -2], msfa_output_resolution=[2, 3]),
    ),
    # An image smaller than its grid of tokens.
    "small": dict(
        image=(33, 40),
        blocks=[["er_r1_k3_s2_e1_c8"], ["uir_r1_a3_k3_s2_e1_c8"], ["uir_r1_a3_k3_s2_e1_c8"]],
        arguments=dict(stem_size=8, in_chans=1, msfa_output_resolution=5),
    ),
}


def make(timm, name: str, setting: dict, generator: torch.Generator, out: Path) -> dict:
    from timm.models._efficientnet_builder import decode_arch_def

    arguments = {"block_args": decode_arch_def(setting["blocks"]), **setting["arguments"]}
    stored = json.loads(json.dumps(arguments))
    model = timm.create_model("mobilenetv5_300m_enc", pretrained=False, num_classes=0, **copy.deepcopy(arguments)).eval()
    tensors = {}
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            noise = torch.randn(parameter.shape, generator=generator)
            value = 1 + 0.2 * noise if parameter.ndim == 1 and "bias" not in key else noise / fan_in**0.5
            parameter.copy_(value.bfloat16().float())
            tensors[f"timm_model.{key}"] = parameter.bfloat16().contiguous().clone()
        channels = arguments.get("in_chans", 3)
        image = torch.rand((1, channels, *setting["image"]), generator=generator)
        fused, maps = model.forward_intermediates(image)
    tensors["pixel_values"] = image
    tensors["fused"] = fused.contiguous()
    for i, feature_map in enumerate(maps):
        tensors[f"map.{i}"] = feature_map.contiguous()
    save_file(tensors, out / f"{name}.safetensors")
    return {"model_args": stored, "strings": setting["blocks"], "maps": len(maps)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--golden-make", type=Path, required=True)
    args = parser.parse_args()
    out = args.out
    sys.path.insert(0, str(args.golden_make))
    from goldenlib.torchvision_import import declare_missing_operators

    declare_missing_operators()
    import timm

    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(11)
    towers = {name: make(timm, name, setting, generator, out) for name, setting in SETS.items()}
    (out / "towers.json").write_text(json.dumps(towers, indent=1) + "\n")


main()
