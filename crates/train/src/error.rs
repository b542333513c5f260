//! Why a run stops: the errors of the trainer, each naming the file or the setting, and what to do.

use std::path::PathBuf;

use thiserror::Error;

use crate::atomic::AtomicWriteError;
use crate::checkpoint::CheckpointError;
use crate::metrics::MetricsError;
use crate::recipe::RecipeError;

/// Why a run could not start, or stopped.
#[derive(Debug, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message says what each one is")]
pub enum TrainError {
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    Setting(#[from] vitrine_nn::settings::SettingError),
    #[error(transparent)]
    Data(#[from] vitrine_data::DataError),
    #[error(transparent)]
    Model(#[from] vitrine_nn::Error),
    #[error(transparent)]
    Tensor(#[from] vitrine_tensor::Error),
    #[error(transparent)]
    Autodiff(#[from] vitrine_autodiff::Error),
    #[error("the schedule does not fit the run: {0}")]
    Schedule(#[from] vitrine_nn::schedule::ScheduleError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Write(#[from] AtomicWriteError),
    #[error(
        "{} holds a run already: choose another folder with --out, or go on with --resume {}",
        path.display(), path.display()
    )]
    RunExists { path: PathBuf },
    #[error("{} holds no run: there is no config.toml in it", path.display())]
    NoRun { path: PathBuf },
    #[error(
        "the run in {} has done its {epochs} epochs; --epochs N with a larger N goes on, and --set run.patience=0 \
         where it ended early", path.display()
    )]
    Finished { path: PathBuf, epochs: u64 },
    #[error(
        "`{key}` differs from the run that is resumed: it was {before} and would be {after}; only {allowed} may \
         change. Start a new run for anything else"
    )]
    ResumeDiffers { key: String, before: String, after: String, allowed: String },
    #[error(
        "the {part} data differ from those of the run in {}: names, number, labels or pixels are others. Give it the \
         data that it began with, or start a new run", path.display()
    )]
    OtherData { part: &'static str, path: PathBuf },
    #[error("{} is being written to by another process; wait for it, or choose another folder", path.display())]
    RunBusy { path: PathBuf },
    #[error(
        "the loss is {loss} in epoch {epoch}, batch {batch}: the run stops. The checkpoint in {} is kept. \
         A lower learning rate, warm-up or clip_norm may help", kept.display()
    )]
    NotFinite { loss: f64, epoch: u64, batch: u64, kept: PathBuf },
    #[error("{source}\nThe run is saved as it was after step {steps}: `--resume {}` goes on", path.display())]
    Stopped { source: Box<TrainError>, steps: u64, path: PathBuf },
    #[error("the model's {what} is not finite: its weights are of no use")]
    NotFiniteOutput { what: &'static str },
    #[error("{what} is not available: {advice}")]
    Unavailable { what: String, advice: &'static str },
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Cuda(#[from] vitrine_cuda::Error),
    #[error("cannot start {threads} threads: {message}")]
    Threads { threads: usize, message: String },
    #[error(
        "the data set {dataset} has {found} classes, the model {expected}; set model.classes={found}"
    )]
    Classes { dataset: String, found: usize, expected: usize },
}

/// The result of a part of a run.
pub type Result<T, E = TrainError> = std::result::Result<T, E>;
