//! The results as Markdown: a table for each work, with the targets and what became of them.

use std::fmt::Write;

use super::figures::{Results, Summary};
use super::plan::{self, Contender, Measure, WORKS, Workload};

/// All tables, and below them why a program is missing from one.
pub fn markdown(results: &Results) -> String {
    let mut text = String::new();
    let mut notes = Notes::default();
    for work in &WORKS {
        if results.programs(work).next().is_some() {
            text.push_str(&table(work, results, &mut notes));
            text.push('\n');
        }
    }
    for (number, note) in (1..).zip(&notes.texts) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(text, "{number}. {note}");
    }
    text
}

/// Reasons why something is not available, each written once.
#[derive(Default)]
struct Notes {
    texts: Vec<String>,
}

impl Notes {
    fn number(&mut self, text: &str) -> usize {
        let position = self.texts.iter().position(|known| known == text);
        1 + position.unwrap_or_else(|| {
            self.texts.push(text.to_owned());
            self.texts.len() - 1
        })
    }
}

fn table(work: &Workload, results: &Results, notes: &mut Notes) -> String {
    let ours = results.of(work, Contender::Vitrine).ok();
    let off = results.of(work, Contender::VitrineWithoutSaving).ok();
    // The column for the saving's absence is only there where that was measured.
    let (off_heading, off_rule) = match off {
        Some(_) => (" to ours, saving off: minima |", "---:|"),
        None => ("", ""),
    };
    let mut text = format!(
        "**{}**\n\n\
         | | min, ms | median, ms | to ours: minima | medians |{off_heading} peak, MiB | target |\n\
         |---|---:|---:|---:|---:|{off_rule}---:|---|\n",
        work.title()
    );
    for program in results.programs(work) {
        let title = program.title(work);
        let summary = match results.of(work, program) {
            Ok(summary) => summary,
            Err(why) => {
                let number = notes.number(&note(why));
                let target = missing_target(work, program);
                let empty = if off.is_some() { " | | | | |" } else { " | | | |" };
                let _ = writeln!(text, "| {title} | not available ({number}) |{empty} {target} |");
                continue;
            }
        };
        let is_base = program == Contender::Vitrine;
        let ratio = |base: &Option<Summary>, of: fn(&Summary) -> f64| match base {
            Some(base) if !is_base => times(of(&summary) / of(base)),
            _ => String::new(),
        };
        let against_off = match &off {
            None => String::new(),
            Some(_) if program.is_ours() => "  |".to_owned(),
            Some(_) => format!(" {} |", ratio(&off, |it| it.min_ms)),
        };
        let _ = writeln!(
            text,
            "| {title} | {} | {} | {} | {} |{against_off} {} | {} |",
            milliseconds(summary.min_ms),
            milliseconds(summary.median_ms),
            ratio(&ours, |it| it.min_ms),
            ratio(&ours, |it| it.median_ms),
            summary.peak_rss_mb.map_or(String::new(), |mebibytes| format!("{mebibytes:.0}")),
            targets(work, program, &summary, &ours, &off),
        );
    }
    text
}

/// The targets that `program` sets, each with what was reached.
fn targets(
    work: &Workload,
    program: Contender,
    summary: &Summary,
    ours: &Option<Summary>,
    off: &Option<Summary>,
) -> String {
    let judged = plan::targets(work, program).map(|target| {
        let time = |base: &Option<Summary>| base.as_ref().map(|base| summary.min_ms / base.min_ms);
        let (figure, reached) = match target.measure {
            Measure::Time => (time(ours), true),
            Measure::TimeWithoutSaving => (time(off), true),
            Measure::Memory => {
                let ours = ours.as_ref().and_then(|ours| ours.peak_rss_mb);
                (ours.zip(summary.peak_rss_mb).map(|(ours, theirs)| ours / theirs), false)
            }
        };
        let verdict = match figure {
            None => "not measured".to_owned(),
            Some(figure) => {
                let reached = if reached { figure >= target.value } else { figure <= target.value };
                let word = if reached { "reached" } else { "**missed**" };
                format!("{word} ({figure:.2})")
            }
        };
        format!("{}: {verdict}", wanted(target))
    });
    judged.collect::<Vec<_>>().join("; ")
}

fn missing_target(work: &Workload, program: Contender) -> String {
    let wanted = plan::targets(work, program).map(|it| format!("{}: not measured", wanted(it)));
    wanted.collect::<Vec<_>>().join("; ")
}

fn wanted(target: &plan::Target) -> String {
    match target.measure {
        Measure::Time => format!("≥ {}×", target.value),
        Measure::TimeWithoutSaving => format!("saving off ≥ {}×", target.value),
        Measure::Memory => format!("memory ≤ 1/{:.0}", 1.0 / target.value),
    }
}

/// A reason as one line of Markdown.
fn note(why: &str) -> String {
    let mut line = why.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(160) {
        line.truncate(end);
        line.push('…');
    }
    line.replace('|', "\\|").replace('<', "&lt;")
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2}×")
}

/// Three digits that say something.
pub fn milliseconds(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::sample;
    use super::*;

    fn lines(results: &Results) -> Vec<String> {
        markdown(results).lines().map(str::to_owned).collect()
    }

    #[test]
    fn ratios_and_targets_stand_beside_the_figures() {
        let results = sample(&[
            (0, Contender::Vitrine, 300.0, 400.0),
            (0, Contender::VitrineWithoutSaving, 500.0, 500.0),
            (0, Contender::VitrineOneThread, 600.0, 400.0),
            (0, Contender::Torch, 1374.0, 1300.0),
            (0, Contender::Candle, 720.0, 2000.0),
        ]);
        let lines = lines(&results);
        assert_eq!(lines[0], "**Train step, d2l, batch 128, f32**");
        assert_eq!(lines[4], "| Vitrine | 300 | 330 |  |  |  | 400 |  |");
        assert_eq!(
            lines[5],
            "| Vitrine, last-block saving off | 500 | 550 | 1.67× | 1.67× |  | 500 |  |"
        );
        assert_eq!(
            lines[6],
            "| Vitrine, 1 thread | 600 | 660 | 2.00× | 2.00× |  | 400 | ≥ 1.85×: reached (2.00) |"
        );
        assert_eq!(
            lines[7],
            "| PyTorch | 1374 | 1511 | 4.58× | 4.58× | 2.75× | 1300 | ≥ 4.5×: reached (4.58); \
             saving off ≥ 2.8×: **missed** (2.75); memory ≤ 1/3: reached (0.31) |"
        );
        assert!(lines[8].ends_with("| 2000 | ≥ 3×: **missed** (2.40) |"), "{}", lines[8]);
        let columns = |line: &str| line.matches('|').count();
        assert!(lines[2..9].iter().all(|line| columns(line) == columns(&lines[3])));
    }

    #[test]
    fn what_is_missing_has_a_footnote() {
        let mut results = sample(&[(1, Contender::Torch, 490.0, 900.0)]);
        for program in [Contender::Vitrine, Contender::Jax] {
            results.add(&WORKS[1], program, Err(anyhow::anyhow!("no\n| bf16")));
        }
        let lines = lines(&results);
        assert!(
            lines.contains(&"| Vitrine | not available (1) | | | | |  |".to_owned()),
            "{lines:#?}"
        );
        assert!(lines.contains(&"| JAX, jit | not available (1) | | | | |  |".to_owned()));
        let torch = lines.iter().find(|line| line.starts_with("| PyTorch")).unwrap();
        assert!(torch.contains("≥ 3×: not measured"), "{torch}");
        assert_eq!(lines.last().unwrap(), "1. no \\| bf16");
    }

    #[test]
    fn numbers_keep_three_digits() {
        let shown = [1374.2, 99.96, 15.26, 2.514].map(milliseconds);
        assert_eq!(shown, ["1374", "100.0", "15.3", "2.51"]);
    }
}
