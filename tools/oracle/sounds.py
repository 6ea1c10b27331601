"""Writes test/fixtures/audio: small sound files, and what libsndfile decodes them to.

    python tools/oracle/sounds.py --out test/fixtures/audio

sounds.json has "files" (per file: sampling rate, number of channels and base64 float32 samples, frame by frame) and
"resampled" (a signal, and the same at other rates by the sum over the windowed sinc, written out with numpy).

Needs numpy, scipy and soundfile 0.14 (libsndfile 1.2.2, which has encoders for all of these formats).
"""

import argparse
import base64
import json
from pathlib import Path

import numpy as np
import soundfile
from scipy.special import i0

# name, format, subtype, sampling rate, channels, frames
FILES = [("u8.wav", "WAV", "PCM_U8", 8000, 1, 301), ("s16.wav", "WAV", "PCM_16", 16000, 2, 300),
         ("s24.wav", "WAV", "PCM_24", 44100, 2, 200), ("s32.wav", "WAV", "PCM_32", 48000, 1, 200),
         ("f32.wav", "WAV", "FLOAT", 22050, 3, 100), ("f64.wav", "WAV", "DOUBLE", 96000, 1, 100),
         ("alaw.wav", "WAV", "ALAW", 8000, 1, 300), ("mulaw.wav", "WAV", "ULAW", 8000, 1, 300),
         ("extensible.wav", "WAVEX", "PCM_24", 32000, 2, 100),
         ("s8.flac", "FLAC", "PCM_S8", 11025, 1, 700), ("s16.flac", "FLAC", "PCM_16", 44100, 2, 5000),
         ("s24.flac", "FLAC", "PCM_24", 48000, 1, 2000),
         ("mono.mp3", "MP3", "MPEG_LAYER_III", 16000, 1, 4000), ("stereo.mp3", "MP3", "MPEG_LAYER_III", 44100, 2, 5000),
         ("mono-opus.ogg", "OGG", "OPUS", 16000, 1, 3000), ("stereo-opus.ogg", "OGG", "OPUS", 48000, 2, 5000),
         ("mono-vorbis.ogg", "OGG", "VORBIS", 16000, 1, 3000), ("stereo-vorbis.ogg", "OGG", "VORBIS", 44100, 2, 5000)]
RATES = [(44100, 16000), (8000, 16000), (48000, 16000), (22050, 16000), (12345, 16000), (16000, 24000)]


def encoded(array):
    return base64.b64encode(np.ascontiguousarray(array, np.float32).tobytes()).decode()


def sound(rate, channels, frames, rng):
    """Two tones, a noise and another phase in each channel."""
    t = np.arange(frames)[:, None] / rate
    phase = np.arange(channels)
    tones = 0.4 * np.sin(2 * np.pi * 440 * t + phase) + 0.2 * np.sin(2 * np.pi * 1234 * t - phase)
    return tones + 0.05 * rng.standard_normal((frames, channels))


def resample(x, old, new, crossings=64, rolloff=0.9475937167399596, beta=14.769656459379492):
    """y_n = scale sum_m x_m h(scale (n old / new - m)), h a sinc under a Kaiser window."""
    scale = min(1, new / old) * rolloff
    t = (np.arange(-(-len(x) * new // old))[:, None] * old / new - np.arange(len(x))) * scale
    window = i0(beta * np.sqrt(np.maximum(1 - (t / crossings) ** 2, 0))) / i0(beta) * (abs(t) < crossings)
    return (np.sinc(t) * window) @ x * scale


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    rng = np.random.default_rng(0)
    files = {}
    for name, kind, subtype, rate, channels, frames in FILES:
        soundfile.write(out / name, sound(rate, channels, frames, rng), rate, format=kind, subtype=subtype)
        samples, read_rate = soundfile.read(out / name, dtype="float32", always_2d=True)
        files[name] = {"sampling_rate": read_rate, "channels": channels, "samples": encoded(samples)}
    x = sound(16000, 1, 400, rng)[:, 0].astype(np.float32)
    resampled = [{"from": old, "to": new, "samples": encoded(resample(x.astype(np.float64), old, new))}
                 for old, new in RATES]
    sounds = {"files": files, "resampled": {"signal": encoded(x), "rates": resampled}}
    (out / "sounds.json").write_text(json.dumps(sounds, indent=1) + "\n")


main()
