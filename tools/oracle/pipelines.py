"""Writes test/fixtures/pipelines.json: what transformers' pipelines give for small checkpoints.

    python tools/oracle/pipelines.py --golden GOLDEN --out test/fixtures/pipelines.json

`--golden` is the folder of the golden data, whose classification checkpoints are used beside the text models of
test/fixtures. The "aggregation" part has the logits with it, so that it needs no checkpoint to be checked: a tiny
random token classifier with the labels O, B-X, I-X, B-Y and I-Y. Numbers are rounded to 7 digits.

Needs torch 2.13 and transformers 5.18.
"""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.modules["torchvision"] = None  # only text here; a mismatched torchvision would stop the import
sys.modules["torchao"] = None
warnings.filterwarnings("ignore")

import torch
from transformers import AutoTokenizer, GemmaConfig, GemmaForTokenClassification, pipeline

FIXTURES = Path(__file__).resolve().parents[2] / "test" / "fixtures"
TEXTS = ["Hello world, this is a test.", "My name is  Zoë 🙂 ok\n\nend", " Sarah <b>lives</b> here"]
PAIRS = [{"text": "Hello world", "text_pair": "Is this a test?"}, {"text": "What is it?"}]
STRATEGIES = ["none", "simple", "first", "average", "max"]
LABELS = ["O", "B-X", "I-X", "B-Y", "I-Y"]
CHAT = [{"role": "user", "content": "Hello world"}]
PREFILL = CHAT + [{"role": "assistant", "content": "This is"}]


def plain(value):
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return float(f"{value:.7g}") if isinstance(value, float) else value


def aggregation():
    tokenizer = AutoTokenizer.from_pretrained(FIXTURES / "tokenizer")
    torch.manual_seed(3)
    config = GemmaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, initializer_range=0.3, id2label=dict(enumerate(LABELS)),
        label2id={label: i for i, label in enumerate(LABELS)},
    )
    model = GemmaForTokenClassification(config).eval()
    logits = []
    model.register_forward_hook(lambda module, inputs, output: logits.append(output.logits[0]))
    pipe = pipeline("token-classification", model=model, tokenizer=tokenizer, device="cpu")
    cases = []
    for text in TEXTS:
        results = {name: plain(pipe(text, aggregation_strategy=name)) for name in STRATEGIES}
        results["ignore"] = plain(pipe(text, ignore_labels=["I-X", "B-X"]))
        cases.append({"text": text, "logits": plain(logits[-1].tolist()), "results": results})
    return {"labels": LABELS, "cases": cases}


def classification(golden):
    found = {}
    for folder in ["gemma1_classification/sequence", "gemma3_text_classification/model"]:
        pipe = pipeline("text-classification", model=str(golden / folder), device="cpu")
        inputs = TEXTS + PAIRS
        found[folder] = {
            "inputs": inputs,
            "best": [plain(pipe([one]))[0] for one in inputs],
            "all": [plain(pipe([one], top_k=None))[0] for one in inputs],
            "sigmoid": [plain(pipe([one], top_k=2, function_to_apply="sigmoid"))[0] for one in inputs],
        }
    folder = "gemma1_classification/token"
    pipe = pipeline("token-classification", model=str(golden / folder), device="cpu")
    found[folder] = {
        "inputs": TEXTS,
        "none": [plain(pipe(text)) for text in TEXTS],
        "average": [plain(pipe(text, aggregation_strategy="average")) for text in TEXTS],
    }
    return found


def generation():
    pipe = pipeline("text-generation", model=str(FIXTURES / "golden-h16/gemma3_text/model"), device="cpu")
    greedy = {"do_sample": False, "clean_up_tokenization_spaces": False}
    prompts = ["Hello world", "What is the capital of France?"]
    return {
        "text": pipe(prompts[0], max_new_tokens=12, **greedy),
        "texts": pipe(prompts, max_new_tokens=12, **greedy),
        "new_text": pipe(prompts[0], max_new_tokens=12, return_full_text=False, **greedy),
        "ids": pipe(prompts[0], max_new_tokens=12, return_tensors=True, do_sample=False),
        "beams": pipe(prompts[0], max_new_tokens=8, num_beams=3, num_return_sequences=2, **greedy),
        "without_special": pipe(prompts[0], max_new_tokens=12, add_special_tokens=False, **greedy),
        "chat": pipe(CHAT, max_new_tokens=12, **greedy),
        "prefill": pipe(PREFILL, max_new_tokens=12, **greedy),
        "new_turn": pipe(PREFILL, max_new_tokens=12, continue_final_message=False, **greedy),
        "default_length": len(pipe(prompts[0], return_tensors=True, do_sample=False)[0]["generated_token_ids"]),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--golden", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    found = {
        "generation": generation(),
        "aggregation": aggregation(),
        "classification": classification(arguments.golden),
    }
    arguments.out.write_text(json.dumps(found, ensure_ascii=False, separators=(",", ":")) + "\n")


main()
