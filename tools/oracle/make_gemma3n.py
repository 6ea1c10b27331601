"""Writes tiny Gemma 3n text checkpoints of odd shapes, and what slices of one of them give.

    python tools/oracle/make_gemma3n.py test/fixtures/gemma3n

`odd` and `unshared` are for make_outputs.py. `nested` is to be sliced (MatFormer): slices.json has, for every slice, the
configuration and the logits of a checkpoint that was cut here and loaded by HF.
"""

import json
import re
import sys
from pathlib import Path

import torchvision_stub  # noqa: E402, F401

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import Gemma3nForCausalLM, Gemma3nTextConfig  # noqa: E402

out = Path(sys.argv[1])
S, F = "sliding_attention", "full_attention"
COMMON = dict(vocab_size=72, vocab_size_per_layer_input=64, max_position_embeddings=256, sliding_window=5,
              hidden_size=16, hidden_size_per_layer_input=6, laurel_rank=3, bos_token_id=2, eos_token_id=1)


def make(name, seed, **sizes):
    torch.manual_seed(seed)
    model = Gemma3nForCausalLM(Gemma3nTextConfig(**{**COMMON, **sizes})).eval()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.copy_(1 + 0.3 * torch.randn_like(weight))
            else:
                weight.copy_(torch.randn_like(weight) * (1.2 / weight.shape[-1] ** 0.5))
        model.lm_head.weight = model.model.embed_tokens.weight
    model.save_pretrained(out / name)
    (out / name / "generation_config.json").unlink(missing_ok=True)


make("odd", 1, hidden_size=18, intermediate_size=[40, 24, 33, 24, 40], num_hidden_layers=5, num_attention_heads=3, num_key_value_heads=1,
     head_dim=10, num_kv_shared_layers=2, layer_types=[F, S, F, S, F], altup_num_inputs=3, altup_active_idx=1,
     altup_correct_scale=False, activation_sparsity_pattern=[0.9, 0.0, 0.3, 0.0, 0.75], final_logit_softcapping=12.0,
     hidden_activation="gelu")
make("unshared", 2, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2, head_dim=8,
     num_kv_shared_layers=0, layer_types=[S, F], altup_num_inputs=2, activation_sparsity_pattern=[0.5, 0.0])
NESTED = 6
make("nested", 3, intermediate_size=[48] * NESTED, num_hidden_layers=NESTED, num_attention_heads=2, num_key_value_heads=1,
     head_dim=8, num_kv_shared_layers=3, layer_types=[S, S, F, S, S, F],
     activation_sparsity_pattern=[0.9, 0.9, 0.0, 0.0, 0.0, 0.0])


def cut(tensors, config, skip, sizes):
    """The checkpoint without the layers `skip`, feed-forward layers cut to the first `sizes[i]` of the kept layer i."""
    kept = [i for i in range(config["num_hidden_layers"]) if i not in skip]
    size = config["hidden_size_per_layer_input"]
    rows = torch.cat([torch.arange(i * size, (i + 1) * size) for i in kept])
    result = {}
    for name, tensor in tensors.items():
        layer = re.search(r"\.layers\.(\d+)\.", name)
        if layer:
            if int(layer[1]) in skip:
                continue
            new = kept.index(int(layer[1]))
            name = name.replace(layer[0], f".layers.{new}.")
            if re.search(r"(gate|up)_proj", name):
                tensor = tensor[: sizes[new]]
            elif "down_proj" in name:
                tensor = tensor[:, : sizes[new]]
        elif "per_layer_model_projection" in name:
            tensor = tensor[rows]
        elif "embed_tokens_per_layer" in name:
            tensor = tensor[:, rows]
        result[name] = tensor.contiguous()
    first_shared = config["num_hidden_layers"] - config["num_kv_shared_layers"]
    changed = {key: [config[key][i] for i in kept] for key in ("layer_types", "activation_sparsity_pattern")}
    return result, {**config, **changed, "num_hidden_layers": len(kept), "intermediate_size": sizes,
                    "num_kv_shared_layers": sum(i >= first_shared for i in kept)}


config = json.loads((out / "nested" / "config.json").read_text())
tensors = load_file(out / "nested" / "model.safetensors")
ids = torch.tensor([[2, 40, 7, 33, 21, 60, 12, 9, 51, 18]])
slices = []
for skip, sizes in [([], [24] * 6), ([3], [24, 24, 48, 20, 20]), ([0, 4, 5], [48, 16, 48]), ([3, 4, 5], [48] * 3)]:
    folder = out / "sliced"
    folder.mkdir(exist_ok=True)
    cut_tensors, cut_config = cut(tensors, config, skip, sizes)
    save_file(cut_tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(cut_config))
    model = Gemma3nForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0]
    slices.append({"skip_layers": skip, "intermediate_size": sizes, "num_kv_shared_layers": cut_config["num_kv_shared_layers"],
                   "logits": [[round(float(x), 6) for x in row] for row in logits[-2:]]})
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
(out / "slices.json").write_text(json.dumps({"input_ids": ids.tolist(), "slices": slices}))
