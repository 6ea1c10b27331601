"""Records what HF's text models give for inputs besides plain ids: attention weights, masks with holes, positions that
jump, packed texts, vectors, labels, cached steps.

    python tools/oracle/make_outputs.py CHECKPOINT OUT.json   (CHECKPOINT: a tiny GemmaForCausalLM or Gemma3ForCausalLM)
"""

import json
import sys

import torchvision_stub  # noqa: E402, F401

import torch  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

checkpoint, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(checkpoint, attn_implementation="eager", dtype=torch.float32).eval()
torch.manual_seed(5)
# Gemma 3n as a text model takes only ids that have per-layer embeddings.
vocab = getattr(model.config, "vocab_size_per_layer_input", model.config.vocab_size)
length = 11
ids = torch.randint(4, vocab, (2, length))
cases = {}


def rounded(tensor):
    return [round(float(x), 6) for x in tensor.flatten()]


def record(name, **inputs):
    with torch.no_grad():
        result = model(**inputs)
    entry = {"inputs": {}, "logits": rounded(result.logits[:, -1])}
    for key, value in inputs.items():
        if isinstance(value, torch.Tensor) and not value.is_floating_point():
            entry["inputs"][key] = value.tolist()
        elif isinstance(value, bool):
            entry["inputs"][key] = value
    if result.loss is not None:
        entry["loss"] = float(result.loss)
    if result.get("attentions") is not None:
        entry["attentions"] = [{"shape": list(a.shape), "data": rounded(a)} for a in result.attentions]
    cases[name] = entry
    return result


ones = torch.ones_like(ids)
holes = ones.clone()
holes[0, 4] = 0
holes[1, 2:5] = 0
left = ones.clone()
left[0, :3] = 0
record("attentions", input_ids=ids[:, :7], output_attentions=True, use_cache=False)
record("attentions_left_padded", input_ids=ids[:, :7], attention_mask=left[:, :7], output_attentions=True, use_cache=False)
record("holes", input_ids=ids, attention_mask=holes, use_cache=False)
jumps = torch.arange(length).repeat(2, 1) * 2
record("positions", input_ids=ids, attention_mask=ones, position_ids=jumps, use_cache=False)
packed = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6]])
record("packed", input_ids=ids[:1], position_ids=packed, use_cache=False)
record("packed_with_cache", input_ids=ids[:1], position_ids=packed, use_cache=True)
record("vectors", inputs_embeds=model.get_input_embeddings()(ids), use_cache=False)
cases["vectors"]["inputs"]["input_ids"] = ids.tolist()
labels = ids.clone()
labels[0, :4] = -100
record("labels", input_ids=ids, labels=labels, use_cache=False)

# A cache whose rows have hidden tokens, then one token and several.
first = record("holes_cached", input_ids=ids, attention_mask=holes, use_cache=True)
more = torch.randint(4, vocab, (2, 4))
step = record(
    "holes_step", input_ids=more[:, :1], attention_mask=torch.cat([holes, ones[:, :1]], 1), past_key_values=first.past_key_values
)
record("holes_steps", input_ids=more[:, 1:], attention_mask=torch.cat([holes, ones[:, :4]], 1), past_key_values=step.past_key_values)

# Attention weights over a cache.
first = model(input_ids=ids[:, :7], attention_mask=left[:, :7], use_cache=True)
record(
    "attentions_cached",
    input_ids=more[:, :2],
    attention_mask=torch.cat([left[:, :7], ones[:, :2]], 1),
    past_key_values=first.past_key_values,
    output_attentions=True,
)
with open(out, "w") as file:
    json.dump({"prefix": ids.tolist(), "cases": cases}, file)
