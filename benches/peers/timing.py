"""What the peers' Python scripts share: sizes of the models, arguments, the clock, and the line of JSON.

The keys are those of `vitrine bench --json`. A script that cannot do what it is asked for says so on standard error
and ends with exit code 3.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

NOT_AVAILABLE = 3
LEARNING_RATE = 0.1


@dataclass(frozen=True)
class Sizes:
    """A Vision Transformer with a class token, and the number of parameters that it must have."""

    image: int
    patch: int
    channels: int
    width: int
    mlp_width: int
    heads: int
    blocks: int
    classes: int
    dropout: float
    attention_bias: bool
    parameters: int

    @property
    def patches(self) -> int:
        return (self.image // self.patch) ** 2


MODELS = {
    "d2l": Sizes(96, 16, 1, 512, 2048, 8, 2, 10, 0.1, False, 6_457_866),
    "vit_s16": Sizes(224, 16, 3, 384, 1536, 6, 12, 1000, 0.0, True, 22_050_664),
}


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {value}")
    return value


def arguments(description: str, *flags: tuple[str, str]) -> argparse.Namespace:
    """The command line that all scripts have; `flags` are a script's own switches with their help."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", choices=sorted(MODELS), default="d2l", help="which model (default: d2l)")
    parser.add_argument("--threads", type=positive, default=os.cpu_count(), help="CPU threads (default: all)")
    parser.add_argument("--steps", type=positive, default=20, help="timed steps (default: 20)")
    parser.add_argument("--warmup", type=positive, default=2, help="steps before, not timed (default: 2)")
    parser.add_argument("--batch-size", type=positive, default=128, help="images a step (default: 128)")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32", help="default: f32")
    parser.add_argument("--forward", action="store_true", help="time the forward pass alone, without dropout")
    for flag, about in flags:
        parser.add_argument(flag, action="store_true", help=about)
    return parser.parse_args()


def not_available(why: str) -> NoReturn:
    print(why, file=sys.stderr)
    sys.exit(NOT_AVAILABLE)


def in_another_process(script: str, function: str, *values: str | int) -> None:
    """Calls a function of a script beside this one in a process that ends, so that its memory is not counted here."""
    call = f"import {script}; {script}.{function}(*{values!r})"
    command = [sys.executable, "-B", "-c", call]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    if done.returncode != 0:
        not_available(f"{script}.{function} failed: {(done.stderr.strip() or str(done.returncode)).splitlines()[-1]}")


def report(given: argparse.Namespace, program: str, threads: int, step: Callable[[], None]) -> None:
    """Times `step`, which must end only when its work is done, and prints the line."""
    times = []
    for _ in range(given.warmup + given.steps):
        start = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - start))
    times = times[given.warmup :]
    median = statistics.median(times)
    result = {
        "program": program,
        "what": "forward" if given.forward else "train-step",
        "precision": given.precision,
        "threads": threads,
        "batch_size": given.batch_size,
        "steps": given.steps,
        "median_ms": round(median, 3),
        "min_ms": round(min(times), 3),
        "images_per_second": round(1000 * given.batch_size / median, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    print(json.dumps(result))
