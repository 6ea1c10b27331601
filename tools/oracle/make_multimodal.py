"""Writes test/fixtures/multimodal: a tiny Gemma 3 with images, and what HF makes of texts, chats and images with it.

    python make_multimodal.py --golden-make GOLDEN/make --out test/fixtures/multimodal

`gemma3_mm` has the format of the golden data (`--golden-make` is the `make` folder beside it, whose `goldenlib` gives
case folders, tokenizer and images). `pipeline.json` holds calls of HF's image-text-to-text pipeline with the same
model, and their outputs; `visualizer.json` what its AttentionMaskVisualizer prints for texts with an image.

Needs torch 2.13, torchvision 0.28 and transformers 5.18. Two runs on one machine give the same bytes.
"""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path

from PIL import Image

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.modules["torchao"] = None

NEW_TOKENS = 8
VARIANT = {
    "text_vocab": 432,
    "weight_seed": 707,
    "images": {
        "shapes": ("shapes", 40, 30, "RGB"), "wide": ("shapes", 120, 40, "RGB"), "alpha": ("shapes", 25, 41, "RGBA"),
    },
    "gemma3_mm": dict(
        text=dict(hidden_size=24, intermediate_size=36, num_hidden_layers=7, num_attention_heads=4,
                  num_key_value_heads=2, head_dim=12, query_pre_attn_scalar=12, sliding_window=7,
                  rope_factor=8.0, rope_theta=1_000_000.0, rope_local=10_000.0),
        vision=dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
                    image_size=48, patch_size=12),
        mm_tokens_per_image=4,
    ),
}
PAN_AND_SCAN = dict(do_pan_and_scan=True, pan_and_scan_min_crop_size=30, pan_and_scan_max_num_crops=3,
                    pan_and_scan_min_ratio_to_activate=1.5)
ONE = "Describe this image <start_of_image> in one sentence."
TWO = "<start_of_image> Compare the two images <start_of_image>"


def make_case(out: Path, lib):
    from transformers import Gemma3ForConditionalGeneration, Gemma3ImageProcessorPil

    mm = lib.case_gemma3_mm
    case = lib.common.Case(out, "gemma3_mm", "A tiny Gemma3ForConditionalGeneration, head_dim 12, and its processor.")
    tokenizer = lib.tiny_tokenizer.make_tokenizer("gemma3", VARIANT["text_vocab"])
    images = lib.assets.write_images(case.dir / "images", VARIANT["images"], 0)
    processor = mm.make_processor(VARIANT, tokenizer)
    pil = mm.make_processor(VARIANT, tokenizer, Gemma3ImageProcessorPil)

    calls = {
        "batch": ([ONE, TWO], [["alpha"], ["shapes", "wide"]], {"padding": True}),
        "some_without_images": (["Is this a test?", ONE], [[], ["shapes"]], {"padding": True, "padding_side": "right"}),
        "images_alone": (None, [["shapes", "alpha"]], {}),
        "pan_and_scan": (ONE, [["wide"]], PAN_AND_SCAN),
    }
    batches = {}
    for name, (text, names, options) in calls.items():
        loaded = [[images[n] for n in row] for row in names]
        arguments = {"text": text, "images": [[f"images/{n}.png" for n in row] for row in names], **options}
        for label, which in (("", processor), ("_pil", pil)):
            if which is pil and name != "pan_and_scan":
                continue
            batch = which(text=text, images=loaded, return_tensors="pt", **options)
            case.add(f"processor_{name}{label}", "Gemma3Processor", "processor", tolerance=mm.PIXEL_TOLERANCE,
                     arguments={**arguments, "image_processor_class": type(which.image_processor).__name__},
                     expected=dict(batch))
            batches[name + label] = batch

    model = Gemma3ForConditionalGeneration(mm.make_config(VARIANT, tokenizer))
    mm.set_generation(model, tokenizer)
    inputs = mm.model_inputs(batches["batch"])
    lib.common.initialise_with_clear_margins(model, VARIANT["weight_seed"], [(inputs, NEW_TOKENS)],
                                             post_norm_mean=mm.POST_NORM_MEAN)
    case.save_model(model, "model", tokenizer, processor)
    case.run(model, lib.common.greedy_with(NEW_TOKENS), "greedy_batch", "generate", inputs,
             arguments={"max_new_tokens": NEW_TOKENS, "do_sample": False})
    mm.chat(case, processor, images)
    case.save()
    return case.dir


def chat(name: str, *texts: str) -> list:
    user = {"role": "user", "content": [{"type": "image", "path": f"images/{name}.png"},
                                        {"type": "text", "text": texts[0]}]}
    rest = [{"role": "assistant", "content": [{"type": "text", "text": text}]} for text in texts[1:]]
    return [user, *rest]


def pipeline_calls() -> list:
    """Arguments as they are written in JSON: positional ones, then those by name."""
    short = {"max_new_tokens": NEW_TOKENS, "generate_kwargs": {"do_sample": False}}
    shapes, alpha = "images/shapes.png", "images/alpha.png"
    open_chat = chat("shapes", "Describe this image.", "The picture")
    return [
        {"args": [shapes], "kwargs": {"text": ONE, **short}},
        {"args": [[shapes, alpha]], "kwargs": {"text": TWO, **short}},
        {"args": [], "kwargs": {"images": [[shapes], [alpha]], "text": [ONE, ONE + " Is it larger?"], **short}},
        {"args": [], "kwargs": {"text": "Is this a test?", **short}},
        {"args": [{"images": shapes, "text": ONE}], "kwargs": short},
        {"args": [shapes], "kwargs": {"text": ONE, "return_full_text": False, **short}},
        {"args": [shapes], "kwargs": {"text": ONE, "return_tensors": True, **short}},
        {"args": [shapes], "kwargs": {"text": ONE, "skip_special_tokens": False, **short}},
        {"args": [], "kwargs": {"text": chat("shapes", "Describe this image."), **short}},
        {"args": [chat("alpha", "Describe this image.")], "kwargs": {"return_full_text": False, **short}},
        {"args": [], "kwargs": {"text": [chat("shapes", "Describe."), chat("alpha", "What?")], **short}},
        {"args": [], "kwargs": {"text": open_chat, **short}},
        {"args": [], "kwargs": {"text": open_chat, "return_full_text": False, **short}},
        {"args": [shapes], "kwargs": {"text": ONE, "generate_kwargs": {"max_new_tokens": 5, "do_sample": False}}},
    ]


def write_pipeline(folder: Path, target: Path) -> None:
    import torch
    from transformers import AutoProcessor, Gemma3ForConditionalGeneration, pipeline

    os.chdir(folder)
    model = Gemma3ForConditionalGeneration.from_pretrained("model", dtype=torch.float32).eval()
    pipe = pipeline("image-text-to-text", model=model, processor=AutoProcessor.from_pretrained("model"))
    records = []
    for call in pipeline_calls():
        given = with_images(call)
        records.append({**call, "output": plain(pipe(*given["args"], **given["kwargs"]))})
    target.write_text(json.dumps(records, indent=1) + "\n")


# An image at the end, at the beginning, and by its own token.
SEEN = ["<img>", "What is in this picture? <img>", "a <start_of_image>, b"]


def write_visualizer(masks, folder: Path, target: Path) -> None:
    os.chdir(folder)  # the printed title holds the folder's name
    picture = (folder / "images/shapes.png").read_bytes()
    records = []
    for text in SEEN:
        seen = masks.visualise("model", text, picture)
        rows = ["".join(map(str, row)) for row in seen["matrix"].tolist()]
        records.append({"text": text, "tokens": seen["tokens"], "printed": seen["printed"], "matrix": rows})
    target.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n")


def with_images(value):
    """A copy with paths in messages replaced by images: HF would read those with torchvision's own decoders."""
    if isinstance(value, dict) and value.get("type") == "image":
        with Image.open(value["path"]) as image:
            return {"type": "image", "image": image.convert("RGB"), "path_of": value["path"]}
    if isinstance(value, dict):
        return {key: with_images(item) for key, item in value.items()}
    return [with_images(item) for item in value] if isinstance(value, list) else value


def plain(value):
    if isinstance(value, dict) and value.get("type") == "image":
        return {"type": "image", "path": value["path_of"]}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "messages"):
        return plain(value.messages)
    return value.tolist() if hasattr(value, "tolist") else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden-make", type=Path, required=True, help="the golden data's make folder")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.golden_make.resolve()))
    from goldenlib.torchvision_import import declare_missing_operators

    declare_missing_operators()
    import torch
    import transformers
    from goldenlib import assets, case_gemma3_mm, case_masks, common, tiny_tokenizer

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    lib = argparse.Namespace(assets=assets, case_gemma3_mm=case_gemma3_mm, common=common,
                             tiny_tokenizer=tiny_tokenizer)
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    folder = make_case(out, lib)
    write_pipeline(folder, out / "pipeline.json")
    write_visualizer(case_masks, folder, out / "visualizer.json")


if __name__ == "__main__":
    main()
