#!/usr/bin/env python3
"""Lays out the ELPV dataset as a folder of pictures for `cargo xtask train --data`.

The dataset is 2,624 pictures (300x300, grey) of solar cells under electroluminescence, each with the type of the cell
(mono- or polycrystalline) and the probability of a defect (0, 1/3, 2/3 or 1) that an expert gave it. The PyPI package
elpv-dataset holds it (91 MB, CC-BY-NC-SA-4.0, non-commercial use); pip fetches it into the cache once. OUT becomes
train/{defective,functional}/*.png and test/{defective,functional}/*.png; the same command always makes the same folder.

    python benches/elpv.py target/elpv/cells

A cell counts as defective from a probability of 1/3 on. A quarter is for testing, 1,968 and 656 pictures: the cells are
sorted by probability, type and the SHA-256 of "vitrine elpv NAME", and of every four in a row the first is a test
picture, so that each pair of probability and type has a quarter of its cells in the test part. The dataset does not say
which of the 44 modules a cell is from, so cells of one module are in both parts.

Deitsch et al., "Automatic classification of defective photovoltaic module cells in electroluminescence images", Solar
Energy 185 (2019), also train on 1,968 cells and reach an accuracy of 82.4 % with an SVM and of 88.4 % with a CNN. Which
cells those are is published neither in the package nor in the repository zae-bayern/elpv-dataset, so figures from this
folder are near theirs, not on the very same pictures.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

CACHE = Path(__file__).resolve().parents[1] / "target" / "elpv"
PACKAGE = "elpv-dataset==1.0.0.post1"
WHEEL = "elpv_dataset-1.0.0.post1-py3-none-any.whl"
SHA256 = "85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c"
DATA = "elpv_dataset/data"
SALT = "vitrine elpv"
CLASSES = ["defective", "functional"]
DEFECTIVE_FROM = 1 / 3
PARTS = ["train", "test"]
ONE_OF = 4


class Cell(NamedTuple):
    """A line of labels.csv; `path` is a picture's path in the dataset."""

    path: str
    probability: float
    type: str

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def label(self) -> str:
        return "defective" if self.probability >= DEFECTIVE_FROM else "functional"

    def order(self) -> tuple[float, str, str]:
        return self.probability, self.type, hashlib.sha256(f"{SALT} {self.name}".encode()).hexdigest()


def fetch(cache: Path) -> Path:
    """The package in the cache, which pip brings there if it is not there yet."""
    wheel = cache / WHEEL
    if not wheel.exists():
        print(f"Fetching {PACKAGE} into {cache}")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*command, "--dest", str(cache), PACKAGE])
        if done.returncode != 0 or not wheel.exists():
            raise SystemExit(f"pip could not fetch {PACKAGE}; the file {WHEEL} in {cache} would do as well")
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
        raise SystemExit(f"{wheel} is not the file that PyPI has: delete it and run this again")
    return wheel


def split(cells: list[Cell]) -> dict[str, list[Cell]]:
    cells = sorted(cells, key=Cell.order)
    parts = {part: [] for part in PARTS}
    for place, cell in enumerate(cells):
        parts["test" if place % ONE_OF == 0 else "train"].append(cell)
    return parts


def is_laid_out(out: Path, checksums: dict[Path, int]) -> bool:
    """Whether `out` holds these files, byte for byte, and no others."""
    there = {path.relative_to(out) for path in out.rglob("*") if not path.is_dir()}
    return there == set(checksums) and all(zlib.crc32((out / path).read_bytes()) == checksums[path] for path in there)


def lay_out(wheel: Path, out: Path) -> dict[str, list[Cell]]:
    """Makes `out` from the pictures in the wheel, all of it or nothing, and says which cells are in which part."""
    with zipfile.ZipFile(wheel) as dataset:
        lines = dataset.read(f"{DATA}/labels.csv").decode().splitlines()
        rows = [line.split() for line in lines if line.strip()]
        parts = split([Cell(path, float(probability), kind) for path, probability, kind in rows])
        sources = {
            Path(part, cell.label, cell.name): dataset.getinfo(f"{DATA}/{cell.path}")
            for part, cells in parts.items()
            for cell in cells
        }
        if out.exists():
            if not is_laid_out(out, {path: source.CRC for path, source in sources.items()}):
                raise SystemExit(f"{out} exists and is not what this program makes: delete it, or name another folder")
            return parts
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{out.name}.", dir=out.parent) as scratch:
            unfinished = Path(scratch, "cells")
            for path, source in sources.items():
                target = unfinished / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(dataset.read(source))
            unfinished.rename(out)
    return parts


def show(parts: dict[str, list[Cell]]) -> None:
    counts = {part: Counter(cell.label for cell in cells) for part, cells in parts.items()}
    print(f"{'part':5}" + "".join(f"{title:>12}" for title in [*CLASSES, "all"]))
    for part, of in counts.items():
        print(f"{part:5}" + "".join(f"{count:12,}" for count in [*(of[label] for label in CLASSES), of.total()]))
    label, count = counts["test"].most_common(1)[0]
    share = 100 * count / counts["test"].total()
    print(f"Calling every test picture {label} is right for {share:.1f} % of them.")


def main() -> None:
    parser = argparse.ArgumentParser(description="Lays out the ELPV dataset as a folder of pictures.")
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to make")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the package is kept (default: target/elpv)")
    given = parser.parse_args()
    try:
        parts = lay_out(fetch(given.cache), given.out)
    except OSError as error:
        raise SystemExit(f"Could not make {given.out}: {error}") from None
    print(given.out)
    show(parts)


if __name__ == "__main__":
    main()
