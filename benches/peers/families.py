#!/usr/bin/env python3
"""Train steps of the families around the Vision Transformer, in turn with PyTorch on the same work.

Each model is timm's (the compact transformer by its authors' definition), eager or with `--compile`, images channels last
where PyTorch is quicker so. A line has the shortest step of each, and how many times as fast Vitrine's is.

    cargo build --release
    python benches/peers/families.py --only swin,cct --precision bf16 --rounds 3
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import timm
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "crates/testkit/golden"))

from make_families import Compact, convolutional  # noqa: E402

WARM_UP, STEPS, CLASSES = 1, 3, 10


@dataclass
class Work:
    preset: str
    batch: int
    channels: int
    size: int
    make: Callable[[], nn.Module]
    channels_last: bool = False
    keys: dict[str, object] = field(default_factory=dict)

    def command(self, program: Path, precision: str) -> list[str]:
        keys = {"model.preset": self.preset, "model.channels": self.channels, "model.image_size": self.size} | self.keys
        settings = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
        counts = ["--warmup", str(WARM_UP), "--steps", str(STEPS), "--batch-size", str(self.batch)]
        return [str(program), "bench", "train-step", "--json", "--precision", precision, *counts, *settings]


def of_timm(name: str, **options) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=CLASSES, **options)


def cct() -> nn.Module:
    return Compact([convolutional(3, 256, 3, 1, 1)], 256, 256, 7, 4, 512, True, CLASSES)


WORKS = {
    "resnet18, 96x96, one channel, batch 128": Work(
        "resnet18", 128, 1, 96, of_timm("resnet18", in_chans=1), keys={"model.mean": 0, "model.std": 1}
    ),
    "resnet18, 224x224, batch 16": Work("resnet18", 16, 3, 224, of_timm("resnet18"), channels_last=True),
    "swin_tiny, 224x224, batch 4": Work(
        "swin_tiny_patch4_window7_224", 4, 3, 224, of_timm("swin_tiny_patch4_window7_224", drop_path_rate=0.0)
    ),
    "vit_tiny, 224x224, batch 8": Work("vit_tiny_patch16_224", 8, 3, 224, of_timm("vit_tiny_patch16_224")),
    "cct_7_3x1, 32x32, batch 64": Work("cct_7_3x1_32", 64, 3, 32, cct, keys={"model.attention_dropout": 0}),
}


def torch_step(work: Work, given: argparse.Namespace) -> float:
    model = work.make().train()
    images = torch.randn(work.batch, work.channels, work.size, work.size)
    labels = torch.arange(work.batch) % CLASSES
    if work.channels_last:
        model, images = (x.to(memory_format=torch.channels_last) for x in (model, images))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    forward = torch.compile(model) if given.compile else model
    best = float("inf")
    for step in range(WARM_UP + STEPS):
        start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=given.precision == "bf16"):
            loss = nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        if step >= WARM_UP:
            best = min(best, time.perf_counter() - start)
    return 1000 * best


def main() -> int:
    parser = argparse.ArgumentParser(description="Times train steps beside PyTorch.")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/vitrine")
    parser.add_argument("--only", default="", help="works whose names contain one of these, with commas between")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="PyTorch with torch.compile, which needs g++")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name, work in WORKS.items():
        if not any(part in name for part in given.only.split(",")):
            continue
        ours, theirs = [], []
        for _ in range(given.rounds):
            command = work.command(given.program, given.precision) + ["--threads", str(given.threads)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                print(done.stderr, file=sys.stderr)
                return 1
            ours.append(json.loads(done.stdout)["min_ms"])
            theirs.append(torch_step(work, given))
        a, b = min(ours), min(theirs)
        print(f"{name}, {given.precision}: vitrine {a:.0f} ms, torch {b:.0f} ms, {b / a:.2f} times", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
