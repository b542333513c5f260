"""Tests of `compare.py`, on figures that nobody measured. `python3 -m unittest` in this folder runs them, and so does
`cargo test -p xtask`."""

import sys
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

import compare
from compare import Cell, Failed, Results, Work

TRAIN, ONE_IMAGE = compare.WORKS[0], compare.WORKS[4]


def sample(work: Work = TRAIN, **programs: tuple[float, float] | str) -> Results:
    """Results of one work: the shortest step and the peak of each program, or why there are none."""
    cells = {}
    for name, figures in programs.items():
        name = name.replace("_", "-")
        if isinstance(figures, str):
            cells[name] = Cell(failure=figures)
        else:
            ms, peak = figures
            line = {"program": f"{name} 1.0", "min_ms": ms, "median_ms": 1.1 * ms, "peak_rss_mb": peak}
            cells[name] = Cell([line])
    return {work: cells}


FULL = sample(vitrine=(300, 400), saving_off=(500, 500), one_thread=(600, 400), torch=(1374, 1300), candle=(720, 2000))


class Plan(unittest.TestCase):
    def test_ours_are_spread_among_the_peers_and_all_have_one_turn(self):
        turns = [program.name for program in compare.in_turn(TRAIN, compare.PEERS[:4])]
        expected = ["vitrine", "torch", "saving-off", "torch-compile", "one-thread", "jax", "onnxruntime"]
        self.assertEqual(turns, expected)
        turns = compare.in_turn(ONE_IMAGE, compare.PEERS[:1])
        self.assertEqual([program.name for program in turns], ["vitrine", "torch"])

    def test_every_target_belongs_to_a_work_and_a_program(self):
        works = {((work.task, work.model, work.batch_size), work.precision) for work in compare.WORKS}
        for place, precision, name, _, _ in compare.TARGETS:
            self.assertIn((place, precision or "f32"), works)
            self.assertIn(name, [program.name for program in compare.PROGRAMS])
        self.assertEqual(len({work.title for work in compare.WORKS}), len(compare.WORKS))

    def test_ours_and_the_peers_are_asked_for_the_same(self):
        def line(start: str, work: Work, name: str, quick: bool = False) -> str:
            program = next(program for program in compare.PROGRAMS if program.name == name)
            return " ".join(compare.command([start], work, program, quick))

        numbers = "--precision f32 --batch-size 128 --threads 2 --warmup 2 --steps 6"
        ours = "vitrine bench train-step --recipe d2l --json"
        self.assertEqual(line("vitrine", TRAIN, "vitrine"), f"{ours} {numbers}")
        off = f"{ours} --set model.last_block_saving=false {numbers}"
        self.assertEqual(line("vitrine", TRAIN, "saving-off"), off)
        self.assertTrue(line("vitrine", TRAIN, "one-thread", quick=True).endswith("--threads 1 --warmup 1 --steps 1"))
        self.assertEqual(line("x", TRAIN, "torch-compile"), f"x --model d2l --compile {numbers}")
        self.assertIn("--model d2l --forward --precision f32 --batch-size 1 ", line("x", ONE_IMAGE, "openvino"))

    def test_every_peer_has_its_program_here(self):
        for peer in compare.PEERS:
            path = compare.FOLDER / (peer.script or f"{peer.crate}/Cargo.lock")
            self.assertTrue(path.is_file(), path)


class Measuring(unittest.TestCase):
    LINE = '{"program": "x 1", "what": "forward", "precision": "f32", "threads": 2, "batch_size": 1, '

    def ran(self, script: str) -> dict:
        return compare.run([sys.executable, "-c", script], ONE_IMAGE, compare.VITRINE)

    def failure(self, script: str) -> str:
        with self.assertRaises(Failed) as raised:
            self.ran(script)
        return str(raised.exception)

    def test_the_last_line_is_read(self):
        line = self.LINE + '"median_ms": 3.5, "min_ms": 3, "peak_rss_mb": null}'
        self.assertEqual(self.ran(f"print('a warning'); print({line!r})")["min_ms"], 3)
        self.assertIn("something else", self.failure(f"print({line.replace('f32', 'bf16')!r})"))
        for wrong in ["hello", "", "[]", self.LINE + '"median_ms": 1}', line.replace("3,", "0,")]:
            self.assertIn("no figures", self.failure(f"print({wrong!r})"))

    def test_a_failing_program_is_quoted(self):
        self.assertEqual(self.failure("import sys; sys.exit('error: no bf16\\nmore')"), "no bf16")
        self.assertEqual(self.failure("{}[1]"), "KeyError: 1")
        self.assertEqual(self.failure("import sys; sys.exit(3)"), "exit code 3")

    def test_rounds_are_summed_up_and_a_failure_in_one_is_not_hidden(self):
        rounds = [{"min_ms": ms, "median_ms": 1.1 * ms, "peak_rss_mb": 100 + ms} for ms in (30, 10, 20)]
        cell = Cell(rounds)
        self.assertEqual((cell.min_ms, cell.median_ms, cell.peak_mb), (10, 22, 130))
        self.assertIs(compare.measured({TRAIN: {"jax": cell}}, TRAIN, "jax"), cell)
        cell.failure = "out of memory"
        self.assertIsNone(compare.measured({TRAIN: {"jax": cell}}, TRAIN, "jax"))


class Writing(unittest.TestCase):
    def test_ratios_and_targets_stand_beside_the_figures(self):
        lines = compare.tables(FULL).splitlines()
        self.assertEqual(lines[0], "**Train step, d2l, batch 128, f32**")
        self.assertEqual(lines[3], "|---|---:|---:|---:|---:|---:|---:|---|")
        self.assertEqual(lines[4], "| Vitrine | 300 | 330 |  |  |  | 400 |  |")
        self.assertEqual(lines[6], "| Vitrine, 1 thread | 600 | 660 | 2.00× | 2.00× |  | 400 | ≥ 1.85×: reached (2.00) |")
        torch = "| PyTorch | 1374 | 1511 | 4.58× | 4.58× | 2.75× | 1300 | ≥ 4.5×: reached (4.58); "
        self.assertEqual(lines[7], torch + "saving off ≥ 2.8×: **missed** (2.75); memory ≤ 1/3: reached (0.31) |")
        self.assertTrue(lines[8].endswith("| 2000 | ≥ 3×: **missed** (2.40) |"))
        self.assertEqual({line.count("|") for line in lines[2:9]}, {9})

    def test_what_is_missing_has_a_footnote(self):
        lines = compare.tables(sample(vitrine="no\n| bf16", torch=(490, 900), jax="no | bf16")).splitlines()
        self.assertIn("| Vitrine | not available (1) |  |  |  |  |  |", lines)
        self.assertIn("| JAX, jit | not available (1) |  |  |  |  |  |", lines)
        self.assertTrue(any("≥ 4.5×: not measured" in line for line in lines))
        self.assertEqual(lines[-1], "1. no \\| bf16")

    def test_numbers_keep_three_digits(self):
        shown = [compare.milliseconds(value) for value in (1374.2, 99.96, 15.26, 2.514)]
        self.assertEqual(shown, ["1374", "100.0", "15.3", "2.51"])

    def test_bars_are_in_proportion_inside_and_the_longest_is_cut(self):
        text = compare.picture(sample(vitrine=(300, 1), torch=(1374, 1), burn=(9596, 1)))
        picture = xml.fromstring(text)
        bars = [element for element in picture if element.tag.endswith("rect")]
        widths = [float(element.get("width")) for element in bars]
        self.assertAlmostEqual(widths[1] / widths[0], 1374 / 300, delta=0.02)
        self.assertAlmostEqual(widths[2] / widths[0], compare.LONGEST, delta=0.02)
        self.assertEqual(text.count('class="cut"'), 1)
        self.assertIn(">9596 (31.99×)</text>", text)
        self.assertLess(float(bars[-1].get("y")) + compare.BAR, float(picture.get("height")))
        self.assertLessEqual(compare.LEFT + max(widths), compare.WIDTH - compare.RIGHT)

    def test_the_text_says_how_it_was_made(self):
        text = compare.results_text(FULL, 5, "cargo xtask bench --peers --rounds 5")
        for part in ["5 rounds", "--rounds 5\n```", "Programs: vitrine 1.0, ", compare.PICTURE, "| Vitrine | 300 |"]:
            self.assertIn(part, text)

    def test_the_page_has_a_place_which_is_filled_again_and_again(self):
        page = Path(compare.PAGE).read_text(encoding="utf-8")
        once = compare.with_results(page, "new\n\n")
        self.assertEqual(compare.with_results(once, "new"), once)
        self.assertNotIn("new", compare.with_results(once, "other")[len(page.split(compare.BEGIN)[0]) :][:40])
        for wrong in ["", compare.BEGIN, f"{compare.END}\n{compare.BEGIN}", f"{page}{compare.END}"]:
            with self.assertRaises(SystemExit):
                compare.with_results(wrong, "x")


if __name__ == "__main__":
    unittest.main()
