"""Writes test/fixtures/lora-h16: PEFT adapters for the tiny Gemma 3 of golden-h16, and what HF and PEFT compute with them.

    python tools/oracle/make_lora.py test/fixtures

One folder an adapter, as PEFT saves it, and expected.safetensors: `input_ids` [1, 15], and by the adapter's name the
logits [1, 3, vocab] of the last three positions and `<name>.generated`, twelve tokens of greedy search. `base` is
without an adapter, `both` with `every` and `some` at once, `labels` [1, 2] from a classifier. Values are random: B is not zero as it is before training.

Needs torch 2.13, transformers 5.18 and peft 0.21. Two runs on one machine give the same bytes.
"""

import json
import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.modules["torchvision"] = None
sys.modules["torchao"] = None

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import Gemma3ForCausalLM, Gemma3TextForSequenceClassification

ADAPTERS = {
    # All linear layers; ranks and scales that differ by name and by regular expression.
    "every": dict(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        rank_pattern={"k_proj": 2, "model.layers.1.mlp.down_proj": 6},
        alpha_pattern={r"layers\.[0-2]\.self_attn\.q_proj": 5, "k_proj": 3},
    ),
    # Other layers and another scale; saved in bfloat16.
    "some": dict(
        r=3,
        lora_alpha=5,
        use_rslora=True,
        target_modules=["v_proj", "down_proj", "o_proj"],
        layers_to_transform=[1, 3, 5],
        layers_pattern="layers",
        exclude_modules=["model.layers.3.self_attn.o_proj"],
    ),
    # Directions and lengths apart.
    "dora": dict(r=2, lora_alpha=2, use_dora=True, target_modules="all-linear"),
    # The embedding table, which the output layer of this model shares; PEFT changes the look-up only.
    "table": dict(r=3, lora_alpha=6, target_modules=r".*\.(embed_tokens|layers\.0\.self_attn\.q_proj)"),
    # Whole weights beside low-rank ones.
    "saved": dict(
        r=2, lora_alpha=4, target_modules=["q_proj"], modules_to_save=["layers.2.mlp.down_proj", "model.norm"]
    ),
}
# A classifier: its head comes with the adapter.
LABELS = dict(r=2, lora_alpha=4, target_modules=["v_proj", "up_proj"], task_type="SEQ_CLS")
IN_BFLOAT16 = {"some"}
PROMPT = [2, 17, 230, 41, 99, 305, 6, 77, 18, 250, 31, 12, 401, 8, 56]


def make(base, folder, seed, settings, bfloat16, model_class=Gemma3ForCausalLM):
    model = get_peft_model(model_class.from_pretrained(base), LoraConfig(**({"task_type": "CAUSAL_LM"} | settings)))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "magnitude" in name or "modules_to_save" in name:
            parameter.data = parameter.data * (1 + 0.2 * noise)
        elif "lora_" in name:
            parameter.data = 0.2 * noise
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    config = folder / "adapter_config.json"
    values = json.loads(config.read_text()) | {"base_model_name_or_path": "golden-h16/gemma3_text/model"}
    if isinstance(values["target_modules"], list):
        values["target_modules"].sort()
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    if bfloat16:
        weights = folder / "adapter_model.safetensors"
        save_file({name: value.bfloat16() for name, value in load_file(weights).items()}, weights, {"format": "pt"})


def record(model, ids):
    with torch.no_grad():
        logits = model(input_ids=ids, logits_to_keep=3).logits
        generated = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, eos_token_id=None
        )
    return {"": logits, ".generated": generated[:, ids.shape[1]:]}


def main():
    fixtures = Path(sys.argv[1])
    base, out = fixtures / "golden-h16/gemma3_text/model", fixtures / "lora-h16"
    shutil.rmtree(out, ignore_errors=True)
    for seed, (name, settings) in enumerate(ADAPTERS.items()):
        make(base, out / name, 40 + seed, settings, name in IN_BFLOAT16)
    ids = torch.tensor([PROMPT])
    expected = {"input_ids": ids}

    def keep(name, model):
        expected.update({name + suffix: value.contiguous() for suffix, value in record(model, ids).items()})

    keep("base", Gemma3ForCausalLM.from_pretrained(base).eval())
    for name in ADAPTERS:
        keep(name, PeftModel.from_pretrained(Gemma3ForCausalLM.from_pretrained(base), out / name).eval())
    model = Gemma3ForCausalLM.from_pretrained(base).eval()
    model.load_adapter(str(out / "every"), "every")
    model.load_adapter(str(out / "some"), "some")
    model.set_adapter(["every", "some"])
    keep("both", model)
    make(base, out / "labels", 60, LABELS, False, Gemma3TextForSequenceClassification)
    model = Gemma3TextForSequenceClassification.from_pretrained(base)
    with torch.no_grad():
        expected["labels"] = PeftModel.from_pretrained(model, out / "labels").eval()(input_ids=ids).logits
    save_file(expected, out / "expected.safetensors")


main()
