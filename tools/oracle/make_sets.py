"""Writes the parity sets under test/fixtures: Gemma 3 text models whose sizes are awkward for an engine.

    python make_sets.py --golden-make GOLDEN/make --out test/fixtures
    python make_sets.py --golden-make GOLDEN/make --out test/fixtures --only h12

The sets have the format of the golden data (`--golden-make` is the `make` folder beside it, whose `goldenlib`
gives case folders, tokenizer and the check that repeats every call on moved weights). What is here is the choice
of sizes: head sizes 12 and 20 (no multiple of 8), one key/value head, odd windows, generation far past the
window, soft-capped logits. Each set stays under half a megabyte, so that it can live in git.

Needs torch 2.13 and transformers 5.18. Two runs on one machine give the same bytes.
"""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.modules["torchvision"] = None  # only text models here; a mismatched torchvision would stop the import
sys.modules["torchao"] = None

import torch
import transformers
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

TEXT_VOCAB = 432  # bytes, special tokens and the alphabet of the tiny tokenizer, and a few merged pieces

# "long" has about 40 tokens with this tokenizer.
PROMPTS = {
    "long": "The quick brown fox jumps over the lazy dog. Write a story about the sea.",
    "shorter": "What is the capital of France?",
    "pair": ["Hello world", "Is this a test?"],
}

SETS = {
    "h12": dict(
        description="head_dim 12, two query heads a key/value head, window 5",
        weight_seed=101,
        config=dict(hidden_size=24, intermediate_size=36, num_attention_heads=4, num_key_value_heads=2, head_dim=12,
                    query_pre_attn_scalar=10, sliding_window=5),
        rope_factor=8.0,
    ),
    "h20": dict(
        description="head_dim 20, one key/value head for three query heads, window 8, final_logit_softcapping",
        weight_seed=202,
        config=dict(hidden_size=24, intermediate_size=28, num_attention_heads=3, num_key_value_heads=1, head_dim=20,
                    query_pre_attn_scalar=20, sliding_window=8, final_logit_softcapping=12.0),
        rope_factor=4.0,
    ),
    "h16": dict(
        description="head_dim 16, one key/value head, window 7, rope without scaling",
        weight_seed=303,
        config=dict(hidden_size=20, intermediate_size=28, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
                    query_pre_attn_scalar=24, sliding_window=7),
        rope_factor=None,
    ),
}


def make_config(settings: dict) -> Gemma3TextConfig:
    """Seven layers, so that the sixth is global and sliding ones lie on both sides of it."""
    full = {"rope_type": "default", "rope_theta": 1_000_000.0}
    if settings["rope_factor"] is not None:
        full = {"rope_type": "linear", "factor": settings["rope_factor"], "rope_theta": 1_000_000.0}
    local = {"rope_type": "default", "rope_theta": 10_000.0}
    return Gemma3TextConfig(
        vocab_size=TEXT_VOCAB + 8, max_position_embeddings=256, num_hidden_layers=7,
        rope_parameters={"full_attention": full, "sliding_attention": local},
        attn_implementation="eager", **settings["config"])


def without_logits(function):
    """The same call, recording the ids only: logits of a long generation would be most of the set."""
    def call(model, inputs):
        return {"sequences": function(model, inputs)["sequences"]}
    return call


def make_set(out: Path, name: str, lib) -> None:
    settings = SETS[name]
    case = lib.common.Case(out / f"golden-{name}", "gemma3_text", f"Gemma3ForCausalLM: {settings['description']}. "
                           "`config.v4.json` is the same model in the older key style.")
    tokenizer = lib.tiny_tokenizer.make_tokenizer("gemma3", TEXT_VOCAB)
    encode = lib.case_gemma1.encode
    long = encode(tokenizer, PROMPTS["long"])
    mixed = encode(tokenizer, [PROMPTS["long"], PROMPTS["shorter"]])
    pair = encode(tokenizer, PROMPTS["pair"])
    print(f"  prompts of {long['input_ids'].shape[1]}, {mixed['attention_mask'][1].sum()} tokens")

    model = Gemma3ForCausalLM(make_config(settings))
    lib.case_gemma3_text.set_generation(model, tokenizer)
    lib.common.initialise_with_clear_margins(
        model, settings["weight_seed"], [(long, 64), (mixed, 20)], min_margin=0.01,
        post_norm_mean=lib.case_gemma3_text.POST_NORM_MEAN)
    folder = case.save_model(model, "model", tokenizer)
    lib.case_gemma3_text.write_older_config(folder)

    def greedy(count, **options):
        return {"max_new_tokens": count, "do_sample": False, **options}

    common = lib.common
    case.run(model, common.forward_with_hidden_states, "forward_hidden_states", "forward", pair,
             arguments={"output_hidden_states": True}, compare_where="attention_mask")
    case.run(model, common.prompt_logprobs, "prompt_logprobs", "prompt_logprobs", mixed,
             compare_where="attention_mask")
    case.run(model, without_logits(common.greedy_with(64)), "greedy_past_window", "generate", long,
             arguments=greedy(64), notes="Prompt and continuation are each several windows long.")
    case.run(model, common.greedy_with(20), "greedy_mixed_lengths", "generate", mixed, arguments=greedy(20),
             notes="One row is left-padded by more than a window.")
    case.run(model, without_logits(common.cached_steps(20)), "cached_steps", "decode_with_cache", mixed,
             arguments={"steps": 20})
    case.run(model, without_logits(common.cached_steps(64)), "cached_steps_past_window", "decode_with_cache", long,
             arguments={"steps": 64})
    case.run(model, common.beam_with(12, 3), "beam_search", "generate", pair, arguments=greedy(12, num_beams=3))
    case.save()
    check_older_config(folder, long, model, common)


def check_older_config(folder: Path, inputs: dict, model, common) -> None:
    """transformers itself must read the older spelling as the same model."""
    config = Gemma3TextConfig(**json.loads((folder / "config.v4.json").read_text()))
    again = Gemma3ForCausalLM.from_pretrained(folder, config=config).eval()
    got, want = (common.forward_logits(m, inputs)["logits"] for m in (again, model))
    assert torch.allclose(got, want, atol=1e-3), folder


def load_library(folder: Path):
    sys.path.insert(0, str(folder.resolve()))
    from goldenlib import case_gemma1, case_gemma3_text, common, tiny_tokenizer

    return argparse.Namespace(case_gemma1=case_gemma1, case_gemma3_text=case_gemma3_text, common=common,
                              tiny_tokenizer=tiny_tokenizer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden-make", type=Path, required=True, help="the golden data's make folder")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets golden-NAME for each set")
    parser.add_argument("--only", nargs="*", choices=sorted(SETS), default=sorted(SETS))
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    lib = load_library(arguments.golden_make)
    for name in arguments.only:
        print(name, flush=True)
        torch.manual_seed(0)
        make_set(arguments.out, name, lib)


if __name__ == "__main__":
    main()
