"""Writes test/fixtures/attention-masks.json: what transformers 5.18's AttentionMaskVisualizer prints for a tokenizer,
texts and configurations, and the masks of a padded batch that Gemma3TextModel makes for its layers.

    python tools/oracle/attention_masks.py test/fixtures/golden-h16/gemma3_text/model test/fixtures/attention-masks.json
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
from unittest import mock

import torch
from transformers import AutoTokenizer, Gemma3TextConfig, Gemma3TextModel
from transformers.models.gemma3 import modeling_gemma3
from transformers.utils.attention_visualizer import AttentionMaskVisualizer

SMALL = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 6, "num_attention_heads": 1,
         "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 512}

# Labels with quotes, escapes, blanks, wide and combining characters, special tokens; more than 9, more than 99 tokens.
PRINTED = [
    ({"model_type": "gemma3_text", "sliding_window": 3}, "Hello world,\n\n  it's \"a\" <eos>"),
    ({"model_type": "gemma3_text"}, "\u65e5\u672c \U0001f600 e\u0301 \u200b\u3000\\ \t"),
    ({"model_type": "gemma3_text", "sliding_window": None}, "No window at all"),
    ({"model_type": "gemma"}, "The sky is blue because of it"),
    ({"model_type": "gemma3n_text"}, "a"),
    ({"model_type": "gemma3_text", "sliding_window": 4}, "z" * 101),
]
MASK = [[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]]
MASKED = [{"sliding_window": 3}, {"sliding_window": 5, "use_bidirectional_attention": True}]


def printed(tokenizer: str, config: dict, text: str) -> dict:
    """Runs the visualizer in a folder "model" with this configuration."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), io.StringIO() as out:
        os.mkdir("model")
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            shutil.copy(os.path.join(tokenizer, name), "model")
        with open("model/config.json", "w") as file:
            json.dump({**SMALL, **config}, file)
        with contextlib.redirect_stdout(out):
            AttentionMaskVisualizer("model")(text)
        tokens = AutoTokenizer.from_pretrained("model").tokenize(text)
        whole = {"tokens": tokens, "printed": out.getvalue()}
    digest = {"count": len(tokens), "sha256": hashlib.sha256(whole["printed"].encode()).hexdigest()}
    return {"config": config, "text": text, **(whole if len(tokens) < 100 else digest)}


def masks(config: dict) -> dict:
    """Catches the masks on their way to the layers."""
    model = Gemma3TextModel(Gemma3TextConfig(**SMALL, **config, attn_implementation="eager"))
    seen = {}
    forward = modeling_gemma3.Gemma3DecoderLayer.forward

    def spy(layer, *args, attention_mask=None, **kwargs):
        seen[layer.self_attn.layer_type] = attention_mask
        return forward(layer, *args, attention_mask=attention_mask, **kwargs)

    with mock.patch.object(modeling_gemma3.Gemma3DecoderLayer, "forward", spy), torch.no_grad():
        model(input_ids=torch.ones(len(MASK), len(MASK[0]), dtype=torch.long), attention_mask=torch.tensor(MASK))
    rows = {kind: (mask == 0)[:, 0].int().tolist() for kind, mask in seen.items()}
    text = {kind: [["".join(map(str, row)) for row in one] for one in batch] for kind, batch in rows.items()}
    return {"config": {"model_type": "gemma3_text", **config}, "attention_mask": MASK, **text}


def main(tokenizer: str, target: str) -> None:
    tokenizer = os.path.abspath(tokenizer)
    data = {"printed": [printed(tokenizer, *case) for case in PRINTED], "masks": [masks(config) for config in MASKED]}
    lists = [
        f'"{name}": [\n' + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]"
        for name, cases in data.items()
    ]
    with open(target, "w") as file:
        file.write("{\n" + ",\n".join(lists) + "\n}\n")


main(*sys.argv[1:])
