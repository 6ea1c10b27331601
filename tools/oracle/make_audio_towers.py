"""Writes test/fixtures/audio-towers: tiny audio encoders of Gemma 3n with inputs and outputs.

    python tools/oracle/make_audio_towers.py --golden-make GOLDEN/make --out test/fixtures/audio-towers

Each folder has config.json (the audio configuration, and the text model's hidden_size), model.safetensors (audio_tower
and embed_audio) and io.safetensors: input_features and input_features_mask, what HF makes of them, and ids with their
hard embeddings. `--golden-make` is the `make` folder beside the golden data, which knows how to import torchvision, which
transformers' Gemma 3n needs. Needs torch 2.13, transformers 5.18.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

# settings, the text model's hidden_size, frames of the batch, frames of each clip that are sound
SETS = {
    "odd": (dict(hidden_size=30, conf_num_attention_heads=3, conf_num_hidden_layers=2, input_feat_size=13,
                 conf_attention_chunk_size=3, conf_attention_context_left=5, conf_attention_context_right=2,
                 conf_attention_logit_cap=2.0, conf_reduction_factor=3, conf_conv_kernel_size=4,
                 conf_residual_weight=0.7, sscp_conv_channel_size=[6, 5], vocab_size=7, vocab_offset=100,
                 rms_norm_eps=1e-3), 20, 61, [61, 34, 3]),
    "kernels": (dict(hidden_size=16, conf_num_attention_heads=2, conf_num_hidden_layers=1, input_feat_size=20,
                     conf_attention_chunk_size=7, conf_attention_context_left=1, conf_attention_context_right=0,
                     conf_reduction_factor=1, conf_conv_kernel_size=1, gradient_clipping=1.5,
                     sscp_conv_channel_size=[3, 4], sscp_conv_kernel_size=[[5, 3], [2, 4]],
                     sscp_conv_stride_size=[[1, 2], [3, 1]], vocab_size=5, vocab_offset=64), 12, 23, [20]),
    "short": (dict(hidden_size=16, conf_num_attention_heads=4, conf_num_hidden_layers=2, input_feat_size=16,
                   conf_attention_chunk_size=12, conf_attention_context_left=13, vocab_size=4, vocab_offset=32,
                   sscp_conv_channel_size=[4, 2]), 8, 2, [2, 1]),
}


def randomise(module):
    """Weights whose effects show: norms around 1, the rest at a scale that keeps activations near 1."""
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            parameter.normal_(0, fan_in ** -0.5 if parameter.ndim > 1 else 0.3)
            if parameter.ndim == 1 and "per_dim_scale" not in name:
                parameter.add_(1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--golden-make", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.golden_make))
    from goldenlib.torchvision_import import declare_missing_operators

    declare_missing_operators()
    from transformers import Gemma3nAudioConfig, Gemma3nAudioEncoder, Gemma3nTextConfig
    from transformers.models.gemma3n.modeling_gemma3n import Gemma3nMultimodalEmbedder

    out = arguments.out
    torch.manual_seed(0)
    for name, (settings, hidden_size, frames, lengths) in SETS.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        config = Gemma3nAudioConfig(**settings)
        tower = Gemma3nAudioEncoder(config).eval()
        embedder = Gemma3nMultimodalEmbedder(config, Gemma3nTextConfig(hidden_size=hidden_size, num_attention_heads=1, num_key_value_heads=1)).eval()
        randomise(tower)
        randomise(embedder)
        features = torch.randn(len(lengths), frames, config.input_feat_size)
        mask = torch.arange(frames)[None] < torch.tensor(lengths)[:, None]
        ids = torch.arange(config.vocab_size).flip(0) + config.vocab_offset
        with torch.no_grad():
            encoded = tower(features, ~mask, return_dict=True)
            io = {"input_features": features, "input_features_mask": mask.to(torch.uint8), "ids": ids.to(torch.int32),
                  "subsample_conv_projection": tower.subsample_conv_projection(features),
                  "encoder_output": encoded.last_hidden_state,
                  "encoder_padding_mask": encoded.audio_mel_mask.to(torch.uint8),
                  "audio_features": embedder(inputs_embeds=encoded.last_hidden_state),
                  "hard_embeddings": embedder(input_ids=ids)}
        weights = {f"audio_tower.{key}": value for key, value in tower.state_dict().items()}
        weights |= {f"embed_audio.{key}": value for key, value in embedder.state_dict().items()}
        save_file({key: value.contiguous() for key, value in weights.items()}, folder / "model.safetensors")
        save_file({key: value.contiguous() for key, value in io.items()}, folder / "io.safetensors")
        described = {"audio_config": settings, "hidden_size": hidden_size}
        (folder / "config.json").write_text(json.dumps(described, indent=1) + "\n")


main()
