"""Writes tiny Gemma checkpoints as Flax saves them, and what the model makes of them, into test/fixtures/flax-*.

    pip install "transformers==4.45.2" "flax==0.8.5" "jax==0.4.30" "jaxlib==0.4.30" "numpy==1.26.4"
    python tools/oracle/make_flax.py

transformers 4 is the last that has the Flax classes.
"""

import json
import shutil
from pathlib import Path

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from transformers import FlaxGemmaForCausalLM, FlaxGemmaModel, GemmaConfig

OUT = Path(__file__).resolve().parents[2] / "test" / "fixtures"
INPUT_IDS = [[2, 17, 40, 5, 33, 61, 12], [2, 9, 9, 58, 31, 20, 44]]
NEW_TOKENS = 8

# No two sizes are equal, so that a kernel that is not transposed can't fit.
CONFIG = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=56,
    num_hidden_layers=2,
    num_attention_heads=3,
    num_key_value_heads=1,
    head_dim=16,
    max_position_embeddings=64,
)


def make(cls):
    """A model with weights that matter; Flax's own norms are all ones."""
    random = np.random.default_rng(11)
    model = cls(GemmaConfig(**CONFIG), seed=0, input_shape=(1, 1))

    def draw(path, leaf):
        scale = {"weight": 0.3, "embedding": 0.1, "kernel": 2 * leaf.shape[0] ** -0.5}[path[-1].key]
        return jnp.asarray(random.normal(0, scale, leaf.shape), dtype=jnp.float32)

    model.params = jax.tree_util.tree_map_with_path(draw, model.params)
    return model


def save(model, name, expected, **options):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, **options)
    (folder / "generation_config.json").unlink(missing_ok=True)
    result = {"input_ids": INPUT_IDS, **expected(model), "rows": rows(model)}
    (folder / "expected.json").write_text(json.dumps(result) + "\n")
    print(name, sorted((path.name, path.stat().st_size) for path in folder.iterdir()))


def numbers(array):
    return [float(f"{value:.7g}") for value in np.asarray(array, dtype=np.float32).ravel()]


def rows(model):
    """Row 5 of every matrix as PyTorch has it, [out_features, in_features]."""
    found = {}
    for path, array in flatten_dict(model.params).items():
        weight = array.T if path[-1] == "kernel" else array
        if weight.ndim == 2:
            found[".".join([*path[:-1], "weight"])] = numbers(weight[5])
    return found


def causal(model):
    """Logits of every position, and what follows greedily; computed in float32 from the stored weights."""
    params = model.to_fp32(model.params)
    logits = model(jnp.asarray(INPUT_IDS), params=params).logits
    sequences = model.generate(
        jnp.asarray(INPUT_IDS),
        params=params,
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        pad_token_id=0,
        eos_token_id=1,
    ).sequences
    return {"logits": numbers(logits), "sequences": np.asarray(sequences).tolist()}


def hidden(model):
    states = model(jnp.asarray(INPUT_IDS), params=model.to_fp32(model.params)).last_hidden_state
    return {"last_hidden_state": numbers(states)}


model = make(FlaxGemmaForCausalLM)
save(model, "flax-gemma", causal)
model.params = model.to_bf16(model.params)
save(model, "flax-gemma-sharded", causal, max_shard_size="16KB")
base = make(FlaxGemmaModel)
base.params = base.to_bf16(base.params)
# Flax cuts arrays over 2^30 bytes into chunks; here every matrix is that large.
flax.serialization.MAX_CHUNK_SIZE = 1000
save(base, "flax-gemma-base", hidden)
