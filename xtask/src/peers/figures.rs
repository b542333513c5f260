//! What the programs print, one JSON line each, and the results of all rounds.

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::plan::{Contender, WORKS, Workload};

/// One line: what a process measured.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Figures {
    /// Name and version.
    pub program: String,
    what: String,
    precision: String,
    threads: u32,
    batch_size: u32,
    pub median_ms: f64,
    pub min_ms: f64,
    pub peak_rss_mb: Option<f64>,
}

impl Figures {
    /// Runs the command to its end and reads the last line that it prints.
    pub fn from_command(command: &mut Command) -> Result<Self> {
        let output = command.stdin(Stdio::null()).output().context("it did not start")?;
        if !output.status.success() {
            bail!(complaint(&output));
        }
        Self::from_text(&String::from_utf8_lossy(&output.stdout))
    }

    fn from_text(printed: &str) -> Result<Self> {
        let line = printed.lines().rev().find(|line| !line.trim().is_empty());
        let line = line.context("it printed nothing")?;
        let figures: Self =
            serde_json::from_str(line).with_context(|| format!("it printed no figures: {line}"))?;
        let times = [figures.min_ms, figures.median_ms];
        ensure!(times.iter().all(|time| time.is_finite() && *time > 0.0), "no times: {line}");
        Ok(figures)
    }

    /// Itself, if it is about what was asked for.
    pub fn checked(self, work: &Workload, program: Contender) -> Result<Self> {
        let Self { what, precision, threads, batch_size, .. } = &self;
        ensure!(
            (what.as_str(), precision.as_str(), *threads, *batch_size)
                == (work.task.name(), work.precision, program.threads(), work.batch_size),
            "it did something else: {what}, {precision}, {threads} threads, batch {batch_size}"
        );
        Ok(self)
    }
}

/// Why a process failed, in one line: what it said last if it is Python's list of calls, first otherwise.
fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = match lines.clone().any(|line| line.starts_with("Traceback")) {
        true => lines.next_back(),
        false => lines.next(),
    };
    let line = line.map(|line| line.trim_start_matches("error: ").to_owned());
    line.unwrap_or_else(|| output.status.to_string())
}

/// The figures of all rounds.
#[derive(Default)]
pub struct Results {
    cells: BTreeMap<(usize, Contender), Cell>,
}

#[derive(Default)]
struct Cell {
    rounds: Vec<Figures>,
    failure: Option<String>,
}

/// All rounds of one program at one work.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Name and version.
    pub program: String,
    /// The shortest step of all rounds.
    pub min_ms: f64,
    /// The median of the rounds' medians.
    pub median_ms: f64,
    /// The highest of all rounds.
    pub peak_rss_mb: Option<f64>,
}

impl Results {
    pub fn add(&mut self, work: &Workload, program: Contender, outcome: Result<Figures>) {
        let cell = self.cells.entry((index(work), program)).or_default();
        match outcome {
            Ok(figures) => cell.rounds.push(figures),
            Err(why) => cell.failure = Some(format!("{why:#}")),
        }
    }

    pub fn has_failed(&self, work: &Workload, program: Contender) -> bool {
        self.cells.get(&(index(work), program)).is_some_and(|cell| cell.failure.is_some())
    }

    /// The programs that were asked to do `work`, in the order of the tables.
    pub fn programs(&self, work: &Workload) -> impl Iterator<Item = Contender> {
        let index = index(work);
        self.cells.keys().filter(move |(work, _)| *work == index).map(|(_, program)| *program)
    }

    /// What `program` reached at `work`, or why it did not. A failure in any round counts: it would hide there.
    pub fn of(&self, work: &Workload, program: Contender) -> Result<Summary, &str> {
        let cell = self.cells.get(&(index(work), program)).ok_or("not measured")?;
        if let Some(why) = &cell.failure {
            return Err(why);
        }
        let first = cell.rounds.first().ok_or("not measured")?;
        let mut medians: Vec<f64> = cell.rounds.iter().map(|figures| figures.median_ms).collect();
        medians.sort_by(f64::total_cmp);
        let middle = medians.len() / 2;
        Ok(Summary {
            program: first.program.clone(),
            min_ms: cell.rounds.iter().map(|figures| figures.min_ms).fold(f64::INFINITY, f64::min),
            median_ms: match medians.len() % 2 {
                0 => (medians[middle - 1] + medians[middle]) / 2.0,
                _ => medians[middle],
            },
            peak_rss_mb: cell.rounds.iter().filter_map(|f| f.peak_rss_mb).reduce(f64::max),
        })
    }

    /// Names and versions of all programs that measured something, Vitrine's first.
    pub fn versions(&self) -> Vec<String> {
        let mut versions: Vec<String> = Vec::new();
        let mut cells: Vec<_> = self.cells.iter().collect();
        cells.sort_by_key(|((_, program), _)| *program);
        for version in cells.iter().flat_map(|(_, cell)| &cell.rounds).map(|f| &f.program) {
            if !versions.contains(version) {
                versions.push(version.clone());
            }
        }
        versions
    }
}

fn index(work: &Workload) -> usize {
    WORKS.iter().position(|known| known == work).unwrap_or(WORKS.len())
}

/// Results to write down, for the tests of `table`, `chart` and `page`.
#[cfg(test)]
pub fn sample(cells: &[(usize, Contender, f64, f64)]) -> Results {
    let mut results = Results::default();
    for &(work, program, ms, peak) in cells {
        let work = &WORKS[work];
        let line = format!(
            r#"{{"program": "{program:?} 1.0", "what": "{}", "precision": "{}", "threads": {},
            "batch_size": {}, "steps": 3, "median_ms": {}, "min_ms": {ms},
            "images_per_second": 1.0, "peak_rss_mb": {peak}}}"#,
            work.task.name(),
            work.precision,
            program.threads(),
            work.batch_size,
            1.1 * ms,
        );
        let figures =
            Figures::from_text(&line.replace('\n', " ")).and_then(|f| f.checked(work, program));
        assert!(figures.is_ok(), "{figures:?}");
        results.add(work, program, figures);
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        r#"{"program":"x 1","what":"train-step","precision":"f32","threads":2,"batch_size":128,"#;

    fn read(times: &str) -> Result<Figures> {
        Figures::from_text(&format!("a warning\n{LINE}{times}\n\n"))
    }

    #[test]
    fn the_last_line_is_read() {
        let figures = read(r#""median_ms":3.5,"min_ms":3,"peak_rss_mb":null}"#).unwrap();
        assert_eq!((figures.median_ms, figures.min_ms, figures.peak_rss_mb), (3.5, 3.0, None));
        assert!(figures.clone().checked(&WORKS[0], Contender::Torch).is_ok());
        let wrong = figures.clone().checked(&WORKS[1], Contender::Torch).unwrap_err().to_string();
        assert!(wrong.contains("train-step, f32, 2 threads, batch 128"), "{wrong}");
        assert!(figures.checked(&WORKS[0], Contender::VitrineOneThread).is_err());
    }

    #[test]
    fn what_is_no_line_of_figures_is_refused() {
        assert!(Figures::from_text("").is_err());
        assert!(Figures::from_text("hello\n").unwrap_err().to_string().contains("hello"));
        assert!(read(r#""median_ms":1.0}"#).is_err());
        assert!(read(r#""median_ms":1.0,"min_ms":0.0}"#).is_err());
        assert!(read(r#""median_ms":NaN,"min_ms":1.0}"#).is_err());
    }

    #[test]
    fn rounds_are_summed_up() {
        let cells = [30.0, 10.0, 20.0].map(|ms| (0, Contender::Torch, ms, 100.0 + ms));
        let results = sample(&cells);
        let summary = results.of(&WORKS[0], Contender::Torch).unwrap();
        assert_eq!((summary.min_ms, summary.median_ms), (10.0, 22.0));
        assert_eq!(summary.peak_rss_mb, Some(130.0));
        let even = sample(&cells[..2]).of(&WORKS[0], Contender::Torch).unwrap();
        assert_eq!(even.median_ms, 22.0);
        assert_eq!(results.of(&WORKS[1], Contender::Torch), Err("not measured"));
        assert_eq!(results.versions(), ["Torch 1.0"]);
    }

    #[test]
    fn a_failure_in_one_round_is_not_hidden() {
        let mut results = sample(&[(0, Contender::Jax, 1.0, 1.0)]);
        assert!(!results.has_failed(&WORKS[0], Contender::Jax));
        results.add(&WORKS[0], Contender::Jax, Err(anyhow::anyhow!("out of memory")));
        assert!(results.has_failed(&WORKS[0], Contender::Jax));
        assert_eq!(results.of(&WORKS[0], Contender::Jax), Err("out of memory"));
    }

    #[cfg(unix)]
    #[test]
    fn a_failing_program_is_quoted() {
        let why = |script: &str| {
            let mut command = Command::new("sh");
            Figures::from_command(command.args(["-c", script])).unwrap_err().to_string()
        };
        assert_eq!(why("echo 'error: no bf16' >&2; echo more >&2; exit 1"), "no bf16");
        let trace =
            "printf 'Traceback (most recent call last):\\n  File\\nKeyError: 1\\n' >&2; exit 1";
        assert_eq!(why(trace), "KeyError: 1");
        assert!(why("exit 3").contains('3'));
        assert_eq!(why("true"), "it printed nothing");
    }
}
