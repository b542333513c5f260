#!/usr/bin/env python3
"""The families around the Vision Transformer, in turn with other programs on the same work: train steps beside PyTorch,
eager and compiled (which needs g++), and the forward pass of one image and of eight beside OpenVINO and ONNX Runtime.

Each model is timm's (the compact transformer by its authors' definition), images channels last where PyTorch is quicker
so. A line has the shortest times of each, and the others' over Vitrine's.

    cargo build --release
    pip install torch==2.15.0 timm==1.0.31 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 openvino==2026.4.1
    python benches/peers/families.py train-step --only swin,cct --precision bf16 --rounds 3
    python benches/peers/families.py forward
"""

import argparse
import json
import subprocess
import sys
import tempfile
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

CLASSES = 10
# Steps before the clock and under it.
TRAIN, FORWARD = (1, 3), (5, 30)


@dataclass
class Work:
    preset: str
    batch: int
    channels: int
    size: int
    make: Callable[[], nn.Module]
    channels_last: bool = False
    keys: dict[str, object] = field(default_factory=dict)

    def images(self, batch: int) -> torch.Tensor:
        return torch.randn(batch, self.channels, self.size, self.size)


def of_timm(name: str, **options) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=CLASSES, **options)


def cct() -> nn.Module:
    return Compact([convolutional(3, 256, 3, 1, 1)], 256, 256, 7, 4, 512, True, CLASSES)


WORKS = {
    "resnet18, 96x96, one channel": Work(
        "resnet18", 128, 1, 96, of_timm("resnet18", in_chans=1), keys={"model.mean": 0, "model.std": 1}
    ),
    "resnet18, 224x224": Work("resnet18", 16, 3, 224, of_timm("resnet18"), channels_last=True),
    "swin_tiny, 224x224": Work(
        "swin_tiny_patch4_window7_224", 4, 3, 224, of_timm("swin_tiny_patch4_window7_224", drop_path_rate=0.0)
    ),
    "vit_tiny, 224x224": Work("vit_tiny_patch16_224", 8, 3, 224, of_timm("vit_tiny_patch16_224")),
    "cct_7_3x1, 32x32": Work("cct_7_3x1_32", 64, 3, 32, cct, keys={"model.attention_dropout": 0}),
}


def shortest(run: Callable[[], object], counts: tuple[int, int]) -> float:
    """In milliseconds."""
    best = float("inf")
    for step in range(sum(counts)):
        start = time.perf_counter()
        run()
        if step >= counts[0]:
            best = min(best, time.perf_counter() - start)
    return 1000 * best


def ours(work: Work, given: argparse.Namespace, batch: int) -> Callable[[], float]:
    keys = {"model.preset": work.preset, "model.channels": work.channels, "model.image_size": work.size} | work.keys
    settings = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    warm_up, steps = TRAIN if given.work == "train-step" else FORWARD
    counts = ["--warmup", str(warm_up), "--steps", str(steps), "--batch-size", str(batch)]
    options = ["--json", "--precision", given.precision, "--threads", str(given.threads)]
    command = [str(given.program), "bench", given.work, *options, *counts, *settings]
    return lambda: json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)["min_ms"]


def torch_step(work: Work, given: argparse.Namespace, compiled: bool) -> Callable[[], float]:
    model, images = work.make().train(), work.images(work.batch)
    labels = torch.arange(work.batch) % CLASSES
    if work.channels_last:
        model, images = (x.to(memory_format=torch.channels_last) for x in (model, images))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    forward = torch.compile(model) if compiled else model

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=given.precision == "bf16"):
            loss = nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()

    return lambda: shortest(step, TRAIN)


def openvino_forward(work: Work, given: argparse.Namespace, batch: int) -> Callable[[], float] | None:
    import openvino

    core = openvino.Core()
    if given.precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return None
    images = work.images(batch)
    model = openvino.convert_model(work.make().eval(), example_input=images, input=list(images.shape))
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": given.threads}
    request = core.compile_model(
        model, "CPU", settings | {"INFERENCE_PRECISION_HINT": given.precision}
    ).create_infer_request()
    request.set_input_tensor(openvino.Tensor(images.numpy()))
    return lambda: shortest(request.infer, FORWARD)


def onnxruntime_forward(work: Work, given: argparse.Namespace, batch: int) -> Callable[[], float] | None:
    import onnxruntime

    if given.precision == "bf16":  # its CPU kernels do not compute in it
        return None
    images = work.images(batch)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = given.threads
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.onnx"
        torch.onnx.export(work.make().eval(), (images,), path, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: images.numpy()}
    return lambda: shortest(lambda: session.run(None, feed), FORWARD)


def main() -> None:
    parser = argparse.ArgumentParser(description="Times the families beside other programs.")
    parser.add_argument("work", choices=["train-step", "forward"])
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/vitrine")
    parser.add_argument("--only", default="", help="models whose names contain one of these, with commas between")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name, work in WORKS.items():
        if not any(part in name for part in given.only.split(",")):
            continue
        for batch in [work.batch] if given.work == "train-step" else [1, 8]:
            programs = {"vitrine": ours(work, given, batch)}
            if given.work == "train-step":
                programs["torch"] = torch_step(work, given, compiled=False)
                programs["torch compiled"] = torch_step(work, given, compiled=True)
            else:
                programs["openvino"] = openvino_forward(work, given, batch)
                programs["onnxruntime"] = onnxruntime_forward(work, given, batch)
            times = {name: [] for name, run in programs.items() if run}
            for _ in range(given.rounds):
                for program, runs in times.items():
                    runs.append(programs[program]())
            best = {program: min(runs) for program, runs in times.items()}
            text = (f"{program} {ms:.1f} ms ({ms / best['vitrine']:.2f})" for program, ms in best.items())
            print(f"{name}, batch {batch}, {given.precision}:", ", ".join(text), flush=True)


if __name__ == "__main__":
    main()
