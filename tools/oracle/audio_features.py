"""Writes test/fixtures/audio/features.json: what transformers' Gemma3nAudioFeatureExtractor makes of short sounds.

    python tools/oracle/audio_features.py --out test/fixtures/audio

"sounds" are base64 int16 samples, to be divided by 32768; "calls" have the extractor's settings, the options of the
call, the sounds given, and the features and masks (base64 float32 and uint8) with their shapes.

Needs torch 2.13, transformers 5.18.
"""

import argparse
import base64
import json
from pathlib import Path

import numpy as np
from transformers import Gemma3nAudioFeatureExtractor

BANDS = 10
STATISTICS = {"per_bin_mean": [i / 7 for i in range(BANDS)], "per_bin_stddev": [1 + i / 9 for i in range(BANDS)]}
# settings, options of the call, indices of the sounds
CALLS = [({}, {}, [0]), ({}, {}, [1, 0, 2]), (STATISTICS, {}, [2]),
         ({"preemphasis_htk_flavor": False, "fft_overdrive": False}, {}, [0]),
         ({"preemphasis": 0.0, "input_scale_factor": 0.25, "mel_floor": 0.01}, {}, [1]),
         ({"padding_side": "left", "padding_value": 0.125}, {"pad_to_multiple_of": 50}, [0, 2]),
         ({"sampling_rate": 22050, "frame_length_ms": 20.0, "hop_length_ms": 7.5, "min_frequency": 0.0,
           "max_frequency": 9000.0}, {}, [1]),
         ({}, {"max_length": 1000, "truncation": True, "pad_to_multiple_of": None}, [1, 2]),
         ({}, {"padding": "max_length", "max_length": 4000}, [0, 1]),
         ({}, {"padding": False}, [0]), ({}, {"truncation": False, "max_length": 700}, [2])]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    rng = np.random.default_rng(1)
    sounds = []
    for frames in (1700, 3333, 900):
        t = np.arange(frames) / 16000
        tones = sum(np.sin(2 * np.pi * rng.uniform(100, 7000) * t) * rng.uniform(0.02, 0.2) for _ in range(4))
        sounds.append(((tones + 0.03 * rng.standard_normal(frames)) * 32767).clip(-32768, 32767).astype(np.int16))
    calls = []
    for settings, options, chosen in CALLS:
        extractor = Gemma3nAudioFeatureExtractor(feature_size=BANDS, **settings)
        clips = [sounds[i].astype(np.float32) / 32768 for i in chosen]
        result = extractor(clips, **options, return_tensors="np")
        features, mask = result.input_features, result.input_features_mask
        calls.append({"settings": {"feature_size": BANDS, **settings}, "options": options, "sounds": chosen,
                      "dims": list(features.shape),
                      "input_features": base64.b64encode(features.astype(np.float32).tobytes()).decode(),
                      "input_features_mask": base64.b64encode(mask.astype(np.uint8).tobytes()).decode()})
    data = {"sounds": [base64.b64encode(sound.tobytes()).decode() for sound in sounds], "calls": calls}
    (out / "features.json").write_text(json.dumps(data, indent=1) + "\n")


main()
