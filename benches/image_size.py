#!/usr/bin/env python3
"""What an image's size costs: the forward pass of one image in a Swin Transformer beside Vision Transformers, in turn,
shortest times. Prints the table of docs/performance.md and draws docs/images/image_size.svg.

    cargo build --release
    python benches/image_size.py --rounds 3
"""

import argparse
import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs/images/image_size.svg"
# Each divides by 32·3: all stages of a Swin Transformer are cut into the same windows.
SIZES = [96, 192, 288, 384]
MODELS = {
    "Swin-T, windows of 3×3": ["model.preset=swin_tiny_patch4_window7_224", "model.window_size=3"],
    "ViT-S/16": ["model.preset=vit_small_patch16_224"],
    "ViT-Ti/8": ["model.preset=vit_tiny_patch16_224", "model.patch_size=8"],
}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 300, 48, 170, 40, 40
STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.heading { font-weight: 600 }
.axis { stroke: #afb8c1 }
.line { fill: none; stroke-width: 2 }
.m0 { stroke: #0969da } .m1 { stroke: #57606a } .m2 { stroke: #bc4c00 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.axis { stroke: #57606a }
.m0 { stroke: #4493f8 } .m1 { stroke: #9198a1 } .m2 { stroke: #f0883e }
}
"""


def milliseconds(program: Path, keys: list[str], size: int) -> float:
    settings = [part for key in [*keys, "model.channels=3", f"model.image_size={size}"] for part in ("--set", key)]
    counts = ["--json", "--batch-size", "1", "--warmup", "1", "--steps", "5", "--threads", "2"]
    done = subprocess.run([program, "bench", "forward", *counts, *settings], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)["min_ms"]


def table(times: dict[tuple[str, int], float]) -> str:
    lines = ["| pixels | " + " | ".join(MODELS) + " |", "|---" * (1 + len(MODELS)) + "|"]
    for size in SIZES:
        cells = (f"{times[name, size]:.0f} ({per_area(times, name, size):.1f})" for name in MODELS)
        lines.append(f"| {size}×{size} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def per_area(times: dict[tuple[str, int], float], name: str, size: int) -> float:
    """Milliseconds for 10,000 pixels."""
    return times[name, size] / size**2 * 1e4


def picture(times: dict[tuple[str, int], float]) -> str:
    top = max(per_area(times, *at) for at in times)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    x = lambda size: LEFT + (right - LEFT) * (size / SIZES[-1]) ** 2
    y = lambda value: bottom - (bottom - TOP) * value / top
    parts = [
        '<text class="heading" x="12" y="22">Forward pass of one image: milliseconds for 10,000 pixels</text>',
        f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{bottom}H{right}"/>',
    ]
    for size in SIZES:
        parts.append(f'<text x="{x(size):.0f}" y="{bottom + 18}" text-anchor="middle">{size}×{size}</text>')
    for value in range(0, int(top) + 1, 20):
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.0f}" text-anchor="end">{value}</text>')
    for i, name in enumerate(MODELS):
        points = [(x(size), y(per_area(times, name, size))) for size in SIZES]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        # The lines of the first two end side by side: a name above, a name below.
        shift = {0: 12, 1: -4}.get(i, 4)
        parts.append(f'<polyline class="line m{i}" points="{line}"/>')
        parts.append(f'<text x="{points[-1][0] + 8:.0f}" y="{points[-1][1] + shift:.0f}">{name}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="Time for 10,000 pixels by image size">\n<style>\n{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Times the forward pass of one image at several sizes.")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/vitrine")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    times: dict[tuple[str, int], float] = {}
    for _ in range(given.rounds):
        for size in SIZES:
            for name, keys in MODELS.items():
                found = milliseconds(given.program, keys, size)
                times[name, size] = min(found, times.get((name, size), found))
    PICTURE.write_text(picture(times))
    print(table(times))


if __name__ == "__main__":
    main()
