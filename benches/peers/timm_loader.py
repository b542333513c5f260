#!/usr/bin/env python3
"""How many pictures a second timm's own loader decodes and augments for training, without a model.

FOLDER holds a folder of pictures for each class. The pictures go through what timm's train.py builds from the same
options: a random crop of 8 to 100 % of the area, a flip in half of the cases, `--aa`, conversion to float tensors and
normalization, all of it in the workers, and batches come out in this process. That is `--no-prefetcher` of train.py.
With `--prefetcher`, as train.py does by default, workers hand over bytes, and this process normalizes each batch.
PyTorch has one thread. Each epoch goes through all pictures but those of an incomplete batch; a first epoch, which
starts the workers, is not timed. Prints one JSON line.

`--make COUNT` first makes FOLDER: COUNT JPEGs of 500x375 (quality 90, 4:2:0), cut at random from six photos that come
with scikit-learn and scikit-image. The same versions of the packages make the same pictures. timm 1.0.31's posterizing
fails with Pillow 13.

    pip install timm==1.0.31 torch==2.15.0 torchvision==0.29.2 pillow==12.3.0 scikit-learn==1.9.1 scikit-image==0.26.0
    python benches/peers/timm_loader.py /tmp/jpegs --make 512 --workers 2
"""

import argparse
import json
import random
import time
from pathlib import Path

from timing import positive

# Of the pictures that `--make` makes.
WIDTH, HEIGHT = 500, 375
QUALITY = 90
CLASSES = 4
# A photo is made at least so much larger than a picture, so that cuts differ.
ROOM = 1.25
CONTRAST = (0.8, 1.2)


def make(folder: Path, count: int) -> None:
    from PIL import Image, ImageEnhance
    from skimage import data
    from sklearn.datasets import load_sample_images

    if folder.exists():
        raise SystemExit(f"{folder} exists: --make needs a folder that is not there yet")
    photos = []
    for pixels in [*load_sample_images().images, data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]:
        photo = Image.fromarray(pixels)
        larger = max(1, ROOM * WIDTH / photo.width, ROOM * HEIGHT / photo.height)
        size = round(larger * photo.width), round(larger * photo.height)
        photos.append(photo.resize(size, Image.Resampling.BICUBIC))
    for label in range(CLASSES):
        (folder / f"class_{label}").mkdir(parents=True)
    chance = random.Random(0)
    sizes = []
    for number in range(count):
        photo = photos[number % len(photos)]
        left, top = chance.randint(0, photo.width - WIDTH), chance.randint(0, photo.height - HEIGHT)
        cut = photo.crop((left, top, left + WIDTH, top + HEIGHT))
        path = folder / f"class_{number % CLASSES}" / f"{number:05}.jpg"
        ImageEnhance.Contrast(cut).enhance(chance.uniform(*CONTRAST)).save(path, quality=QUALITY, subsampling="4:2:0")
        sizes.append(path.stat().st_size)
    print(f"Made {count} JPEGs in {folder}, {sum(sizes) / count / 1000:.1f} kB each on average")


def measure(given: argparse.Namespace) -> dict:
    import timm
    import torch
    from timm.data import create_dataset, create_loader

    torch.set_num_threads(1)
    torch.manual_seed(0)
    dataset = create_dataset("", root=given.folder, split="train", is_training=True)
    if len(dataset) < given.batch_size:
        raise SystemExit(f"{given.folder} has {len(dataset)} pictures, less than one batch of {given.batch_size}")
    loader = create_loader(
        dataset,
        input_size=(3, given.size, given.size),
        batch_size=given.batch_size,
        is_training=True,
        scale=(0.08, 1.0),
        hflip=0.5,
        color_jitter=None,
        auto_augment=given.aa,
        interpolation=given.interpolation,
        re_prob=given.reprob,
        num_workers=given.workers,
        use_prefetcher=given.prefetcher,
        device=torch.device("cpu"),
        persistent_workers=True,
    )
    rates = []
    for _ in range(1 + given.epochs):
        start = time.perf_counter()
        images = sum(len(labels) for _, labels in loader)
        rates.append(round(images / (time.perf_counter() - start), 1))
    return {
        "program": f"timm {timm.__version__}",
        "workers": given.workers,
        "images": images,
        "images_per_second": max(rates[1:]),
        "all": rates[1:],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Times timm's loader of pictures, without a model.")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="pictures in a folder for each class")
    parser.add_argument("--make", metavar="COUNT", type=positive, help="make FOLDER first, with so many JPEGs")
    parser.add_argument("--workers", type=positive, default=1, help="processes that load (default: 1)")
    parser.add_argument("--batch-size", type=positive, default=32, help="default: 32")
    parser.add_argument("--size", type=positive, default=224, help="side of the pictures that come out (default: 224)")
    parser.add_argument("--aa", default="rand-m9-mstd0.5-inc1", help="timm's auto_augment (default: %(default)s)")
    parser.add_argument("--epochs", type=positive, default=3, help="timed epochs (default: 3)")
    parser.add_argument("--interpolation", choices=["bilinear", "bicubic", "random"], default="bicubic")
    parser.add_argument("--reprob", type=float, default=0.0, help="probability of random erasing (default: 0)")
    parser.add_argument("--prefetcher", action="store_true", help="normalize in this process, not in the workers")
    given = parser.parse_args()
    try:
        if given.make:
            make(given.folder, given.make)
        if not given.folder.is_dir():
            raise SystemExit(f"{given.folder} is not a folder; --make COUNT makes one")
        print(json.dumps(measure(given)))
    except (AssertionError, ImportError, OSError, RuntimeError, ValueError) as error:
        # What fails in a worker comes with the worker's whole traceback; its last line says what it is.
        raise SystemExit((str(error).strip() or repr(error)).splitlines()[-1]) from None


if __name__ == "__main__":
    main()
