#!/usr/bin/env python3
"""The d2l recipe's training step in PyTorch eager mode, to time `vitrine bench train-step` against.

One step: forward, cross-entropy, backward, plain SGD, on a random batch: images 1x96x96, patch 16, width 512, MLP 2048,
8 heads, 2 blocks, 10 classes, all dropouts 0.1. `--forward` times the forward pass alone, without dropout and
gradients. Prints one JSON line with the keys of `vitrine bench`; `peak_rss_mb` is the whole process's, in MiB, with
PyTorch's libraries.

    pip install torch==2.15.0
    python benches/peers/torch_step.py --threads 2 --steps 20 --precision f32
"""

import argparse
import contextlib
import json
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGE, PATCH, WIDTH, MLP_WIDTH, HEADS, BLOCKS, CLASSES, DROPOUT, LEARNING_RATE = 96, 16, 512, 2048, 8, 2, 10, 0.1, 0.1
PATCHES = (IMAGE // PATCH) ** 2


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.mlp = nn.Sequential(
            *(nn.Linear(WIDTH, MLP_WIDTH), nn.GELU(), nn.Dropout(DROPOUT)),
            *(nn.Linear(MLP_WIDTH, WIDTH), nn.Dropout(DROPOUT)),
        )

    def attention(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=DROPOUT if self.training else 0.0)
        return self.proj(x.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Conv2d(1, WIDTH, PATCH, stride=PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.randn(1, PATCHES + 1, WIDTH))
        self.dropout = nn.Dropout(DROPOUT)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = self.blocks(self.dropout(x + self.pos_embed))
        return self.head(x[:, 0])


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {value}")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description="Times the d2l recipe's step in PyTorch eager mode.")
    parser.add_argument("--threads", type=positive, help="threads of PyTorch (default: PyTorch's choice)")
    parser.add_argument("--steps", type=positive, default=20, help="timed steps (default: 20)")
    parser.add_argument("--warmup", type=positive, default=2, help="steps before, not timed (default: 2)")
    parser.add_argument("--batch-size", type=positive, default=128, help="images a step (default: 128)")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="bf16: autocast (default: f32)")
    parser.add_argument("--forward", action="store_true", help="time the forward pass alone")
    arguments = parser.parse_args()

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = Vit().train(not arguments.forward)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == 6_457_866, parameters
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    images = torch.rand(arguments.batch_size, 1, IMAGE, IMAGE)
    labels = torch.randint(CLASSES, (arguments.batch_size,))

    def autocast():
        bf16 = arguments.precision == "bf16"
        return torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()

    def train_step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    @torch.inference_mode()
    def forward() -> None:
        with autocast():
            model(images)

    step = forward if arguments.forward else train_step
    times = []
    for _ in range(arguments.warmup + arguments.steps):
        start = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - start))
    times = times[arguments.warmup :]
    median = statistics.median(times)
    result = {
        "program": f"torch {torch.__version__}",
        "what": "forward" if arguments.forward else "train-step",
        "precision": arguments.precision,
        "threads": torch.get_num_threads(),
        "batch_size": arguments.batch_size,
        "steps": arguments.steps,
        "median_ms": round(median, 3),
        "min_ms": round(min(times), 3),
        "images_per_second": round(1000 * arguments.batch_size / median, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
