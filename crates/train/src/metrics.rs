//! Figures of each epoch, of each optimizer step, and of the end on the test part; the files `metrics.jsonl`,
//! `steps.jsonl` and `test.json` in a run's folder that hold them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use crate::atomic::{AtomicWriteError, append, write_atomic, write_atomic_with, write_failed};
use crate::error::Result;
use crate::evaluate::Evaluation;
use crate::sink::{Event, Sink};

/// The figures of one epoch: one line of `metrics.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// Optimizer steps done since the run began.
    pub step: u64,
    /// Mean loss over the epoch's training images, with dropout on and weights that change.
    pub train_loss: f64,
    /// Share of training images that were classified correctly, under the same conditions.
    pub train_accuracy: f64,
    /// Mean loss over the validation images, after the epoch.
    pub val_loss: f64,
    /// Share of validation images that were classified correctly.
    pub val_accuracy: f64,
    /// Share of validation images whose class was among the five likeliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_top5: Option<f64>,
    /// The mean loss with the averaged weights, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub averaged_val_loss: Option<f64>,
    /// The share that was classified correctly with these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub averaged_val_accuracy: Option<f64>,
    /// The share whose class was among the five likeliest with these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub averaged_val_top5: Option<f64>,
    /// Learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Training images a second.
    pub images_per_second: f64,
    /// Seconds that the epoch took, validation included.
    pub seconds: f64,
}

/// The figures of a finished run on the test part, which was read this once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The epoch whose weights were judged: the best by the validation part.
    pub epoch: u64,
    /// Whether they are the averaged ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub averaged: bool,
    /// The figures.
    #[serde(flatten)]
    pub figures: Evaluation,
}

impl EpochMetrics {
    /// Whether the averaged weights are better on the validation part than those that were trained.
    pub fn averaged_is_better(&self) -> bool {
        self.averaged_val_accuracy.is_some_and(|averaged| averaged > self.val_accuracy)
    }

    /// The validation loss of the better weights.
    pub fn loss(&self) -> f64 {
        self.averaged_val_loss.filter(|_| self.averaged_is_better()).unwrap_or(self.val_loss)
    }

    /// The validation accuracy of the better weights.
    pub fn accuracy(&self) -> f64 {
        self.averaged_val_accuracy.map_or(self.val_accuracy, |a| a.max(self.val_accuracy))
    }
}

/// The epoch with the highest validation accuracy; of equal ones the first.
pub fn best_epoch(epochs: &[EpochMetrics]) -> Option<&EpochMetrics> {
    epochs.iter().reduce(|best, next| if next.accuracy() > best.accuracy() { next } else { best })
}

/// Why metrics could not be read or written.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message says what each one is")]
pub enum MetricsError {
    #[error("cannot read the metrics {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}, line {line}: these are not the metrics of an epoch: {source}", path.display())]
    Line { path: PathBuf, line: usize, source: serde_json::Error },
    #[error(
        "{}: epoch {epoch} follows epoch {previous}; epochs must count up from 1", path.display()
    )]
    Order { path: PathBuf, epoch: u64, previous: u64 },
    #[error(
        "{} ends with epoch {last}, but the checkpoint has completed epoch {completed}; \
         the two are not from the same run", path.display()
    )]
    TooShort { path: PathBuf, last: u64, completed: u64 },
    #[error("{} exists already: choose another folder, or resume that run", path.display())]
    Exists { path: PathBuf },
    #[error("the metrics of epoch {epoch} cannot be written: `{field}` is not a finite number")]
    NotFinite { epoch: u64, field: String },
    #[error(transparent)]
    Write(#[from] AtomicWriteError),
}

/// The table of epochs beside `metrics.jsonl`.
pub const SUMMARY: &str = "summary.csv";

/// The metrics of a run that is under way, and its files.
///
/// Each change rewrites the file in one atomic step, so a run that is killed leaves whole lines only. Append an epoch
/// before its checkpoint is written: a run that resumes from an older checkpoint drops the lines past it, while a
/// missing line could not be made up.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    epochs: Vec<EpochMetrics>,
}

impl MetricsLog {
    /// Starts the log of a new run. There may be an empty file, which a killed one left.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, MetricsError> {
        let path = path.into();
        if fs::metadata(&path).is_ok_and(|file| file.len() > 0) {
            return Err(MetricsError::Exists { path });
        }
        let log = Self { path, epochs: Vec::new() };
        log.write()?;
        Ok(log)
    }

    /// Goes on with the log of a run whose checkpoint has completed so many epochs. Lines past them are dropped. Where
    /// none is completed, the file may be missing.
    pub fn resume(path: impl Into<PathBuf>, completed: u64) -> Result<Self, MetricsError> {
        let path = path.into();
        if completed == 0 && !path.exists() {
            return Self::create(path);
        }
        let epochs = read_metrics(&path)?;
        let mut log = Self { path, epochs };
        let last = log.epochs.len() as u64;
        if last < completed {
            return Err(MetricsError::TooShort { path: log.path, last, completed });
        }
        if last > completed {
            log.epochs.truncate(completed as usize);
            log.write()?;
        }
        Ok(log)
    }

    /// Adds an epoch's line.
    pub fn append(&mut self, epoch: EpochMetrics) -> Result<(), MetricsError> {
        check_next(&self.path, &self.epochs, &epoch)?;
        // What is not finite becomes null.
        let fields = json!(epoch);
        if let Some((field, _)) =
            fields.as_object().into_iter().flatten().find(|(_, v)| v.is_null())
        {
            return Err(MetricsError::NotFinite { epoch: epoch.epoch, field: field.clone() });
        }
        self.epochs.push(epoch);
        self.write().inspect_err(|_| {
            self.epochs.pop();
        })
    }

    fn write(&self) -> Result<(), MetricsError> {
        let written = write_atomic_with(&self.path, |file| {
            self.epochs.iter().try_for_each(|epoch| {
                serde_json::to_writer(&mut *file, epoch)?;
                writeln!(file)
            })
        });
        written?;
        Ok(write_atomic(&self.path.with_file_name(SUMMARY), self.summary().as_bytes())?)
    }

    /// The epochs as a table for spreadsheets, with timm's columns: shares are percentages there, and where weights are
    /// averaged, the figures are theirs.
    fn summary(&self) -> String {
        let row = |m: &EpochMetrics| {
            let top5 = m.averaged_val_top5.or(m.val_top5);
            let top5 = top5.map_or(String::new(), |top5| (100.0 * top5).to_string());
            let loss = m.averaged_val_loss.unwrap_or(m.val_loss);
            let top1 = 100.0 * m.averaged_val_accuracy.unwrap_or(m.val_accuracy);
            let EpochMetrics { epoch, train_loss, learning_rate, .. } = m;
            format!("{epoch},{train_loss},{loss},{top1},{top5},{learning_rate}\n")
        };
        let head = "epoch,train_loss,eval_loss,eval_top1,eval_top5,lr\n".to_owned();
        head + &self.epochs.iter().map(row).collect::<String>()
    }

    /// The epochs so far.
    pub fn epochs(&self) -> &[EpochMetrics] {
        &self.epochs
    }

    /// The best epochs so far, the best first; of equal ones the first.
    pub fn best_ones(&self, count: usize) -> Vec<u64> {
        let mut epochs: Vec<&EpochMetrics> = self.epochs.iter().collect();
        epochs.sort_by(|a, b| b.accuracy().total_cmp(&a.accuracy()));
        epochs.into_iter().take(count).map(|epoch| epoch.epoch).collect()
    }

    /// The best epoch so far.
    pub fn best(&self) -> Option<&EpochMetrics> {
        best_epoch(&self.epochs)
    }
}

impl Sink for MetricsLog {
    fn take(&mut self, event: Event<'_>) -> Result<()> {
        match event {
            Event::EpochEnds(metrics) => Ok(self.append(*metrics)?),
            _ => Ok(()),
        }
    }
}

/// Reads a `metrics.jsonl`. Fields that are not known are passed over.
pub fn read_metrics(path: &Path) -> Result<Vec<EpochMetrics>, MetricsError> {
    let text = fs::read_to_string(path)
        .map_err(|source| MetricsError::Read { path: path.into(), source })?;
    let mut epochs: Vec<EpochMetrics> = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let epoch = serde_json::from_str(text).map_err(|source| MetricsError::Line {
            path: path.into(),
            line,
            source,
        })?;
        check_next(path, &epochs, &epoch)?;
        epochs.push(epoch);
    }
    Ok(epochs)
}

fn check_next(
    path: &Path,
    before: &[EpochMetrics],
    next: &EpochMetrics,
) -> Result<(), MetricsError> {
    let (epoch, previous) = (next.epoch, before.len() as u64);
    if epoch == previous + 1 {
        Ok(())
    } else {
        Err(MetricsError::Order { path: path.into(), epoch, previous })
    }
}

/// `steps.jsonl`, a line of figures for each optimizer step. Lines are added whenever a checkpoint is written, so that
/// the file ends where a resumed run goes on.
#[derive(Debug)]
pub(crate) struct StepLog {
    path: PathBuf,
    /// Lines since the last checkpoint.
    waiting: String,
}

impl StepLog {
    /// Goes on after so many steps, 0 for a new run: what a killed run wrote past them is dropped, its last line
    /// perhaps torn.
    pub(crate) fn resume(path: PathBuf, steps: u64) -> Result<Self> {
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text.map_err(write_failed(&path, "reading what is there"))?,
        };
        let kept: usize = text.split_inclusive('\n').map_while(|line| kept(line, steps)).sum();
        if kept < text.len() || text.is_empty() {
            write_atomic(&path, &text.as_bytes()[..kept])?;
        }
        Ok(Self { path, waiting: String::new() })
    }
}

/// The length of a whole line that is of one of the first `steps` steps.
fn kept(line: &str, steps: u64) -> Option<usize> {
    let figures: Value = serde_json::from_str(line.strip_suffix('\n')?).ok()?;
    (figures.get("step")?.as_u64()? <= steps).then_some(line.len())
}

impl Sink for StepLog {
    fn take(&mut self, event: Event<'_>) -> Result<()> {
        match event {
            Event::Step { step, figures } => {
                let mut line = json!({ "step": step });
                for &(name, value) in figures {
                    line[name] = value.into();
                }
                self.waiting += &format!("{line}\n");
            }
            Event::Checkpoint if !self.waiting.is_empty() => {
                append(&self.path, self.waiting.as_bytes())?;
                self.waiting.clear();
            }
            _ => {}
        }
        Ok(())
    }
}
