"""HF transformers on the processor, for the bench: reads a GGUF file, then takes commands as bench/engines/protocol.ts says."""

import json
import sys
import time
from pathlib import Path


def say(**message):
    print(json.dumps(message), flush=True)


def main(setup):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(setup["threads"])
    file = Path(setup["model"])
    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)

    def step(ids, past=None):
        with torch.no_grad():
            out = model(input_ids=ids, past_key_values=past, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1].argmax(-1, keepdim=True), out.past_key_values

    if "firstToken" in setup:
        tokenizer = AutoTokenizer.from_pretrained(**place)
        token, _ = step(tokenizer(setup["firstToken"], return_tensors="pt").input_ids)
        say(firstToken=tokenizer.decode(token[0]))
        return
    say(ready=True)
    for line in sys.stdin:
        command = json.loads(line)
        if command["kind"] == "perplexity":
            raise ValueError("perplexity is not measured for this engine")
        start = time.perf_counter()
        token, past = step(torch.tensor(command["prompts"]))
        if command["kind"] == "decode":
            start = time.perf_counter()
            for _ in range(command["steps"]):
                token, past = step(token, past)
        say(seconds=time.perf_counter() - start)


try:
    main(json.loads(sys.argv[1]))
except Exception as error:  # the bench shows it and goes on without this engine
    say(error=f"{type(error).__name__}: {error}")
