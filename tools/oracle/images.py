"""Writes test/fixtures/images: small image files, and what Pillow and torch make of them.

    python tools/oracle/images.py --out test/fixtures/images

images.json has "files" (the RGB pixels of each file as transformers' load_image gives them) and "resizes" (an image,
and its bilinear and bicubic resize by Pillow and by torch's antialiased uint8 kernel, which torchvision calls). Pixels are base64
of [height, width, 3].

Needs numpy, Pillow 13 and torch 2.13 (a CPU with AVX2).
"""

import argparse
import base64
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

WIDTH, HEIGHT = 19, 13
# height, width, new height, new width: both ways on each axis, one axis only, Pillow's rows-first case, extremes
SIZES = [(37, 23, 16, 16), (13, 17, 28, 28), (7, 40, 20, 11), (60, 5, 13, 20), (41, 20, 19, 31), (24, 24, 24, 24),
         (16, 10, 16, 18), (16, 10, 12, 10), (1, 2, 8, 8), (9, 2, 3, 1), (90, 70, 9, 9)]


def pixels(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def png16(array):
    """A 16-bit RGB PNG, which Pillow reads but does not write."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write_files(out):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    rgb = np.stack([x * 13, y * 19, (x + y) * 8], -1).astype(np.uint8)
    alpha = rng.integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
    image, transparent = Image.fromarray(rgb), Image.fromarray(np.concatenate([rgb, alpha], -1))
    image.save(out / "rgb.png")
    image.save(out / "rgb.jpg", quality=85)
    image.save(out / "lossless.webp", lossless=True)
    image.save(out / "rgb.avif", quality=100, subsampling="4:4:4")
    image.save(out / "frames.gif", save_all=True, append_images=[image.transpose(Image.Transpose.ROTATE_180)])
    image.convert("L").save(out / "grey.png")
    image.convert("1").save(out / "bits.png")
    image.convert("P").save(out / "palette.png", transparency=3)
    image.convert("CMYK").save(out / "cmyk.jpg")
    transparent.save(out / "alpha.png")
    transparent.convert("LA").save(out / "grey-alpha.png")
    transparent.save(out / "alpha.webp", lossless=True, exact=True)
    (out / "rgb16.png").write_bytes(png16(np.stack([x * 3400, y * 5000, (x + y) * 2000], -1)))
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        image.save(out / f"turned{orientation}.jpg", exif=exif.tobytes(), quality=85)


def loaded(path):
    """transformers.image_utils.load_image"""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    return {"width": image.width, "height": image.height, "pixels": pixels(np.array(image))}


def resized(rng, height, width, new_height, new_width):
    levels = rng.integers(0, 256, (height, width, 3), np.uint8)
    if height % 2:
        levels = np.where(levels > 127, 255, 0).astype(np.uint8)
    planes = torch.from_numpy(np.ascontiguousarray(levels.transpose(2, 0, 1)))[None]
    sizes = {}
    for name, mode, filter in [("", "bilinear", Image.Resampling.BILINEAR), ("_bicubic", "bicubic", Image.Resampling.BICUBIC)]:
        by_torch = F.interpolate(planes, size=(new_height, new_width), mode=mode, antialias=True)[0]
        by_pillow = Image.fromarray(levels).resize((new_width, new_height), filter)
        sizes[f"torchvision{name}"] = pixels(by_torch.permute(1, 2, 0).numpy())
        sizes[f"pil{name}"] = pixels(np.array(by_pillow))
    return {
        "height": height,
        "width": width,
        "new_height": new_height,
        "new_width": new_width,
        "pixels": pixels(levels),
        **sizes,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    write_files(out)
    rng = np.random.default_rng(1)
    files = {path.name: loaded(path) for path in sorted(out.iterdir()) if path.suffix != ".json"}
    resizes = [resized(rng, *sizes) for sizes in SIZES]
    (out / "images.json").write_text(json.dumps({"files": files, "resizes": resizes}, indent=1) + "\n")


main()
