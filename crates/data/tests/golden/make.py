"""Makes the golden files of the resize and picture tests, with Pillow and torchvision.

Run in this folder: python make.py
Last run with Pillow 13.0.0 and torchvision 0.29.2.

resize.bin: cases one after another, each: height, width, target height, target width (u16, little-endian),
then the source bytes, then the bytes that torchvision's Resize gives for a PIL image.
picture.png, picture.jpg, progressive.jpg: an RGB picture. picture.bin: the PNG as ToTensor(Resize((20, 31))) sees it, as bytes:
first in mode L (1 plane), then in mode RGB (3 planes).
"""

import struct

import numpy as np
from PIL import Image
from torchvision.transforms import Resize

# (height, width) of the source and of the target; then how the source looks.
CASES = [
    ((28, 28), (96, 96), "noise"),
    ((28, 28), (32, 64), "smooth"),
    ((28, 28), (28, 28), "noise"),
    ((28, 28), (28, 41), "noise"),
    ((28, 28), (9, 28), "noise"),
    ((28, 28), (14, 14), "extreme"),
    ((37, 53), (24, 20), "noise"),
    ((64, 48), (30, 70), "extreme"),
    ((5, 3), (17, 11), "extreme"),
    ((1, 1), (4, 5), "noise"),
    ((1, 40), (7, 3), "noise"),
    ((90, 60), (1, 1), "noise"),
]


def source(rng, kind, height, width):
    if kind == "noise":
        return rng.integers(0, 256, (height, width), dtype=np.uint8)
    if kind == "extreme":
        return (rng.integers(0, 2, (height, width)) * 255).astype(np.uint8)
    y, x = np.mgrid[0:height, 0:width]
    return (127.5 + 127.5 * np.sin(x / 5) * np.cos(y / 7)).astype(np.uint8)


def main():
    rng = np.random.default_rng(20)
    with open("resize.bin", "wb") as out:
        for (height, width), target, kind in CASES:
            pixels = source(rng, kind, height, width)
            resized = np.asarray(Resize(target)(Image.fromarray(pixels)))
            assert resized.shape == target
            out.write(struct.pack("<4H", height, width, *target) + pixels.tobytes() + resized.tobytes())

    y, x = np.mgrid[0:24, 0:30]
    picture = np.stack([x * 8, y * 10, 255 - x * 4 - y * 5], axis=-1).astype(np.uint8)
    picture = Image.fromarray(picture)
    picture.save("picture.png", optimize=True)
    picture.save("picture.jpg", quality=95, subsampling=0)
    picture.save("progressive.jpg", quality=95, subsampling=0, progressive=True)
    with open("picture.bin", "wb") as out:
        resize = Resize((20, 31))
        out.write(np.asarray(resize(picture.convert("L"))).tobytes())
        out.write(np.asarray(resize(picture)).transpose(2, 0, 1).tobytes())


if __name__ == "__main__":
    main()
