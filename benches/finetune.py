#!/usr/bin/env python3
"""Lays out a part of Fashion-MNIST as a folder of pictures, for fine-tuning with few of them.

    python benches/finetune.py ~/.cache/vitrine/fashion-mnist target/finetune/pictures

OUT becomes {train,val,test}/CLASS/*.png of the classes 5 to 9 (sandal, shirt, sneaker, bag, ankle boot): for each class
the first 100 pictures of the training part to train with, the 200 after them for validation, and all 1,000 of the test
part. A model that was pretrained on the classes 0 to 4 has seen none of them.
"""

import argparse
import gzip
from pathlib import Path

import numpy
from PIL import Image

CLASSES = {5: "sandal", 6: "shirt", 7: "sneaker", 8: "bag", 9: "ankle boot"}
PARTS = {"train": ("train", 0, 100), "val": ("train", 100, 300), "test": ("t10k", 0, 1000)}


def idx(path: Path) -> numpy.ndarray:
    data = gzip.open(path).read()
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i]) for i in range(data[3])]
    return numpy.frombuffer(data, numpy.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with Fashion-MNIST's four files")
    parser.add_argument("out", type=Path, help="folder to make")
    arguments = parser.parse_args()
    for part, (file, first, end) in PARTS.items():
        pictures = idx(arguments.data / f"{file}-images-idx3-ubyte.gz")
        labels = idx(arguments.data / f"{file}-labels-idx1-ubyte.gz")
        for label, name in CLASSES.items():
            folder = arguments.out / part / name
            folder.mkdir(parents=True, exist_ok=True)
            for index in numpy.flatnonzero(labels == label)[first:end]:
                Image.fromarray(pictures[index]).save(folder / f"{index:05}.png")


if __name__ == "__main__":
    main()
