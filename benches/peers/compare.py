#!/usr/bin/env python3
"""The same work in Vitrine and in its peers, in turn; the figures go into docs/performance.md.

`cargo xtask bench --peers` builds Vitrine and starts this program with the path of the executable and the options that
it was given. What is compared stands in `WORKS`, with whom in `PEERS`, and what is to be reached in `TARGETS`. Each
measurement is a process of its own, which prints one JSON line with the keys of `vitrine bench --json`.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import date
from itertools import zip_longest
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
PAGE = ROOT / "docs" / "performance.md"
PICTURE = "images/peers.svg"
BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"
THREADS = 2


# What is compared.

@dataclass(frozen=True)
class Work:
    """One thing to do, the same in every framework."""

    task: str
    model: str
    batch_size: int
    precision: str
    # Steps of one process: those that are not timed, and those that are.
    warmup: int = 2
    steps: int = 6

    @property
    def title(self) -> str:
        task = self.task.capitalize().replace("-", " ")
        return f"{task}, {MODELS[self.model][0]}, batch {self.batch_size}, {self.precision}"

    @property
    def has_variants(self) -> bool:
        """Whether Vitrine does it without the last-block saving and with one thread as well."""
        return (self.task, self.model) == ("train-step", "d2l")


# What the tables call a model, and how Vitrine is asked for it.
MODELS = {
    "d2l": ("d2l", []),
    "vit_s16": (
        "ViT-S/16 at 224×224",
        ["--set", "model.preset=vit-s-16", "--set", "model.channels=3", "--classes=1000"],
    ),
}
# In the order of the page. A short step is measured more often.
WORKS = [
    Work("train-step", "d2l", 128, "f32"),
    Work("train-step", "d2l", 128, "bf16"),
    Work("forward", "d2l", 128, "f32", warmup=3, steps=12),
    Work("forward", "d2l", 128, "bf16", warmup=3, steps=12),
    Work("forward", "d2l", 1, "f32", warmup=50, steps=500),
    Work("forward", "d2l", 1, "bf16", warmup=50, steps=500),
    Work("train-step", "vit_s16", 8, "f32"),
    Work("train-step", "vit_s16", 8, "bf16"),
    Work("forward", "vit_s16", 8, "f32", warmup=3, steps=12),
    Work("forward", "vit_s16", 8, "bf16", warmup=3, steps=12),
    Work("forward", "vit_s16", 1, "f32", warmup=10, steps=100),
    Work("forward", "vit_s16", 1, "bf16", warmup=10, steps=100),
]


@dataclass(frozen=True)
class Program:
    """A program with its settings: Vitrine, a script beside this one, or a crate in a folder beside it."""

    name: str
    title: str
    script: str = ""
    # What the script imports.
    modules: str = ""
    crate: str = ""
    more: tuple[str, ...] = ()
    threads: int = THREADS

    @property
    def is_ours(self) -> bool:
        return not (self.script or self.crate)

    def titled(self, work: Work) -> str:
        autocast = self.name == "torch" and work.precision == "bf16"
        return f"{self.title}, autocast" if autocast else self.title


VITRINE = Program("vitrine", "Vitrine")
SAVING_OFF = Program("saving-off", "Vitrine, last-block saving off", more=("--set", "model.last_block_saving=false"))
ONE_THREAD = Program("one-thread", "Vitrine, 1 thread", threads=1)
PEERS = [
    Program("torch", "PyTorch", "torch_step.py", "torch"),
    Program("torch-compile", "PyTorch, torch.compile", "torch_step.py", "torch", more=("--compile",)),
    Program("jax", "JAX, jit", "jax_step.py", "jax"),
    Program("onnxruntime", "ONNX Runtime", "ort_step.py", "onnxruntime, onnxscript, torch"),
    Program("openvino", "OpenVINO", "openvino_step.py", "openvino, torch"),
    Program("candle", "candle", crate="candle"),
    Program("burn", "burn, flex backend", crate="burn"),
]
PROGRAMS = [VITRINE, SAVING_OFF, ONE_THREAD, *PEERS]

# What a program's figure is to be: the work but its precision, the precision ("": both), the program, and what. "time"
# is how many times as long as Vitrine's its shortest step is, at least; "saving off" the same against Vitrine without
# the last-block saving; "memory" is one over Vitrine's share of its peak, at least.
TARGETS = [
    (("train-step", "d2l", 128), "f32", "torch", "time", 4.5),
    (("train-step", "d2l", 128), "f32", "torch", "saving off", 2.8),
    (("train-step", "d2l", 128), "bf16", "torch", "time", 3),
    (("train-step", "d2l", 128), "bf16", "torch", "saving off", 1.9),
    (("train-step", "d2l", 128), "", "torch", "memory", 3),
    (("train-step", "d2l", 128), "", "one-thread", "time", 1.85),
    (("train-step", "d2l", 128), "f32", "candle", "time", 3),
    (("forward", "d2l", 128), "f32", "torch", "time", 3.5),
    (("forward", "d2l", 128), "f32", "onnxruntime", "time", 1.8),
    (("forward", "d2l", 128), "bf16", "torch", "time", 2),
    (("forward", "d2l", 1), "f32", "onnxruntime", "time", 1.3),
    (("train-step", "vit_s16", 8), "f32", "torch", "time", 2),
    (("train-step", "vit_s16", 8), "bf16", "torch", "time", 1.3),
    *((("forward", *of), "", "openvino", "time", 0.95) for of in [("d2l", 128), ("d2l", 1), ("vit_s16", 8), ("vit_s16", 1)]),
]


# Measuring.

class Failed(Exception):
    """Why a program is not available, or did not do a work."""


@dataclass
class Cell:
    """All rounds of one program at one work. A failure in any of them counts: it would hide there."""

    rounds: list[dict] = field(default_factory=list)
    failure: str = ""

    @property
    def min_ms(self) -> float:
        return min(figures["min_ms"] for figures in self.rounds)

    @property
    def median_ms(self) -> float:
        return statistics.median(figures["median_ms"] for figures in self.rounds)

    @property
    def peak_mb(self) -> float | None:
        return max((figures["peak_rss_mb"] or 0 for figures in self.rounds), default=0) or None


# By work and by a program's name, each in the order in which it is first done.
Results = dict[Work, dict[str, Cell]]


def measured(results: Results, work: Work, name: str) -> Cell | None:
    """What the program reached at the work, if it did it in every round."""
    cell = results.get(work, {}).get(name)
    return cell if cell and cell.rounds and not cell.failure else None


def built(crate: str) -> str:
    """Builds a peer in Rust for this very processor, which frameworks advise; Vitrine chooses at run time."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "peers"
    command = [os.environ.get("CARGO", "cargo"), "build", "--release", "--locked", "--target-dir", str(target)]
    command += ["--manifest-path", str(FOLDER / crate / "Cargo.toml"), "--message-format=json-render-diagnostics"]
    environment = {**os.environ, "RUSTFLAGS": "-Ctarget-cpu=native"}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=environment)
    executables = re.findall(r'"executable":"([^"]+)"', done.stdout)
    if done.returncode != 0 or not executables:
        raise Failed(f"cargo could not build it (exit code {done.returncode})")
    return executables[-1]


def found(peer: Program, python: str) -> list[str]:
    """The words that start a peer, if it is there."""
    if peer.crate:
        return [built(peer.crate)]
    command = [python, "-c", f"import {peer.modules}"]
    if subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode != 0:
        raise Failed(f"{python} cannot import {peer.modules}")
    return [python, "-B", str(FOLDER / peer.script)]


def command(start: list[str], work: Work, program: Program, quick: bool) -> list[str]:
    """The command that makes a program do a work."""
    if program.is_ours:
        words = ["bench", work.task, "--recipe", "d2l", "--json", *MODELS[work.model][1]]
    else:
        words = ["--model", work.model] + ["--forward"] * (work.task == "forward")
    warmup, steps = (1, 1) if quick else (work.warmup, work.steps)
    numbers = {"batch-size": work.batch_size, "threads": program.threads, "warmup": warmup, "steps": steps}
    flags = [word for name, number in numbers.items() for word in (f"--{name}", str(number))]
    return [*start, *words, *program.more, "--precision", work.precision, *flags]


def run(words: list[str], work: Work, program: Program) -> dict:
    """Runs a program to its end and reads the last line that it prints."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        raise Failed(f"it did not start: {error}") from error
    if done.returncode != 0:
        raise Failed(complaint(done.stderr) or f"exit code {done.returncode}")
    line = (done.stdout.strip() or "nothing").splitlines()[-1]
    try:
        figures = json.loads(line)
        did = [figures[key] for key in ("what", "precision", "threads", "batch_size")]
        sound = 0 < figures["min_ms"] <= figures["median_ms"] and {"program", "peak_rss_mb"} <= figures.keys()
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise Failed(f"it printed no figures: {line}")
    if did != [work.task, work.precision, program.threads, work.batch_size]:
        raise Failed(f"it did something else: {line}")
    return figures


def complaint(stderr: str) -> str:
    """Why a process failed, in one line: what it said last if that is Python's list of calls, first otherwise."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    last = any(line.startswith("Traceback") for line in lines)
    return lines[-1 if last else 0].removeprefix("error: ") if lines else ""


def in_turn(work: Work, peers: list[Program]) -> list[Program]:
    """The programs that do a work, Vitrine's spread among the peers: a slow minute of the machine then hits both."""
    ours = [VITRINE, SAVING_OFF, ONE_THREAD] if work.has_variants else [VITRINE]
    return [program for pair in zip_longest(ours, peers) for program in pair if program]


def measure(starts: dict[str, list[str]], peers: list[Program], rounds: int, quick: bool) -> Results:
    """Every program does every work once a round. A program that failed at a work is not asked again."""
    results: Results = {work: {program.name: Cell() for program in in_turn(work, peers)} for work in WORKS}
    for number in range(1, rounds + 1):
        for work in WORKS:
            print(f"round {number} of {rounds}: {work.title}", file=sys.stderr, flush=True)
            for program in in_turn(work, peers):
                cell = results[work][program.name]
                if cell.failure:
                    continue
                start = starts["vitrine" if program.is_ours else program.name]
                try:
                    figures = run(command(start, work, program, quick), work, program)
                    cell.rounds.append(figures)
                    outcome = f"{figures['min_ms']:.1f} ms, median {figures['median_ms']:.1f} ms"
                except Failed as why:
                    cell.failure = str(why)
                    outcome = f"not available ({why})"
                print(f"  {program.titled(work)}: {outcome}", file=sys.stderr, flush=True)
    return results


# The tables.


def tables(results: Results) -> str:
    """A table for each work, and below them why a program is missing from one: each reason once."""
    notes: list[str] = []
    text = "".join(table(work, results, notes) + "\n" for work in WORKS if work in results)
    return text + "".join(f"{number}. {note}\n" for number, note in enumerate(notes, 1))


def table(work: Work, results: Results, notes: list[str]) -> str:
    ours, off = (measured(results, work, program.name) for program in (VITRINE, SAVING_OFF))
    # The column for the saving's absence is only there where that was measured.
    off_column = ["to ours, saving off: minima"] if off else []
    heading = ["", "min, ms", "median, ms", "to ours: minima", "medians", *off_column, "peak, MiB", "target"]
    rules = ["---", *["---:"] * (len(heading) - 2), "---"]
    lines = [f"**{work.title}**", "", row(heading), f"|{'|'.join(rules)}|"]
    for program in PROGRAMS:
        if program.name not in results[work]:
            continue
        cell = measured(results, work, program.name)
        if cell is None:
            number = footnote(results[work][program.name].failure or "not measured", notes)
            figures = [f"not available ({number})", *[""] * (len(heading) - 3)]
        else:
            base = ours if program is not VITRINE else None
            figures = [milliseconds(cell.min_ms), milliseconds(cell.median_ms)]
            figures += [f"{cell.min_ms / base.min_ms:.2f}×" if base else ""]
            figures += [f"{cell.median_ms / base.median_ms:.2f}×" if base else ""]
            if off:
                figures += ["" if program.is_ours else f"{cell.min_ms / off.min_ms:.2f}×"]
            figures += [f"{cell.peak_mb:.0f}" if cell.peak_mb else ""]
        lines.append(row([program.titled(work), *figures, targets(work, program, cell, ours, off)]))
    return "\n".join(lines) + "\n"


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def footnote(why: str, notes: list[str]) -> int:
    line = " ".join(why.split())
    line = line if len(line) <= 160 else line[:160] + "…"
    line = line.replace("|", "\\|").replace("<", "&lt;")
    if line not in notes:
        notes.append(line)
    return 1 + notes.index(line)


def targets(work: Work, program: Program, cell: Cell | None, ours: Cell | None, off: Cell | None) -> str:
    """The targets that a program sets for a work, each with what was reached."""
    judged = []
    for place, precision, name, kind, value in TARGETS:
        here = place == (work.task, work.model, work.batch_size) and precision in ("", work.precision)
        if not here or name != program.name:
            continue
        base = off if kind == "saving off" else ours
        verdict = "not measured"
        if cell and base and (kind != "memory" or cell.peak_mb and base.peak_mb):
            figure = cell.peak_mb / base.peak_mb if kind == "memory" else cell.min_ms / base.min_ms
            shown = 1 / figure if kind == "memory" else figure
            verdict = f"{'reached' if figure >= value else '**missed**'} ({shown:.2f})"
        wanted = {"time": f"≥ {value}×", "memory": f"memory ≤ 1/{value}"}.get(kind, f"{kind} ≥ {value}×")
        judged.append(f"{wanted}: {verdict}")
    return "; ".join(judged)


def milliseconds(value: float) -> str:
    """Three digits that say something."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


# The picture: an SVG file, which brings its colours for light and dark mode along.

WIDTH, LEFT, RIGHT, ROW, BAR, HEADING, MARGIN = 720, 210, 150, 20, 13, 30, 12
# A bar is cut at so many times Vitrine's, so that the others stay readable.
LONGEST = 8
STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.heading { font-weight: 600 }
.figure { fill: #57606a }
.ours { fill: #0969da }
.peer { fill: #afb8c1 }
.cut { stroke: #ffffff; stroke-width: 3 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.figure { fill: #9198a1 }
.ours { fill: #4493f8 }
.peer { fill: #57606a }
.cut { stroke: #0d1117 }
}
"""


def picture(results: Results) -> str:
    """A group of bars for each work."""
    parts, y = [], float(MARGIN)
    for work in results:
        bars = [(program, measured(results, work, program.name)) for program in PROGRAMS]
        bars = [(program, cell.min_ms) for program, cell in bars if cell]
        if not bars:
            continue
        title = f"{work.title}: shortest step, ms"
        parts.append(f'<text class="heading" x="{MARGIN}" y="{y + HEADING - 9:.1f}">{title}</text>\n')
        y += HEADING
        ours = measured(results, work, VITRINE.name)
        limit = LONGEST * (ours.min_ms if ours else min(ms for _, ms in bars))
        longest = max(min(ms, limit) for _, ms in bars)
        for program, ms in bars:
            ratio = f" ({ms / ours.min_ms:.2f}×)" if ours and program is not VITRINE else ""
            width = (WIDTH - LEFT - RIGHT) * min(ms, limit) / longest
            parts.append(bar(program, work, y, width, milliseconds(ms) + ratio, ms > limit))
            y += ROW
    height = y + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label="Shortest time of a step in each framework">\n'
        f"<style>\n{STYLE}</style>\n{''.join(parts)}</svg>\n"
    )


def bar(program: Program, work: Work, y: float, width: float, figure: str, cut: bool) -> str:
    kind, baseline, x = "ours" if program.is_ours else "peer", y + BAR - 2, LEFT + 0.9 * width
    line = (
        f'<text x="{LEFT - 8}" y="{baseline:.1f}" text-anchor="end">{program.titled(work)}</text>'
        f'<rect class="{kind}" x="{LEFT}" y="{y:.1f}" width="{width:.1f}" height="{BAR}" rx="2"/>'
        f'<text class="figure" x="{LEFT + width + 8:.1f}" y="{baseline:.1f}">{figure}</text>\n'
    )
    mark = f'x1="{x - 4:.1f}" x2="{x + 4:.1f}" y1="{y + BAR + 1:.1f}" y2="{y - 1:.1f}"'
    return line + (f'<line class="cut" {mark}/>\n' if cut else "")


# The page.


def results_text(results: Results, rounds: int, typed: str) -> str:
    """What goes between the markers."""
    cells = [results[work][program.name] for program in PROGRAMS for work in results if program.name in results[work]]
    versions = dict.fromkeys(figures["program"] for cell in cells for figures in cell.rounds)
    how_often = "one round" if rounds == 1 else f"{rounds} rounds in turn"
    return (
        f"{date.today()}, {machine()}, {THREADS} threads, {how_often}. Written by:\n\n"
        f"```sh\n{typed}\n```\n\n"
        f"Programs: {', '.join(versions)}.\n\n"
        f"![Shortest time of a step in each framework]({PICTURE})\n\n"
        "The minimum is the shortest step of all rounds, the median that of the rounds' medians, the peak the "
        'process\'s highest, libraries included. "To ours" is a time divided by Vitrine\'s in the first line: over 1, '
        'Vitrine is faster. Targets are about the minima.\n\n'
        f"{tables(results)}"
    )


def machine() -> str:
    """Processor, cores and memory in words, as Linux tells them."""
    cpu, memory = (Path(f"/proc/{name}") for name in ("cpuinfo", "meminfo"))
    pairs = re.findall(r"^(\S.*?)\s*: (.*)$", cpu.read_text() if cpu.exists() else "", re.MULTILINE)
    cpu_fields = dict(reversed(pairs))
    words = f"{len(os.sched_getaffinity(0))} cores of {cpu_fields.get('model name', platform.machine())}"
    words += f" (model {cpu_fields['model']})" if "model" in cpu_fields else ""
    flags = cpu_fields.get("flags", "").split()
    known = {"avx512_bf16": "AVX-512 with BF16", "avx512f": "AVX-512", "avx2": "AVX2"}
    words += next((f", {name}" for flag, name in known.items() if flag in flags), "")
    total = re.search(r"MemTotal: *(\d+) kB", memory.read_text() if memory.exists() else "")
    return words + (f", {int(total[1]) / 2**20:.0f} GiB of memory" if total else "")


def with_results(page: str, inner: str) -> str:
    """The page with `inner` in place of what stands between the markers."""
    for marker in (BEGIN, END):
        if page.count(marker) != 1:
            sys.exit(f"{PAGE} has {page.count(marker)} lines `{marker}`, not one: the figures go between two markers")
    before, rest = page.split(BEGIN)
    if END not in rest:
        sys.exit(f"{PAGE} has `{END}` before `{BEGIN}`")
    return f"{before}{BEGIN}\n\n{inner.rstrip()}\n\n{END}{rest.split(END)[1]}"


def write_whole(path: Path, content: str) -> None:
    """Writes a file whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.write_text(content, encoding="utf-8")
    new.replace(path)


def arguments() -> argparse.Namespace:
    def positive(word: str) -> int:
        if int(word) < 1:
            raise ValueError
        return int(word)

    def names(word: str) -> list[str]:
        if unknown := set(word.split(",")) - {peer.name for peer in PEERS}:
            raise argparse.ArgumentTypeError(f"no such peer: {', '.join(sorted(unknown))}")
        return word.split(",")

    every = ",".join(peer.name for peer in PEERS)
    python = os.environ.get("VITRINE_PEERS_PYTHON") or "python3"
    parser = argparse.ArgumentParser(prog="cargo xtask bench --peers", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("vitrine", help=argparse.SUPPRESS)
    parser.add_argument("--python", default=python, help="which has the peers [$VITRINE_PEERS_PYTHON, else python3]")
    parser.add_argument("--rounds", type=positive, default=5, help="how often each does each work, in turn [5]")
    parser.add_argument("--only", type=names, default=every, metavar="LIST", help=f"only these of {every}")
    parser.add_argument("--quick", action="store_true", help="one step each, to see whether all runs; writes no file")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    # A page without its markers shows before the measurement, not after it.
    with_results(PAGE.read_text(encoding="utf-8"), "")
    starts = {"vitrine": [given.vitrine]}
    peers = []
    for peer in (peer for peer in PEERS if peer.name in given.only):
        try:
            starts[peer.name] = found(peer, given.python)
            peers.append(peer)
        except (Failed, OSError) as why:
            advice = "docs/performance.md says how to install the peers"
            print(f"left out: {peer.name}: {why} ({advice})", file=sys.stderr, flush=True)
    rounds = 1 if given.quick else given.rounds
    results = measure(starts, peers, rounds, given.quick)
    if not any(measured(results, work, VITRINE.name) for work in WORKS):
        sys.exit("Vitrine did none of the work, so there is nothing to compare with")
    inner = results_text(results, rounds, " ".join(["cargo xtask bench --peers", *sys.argv[2:]]))
    if given.quick:
        print(f"{inner}\nThese are from --quick, one step each: nothing was written.")
        return
    write_whole(PAGE.parent / PICTURE, picture(results))
    # Read again: the work took a while, and somebody may have edited the page.
    write_whole(PAGE, with_results(PAGE.read_text(encoding="utf-8"), inner))
    print(f"wrote {PAGE} and {PAGE.parent / PICTURE}")


if __name__ == "__main__":
    main()
