"""Makes mixup.json: what timm's Mixup does to four images and their targets, for shares and places that are given.

Run in this folder: python make_mixup.py
Last run with timm 1.0.31, torch 2.15.0 and numpy 2.4.6.

images: [4, 2, 5, 6], row-major. targets: [4, 3], one-hot.
cases: the share that each pair draws, for CutMix the middle of the rectangle, and the images and targets that come out.
"""

import json
from unittest import mock

import numpy as np
import torch
from timm.data.mixup import Mixup

LABELS, CLASSES = torch.tensor([0, 2, 1, 2]), 3
IMAGES = torch.arange(4 * 2 * 5 * 6).mul(0.37).sin().reshape(4, 2, 5, 6)
# Shares and middles of the first and the second pair; one of them lies at the edge.
SHARES, MIDDLES = [0.3, 0.85], [(1, 2), (4, 0)]


def drawn(mode: str, cuts: bool, first: int) -> dict:
    """With the draws of the pairs from `first` on; a batch has one for both."""
    mixup = Mixup(
        mixup_alpha=0.0 if cuts else 0.8, cutmix_alpha=1.0 if cuts else 0.0, mode=mode, label_smoothing=0.0,
        num_classes=CLASSES,
    )
    order = [first, 1 - first] if mode == "pair" else [first, first]
    shares = [SHARES[i] for i in order]
    beta = lambda *_, size=None: shares[0] if size is None else np.array(shares)
    places = iter([at for i in order for at in MIDDLES[i]])
    with (
        mock.patch.object(np.random, "rand", lambda *size: np.zeros(size) if size else 0.0),
        mock.patch.object(np.random, "beta", beta),
        mock.patch.object(np.random, "randint", lambda low, high, size=None: next(places)),
    ):
        images, targets = mixup(IMAGES.clone(), LABELS)
    pairs = [{"share": SHARES[i], "middle": MIDDLES[i] if cuts else None} for i in order]
    kind = "cutmix" if cuts else "mixup"
    found = {"images": images.flatten().tolist(), "targets": targets.flatten().tolist()}
    return {"name": f"{kind} by {mode}, {first}", "pairs": pairs} | found


def main() -> None:
    cases = [drawn(mode, cuts, first) for mode in ["batch", "pair"] for cuts in [False, True] for first in [0, 1]]
    targets = torch.nn.functional.one_hot(LABELS, CLASSES).float()
    file = {"images": IMAGES.flatten().tolist(), "targets": targets.flatten().tolist(), "cases": cases}
    with open("mixup.json", "w") as out:
        out.write(json.dumps(file) + "\n")


if __name__ == "__main__":
    main()
