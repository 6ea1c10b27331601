"""Runs the encoders of images and sounds of a checkpoint with transformers in float32 for bench/media.ts.

One JSON object a line: {"part": "vision" | "audio", "file": raw float32, "dims": [...]}, answered by {"seconds", "file"},
the name of a file with the vectors that the text model gets.
"""

import ctypes
import importlib.util
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

# A torchvision whose compiled part does not fit the torch beside it stops timm's import: two operators that nothing
# here calls are not registered.
found = importlib.util.find_spec("torchvision")
if found is not None and found.origin is not None:
    try:
        ctypes.CDLL(str(Path(found.origin).parent / "_C.so"))
    except OSError:
        absent = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            absent.define(f"{operator}(Tensor boxes, Tensor scores, float threshold) -> Tensor")

import transformers  # noqa: E402
from transformers import AutoConfig  # noqa: E402

folder, threads = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(threads)
config = AutoConfig.from_pretrained(folder)


def load(module, prefixes):
    """Fills a module with the tensors below one of the prefixes, as float32."""
    state = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for key in tensors.keys():
                for prefix in prefixes:
                    if key.startswith(prefix):
                        state[key[len(prefix) :]] = tensors.get_tensor(key).float()
    missing, _ = module.load_state_dict(state, strict=False)
    missing = [key for key in missing if "position_ids" not in key and "inv_timescales" not in key]
    if missing:
        raise SystemExit(f"{folder}: no tensors for {missing[:5]}")
    return module.float().eval()


def make(part):
    if config.model_type == "gemma3":
        from transformers import SiglipVisionModel
        from transformers.models.gemma3.modeling_gemma3 import Gemma3MultiModalProjector

        tower = SiglipVisionModel(config.vision_config)
        tower = load(tower, ["vision_tower.vision_model.", "vision_tower."])
        projector = load(Gemma3MultiModalProjector(config), ["multi_modal_projector."])
        return lambda x: projector(tower(x).last_hidden_state)
    from transformers.models.gemma3n.modeling_gemma3n import Gemma3nAudioEncoder, Gemma3nMultimodalEmbedder

    if part == "audio":
        tower = load(Gemma3nAudioEncoder(config.audio_config), ["model.audio_tower."])
        embedder = Gemma3nMultimodalEmbedder(config.audio_config, config.text_config)
        embedder = load(embedder, ["model.embed_audio."])

        def hear(x):
            padding = torch.zeros(x.shape[:2], dtype=torch.bool)
            return embedder(inputs_embeds=tower(x, padding).last_hidden_state)

        return hear
    from transformers import AutoModel

    tower = load(AutoModel.from_config(config.vision_config), ["model.vision_tower."])
    embedder = load(
        Gemma3nMultimodalEmbedder(config.vision_config, config.text_config), ["model.embed_vision."]
    )

    def see(x):
        maps = tower(pixel_values=x, do_pooling=False).last_hidden_state
        rows = maps.flatten(2).transpose(1, 2) * config.vision_config.hidden_size**0.5
        return embedder(inputs_embeds=rows)

    return see


parts = {}
print(json.dumps({"ready": f"transformers {transformers.__version__}, torch {torch.__version__}"}), flush=True)
for line in sys.stdin:
    task = json.loads(line)
    part = task["part"]
    if part not in parts:
        parts[part] = make(part)
    x = torch.from_numpy(np.fromfile(task["file"], dtype=np.float32).reshape(task["dims"]))
    with torch.inference_mode():
        start = time.perf_counter()
        vectors = parts[part](x)
        seconds = time.perf_counter() - start
    out = task["file"] + ".vectors"
    vectors.numpy().astype(np.float32).tofile(out)
    print(json.dumps({"seconds": seconds, "file": out}), flush=True)
