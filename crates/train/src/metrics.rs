//! Figures of each epoch, and those of the end on the test part; the files `metrics.jsonl` and `test.json` in a run's
//! folder that hold them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::atomic::{AtomicWriteError, write_atomic};
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
    /// Learning rate of the epoch's last step.
    pub learning_rate: f64,
    /// Training images a second.
    pub images_per_second: f64,
    /// Seconds that the epoch took, validation included.
    pub seconds: f64,
}

impl EpochMetrics {
    /// Whether this epoch is better than another: its validation accuracy is higher. Of equal
    /// epochs the earlier one counts as the best.
    pub fn better_than(&self, other: &Self) -> bool {
        self.val_accuracy > other.val_accuracy
    }
}

/// The figures of a finished run on the test part, which was read this once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// The epoch whose weights were judged: the best by the validation part.
    pub epoch: u64,
    /// The figures.
    #[serde(flatten)]
    pub figures: Evaluation,
}

/// The best of some epochs by [`EpochMetrics::better_than`].
pub fn best_epoch(epochs: &[EpochMetrics]) -> Option<&EpochMetrics> {
    epochs.iter().reduce(|best, epoch| if epoch.better_than(best) { epoch } else { best })
}

/// Why metrics could not be read or written.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message says what each field is")]
pub enum MetricsError {
    /// The file could not be read.
    #[error("cannot read the metrics {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A line is no epoch.
    #[error("{}, line {line}: these are not the metrics of an epoch: {source}", path.display())]
    Line { path: PathBuf, line: usize, source: serde_json::Error },
    /// Epochs are out of order.
    #[error(
        "{}: epoch {epoch} follows epoch {previous}; epochs must count up from 1", path.display()
    )]
    Order { path: PathBuf, epoch: u64, previous: u64 },
    /// The file ends before the epoch that the run is to go on from.
    #[error(
        "{} ends with epoch {last}, but the checkpoint has completed epoch {completed}; \
         the two are not from the same run", path.display()
    )]
    TooShort { path: PathBuf, last: u64, completed: u64 },
    /// A new run would write over the metrics of another.
    #[error("{} exists already: choose another folder, or resume that run", path.display())]
    Exists { path: PathBuf },
    /// A figure is NaN or infinite, which JSON cannot hold.
    #[error("the metrics of epoch {epoch} cannot be written: `{field}` is not a finite number")]
    NotFinite { epoch: u64, field: String },
    /// The figures could not be put into JSON.
    #[error("the metrics of epoch {epoch} cannot be put into JSON: {source}")]
    Encode { epoch: u64, source: serde_json::Error },
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] AtomicWriteError),
}

/// The metrics of a run that is under way, and its file.
///
/// Each change rewrites the file in one atomic step, so a run that is killed leaves whole lines
/// only. Append an epoch before its checkpoint is written: a run that resumes from an older
/// checkpoint drops the lines past it, while a missing line could not be made up.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    epochs: Vec<EpochMetrics>,
}

impl MetricsLog {
    /// Starts the log of a new run. The file must not exist yet.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, MetricsError> {
        let path = path.into();
        if path.exists() {
            return Err(MetricsError::Exists { path });
        }
        write_atomic(&path, b"")?;
        Ok(Self { path, epochs: Vec::new() })
    }

    /// Goes on with the log of a run whose checkpoint has completed so many epochs. Lines past
    /// them are dropped. Where none is completed, the file may be missing.
    pub fn resume(path: impl Into<PathBuf>, completed: u64) -> Result<Self, MetricsError> {
        let path = path.into();
        if completed == 0 && !path.exists() {
            return Self::create(path);
        }
        let mut epochs = read_metrics(&path)?;
        let before = epochs.len();
        epochs.retain(|epoch| epoch.epoch <= completed);
        let last = epochs.last().map_or(0, |epoch| epoch.epoch);
        if last < completed {
            return Err(MetricsError::TooShort { path, last, completed });
        }
        let dropped = epochs.len() < before;
        let log = Self { path, epochs };
        if dropped {
            log.write(&log.epochs)?;
        }
        Ok(log)
    }

    /// Adds an epoch's line.
    pub fn append(&mut self, epoch: EpochMetrics) -> Result<(), MetricsError> {
        check_next(&self.path, self.epochs.last(), &epoch)?;
        self.epochs.push(epoch);
        let written = self.write(&self.epochs);
        if written.is_err() {
            self.epochs.pop();
        }
        written
    }

    fn write(&self, epochs: &[EpochMetrics]) -> Result<(), MetricsError> {
        let mut text = String::new();
        for epoch in epochs {
            let encoded = |source| MetricsError::Encode { epoch: epoch.epoch, source };
            let line = serde_json::to_string(epoch).map_err(encoded)?;
            // What is not finite has become null.
            if let Some((before, _)) = line.split_once("\":null") {
                let field = before.rsplit('"').next().unwrap_or_default().to_owned();
                return Err(MetricsError::NotFinite { epoch: epoch.epoch, field });
            }
            text.push_str(&line);
            text.push('\n');
        }
        Ok(write_atomic(&self.path, text.as_bytes())?)
    }

    /// The epochs so far.
    pub fn epochs(&self) -> &[EpochMetrics] {
        &self.epochs
    }

    /// The best epoch so far.
    pub fn best(&self) -> Option<&EpochMetrics> {
        best_epoch(&self.epochs)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Sink for MetricsLog {
    fn take(&mut self, event: Event<'_>) -> crate::Result<()> {
        match event {
            Event::EpochEnds { metrics, .. } => Ok(self.append(*metrics)?),
            _ => Ok(()),
        }
    }
}

/// Reads a `metrics.jsonl`. Fields that are not known are passed over.
pub fn read_metrics(path: &Path) -> Result<Vec<EpochMetrics>, MetricsError> {
    let text = fs::read_to_string(path)
        .map_err(|source| MetricsError::Read { path: path.into(), source })?;
    let mut epochs: Vec<EpochMetrics> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let epoch = serde_json::from_str(line).map_err(|source| MetricsError::Line {
            path: path.into(),
            line: index + 1,
            source,
        })?;
        check_next(path, epochs.last(), &epoch)?;
        epochs.push(epoch);
    }
    Ok(epochs)
}

fn check_next(
    path: &Path,
    previous: Option<&EpochMetrics>,
    epoch: &EpochMetrics,
) -> Result<(), MetricsError> {
    let previous = previous.map_or(0, |previous| previous.epoch);
    if epoch.epoch.checked_sub(previous) == Some(1) {
        Ok(())
    } else {
        Err(MetricsError::Order { path: path.into(), epoch: epoch.epoch, previous })
    }
}
