//! [`Sink`]: where the figures of a run go. `metrics.jsonl`, the report and the progress on the terminal are sinks.

use crate::error::Result;
use crate::metrics::{EpochMetrics, Judgement};

/// What a run has to tell.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// An epoch, counted from 1, begins. So many of its batches were done by an earlier part of the run.
    EpochBegins {
        /// The epoch.
        epoch: u64,
        /// Epochs of the run.
        total_epochs: u64,
        /// Batches of the epoch.
        batches: u64,
        /// Those done.
        done: u64,
    },
    /// Figures of an optimizer step, counted from 1, each with its name, such as `train/loss`. They come when they were
    /// read, some steps later, in order.
    Step {
        /// The step.
        step: u64,
        /// Names and values.
        figures: &'a [(&'static str, f64)],
    },
    /// Images that the run begins with, as the model sees them: a picture of `channels` channels, height and width
    /// `size`.
    Examples {
        /// A PNG file.
        png: &'a [u8],
        /// Its height and width.
        size: (usize, usize),
        /// 1 or 3.
        channels: usize,
    },
    /// A batch of so many images was trained on.
    Batch {
        /// Images in it.
        images: u64,
    },
    /// What was told so far lasts from here on: a run that is resumed goes on from here.
    Checkpoint,
    /// An epoch is complete, with these figures.
    EpochEnds(&'a EpochMetrics),
    /// The last epoch is complete, and the best one's weights were judged on the test part.
    Judged(&'a Judgement),
    /// A line for a person.
    Message(&'a str),
}

/// The name of a step's loss.
pub const TRAIN_LOSS: &str = "train/loss";
/// The name of a step's learning rate.
pub const LEARNING_RATE: &str = "train/learning_rate";

/// Where figures go. An error stops the run.
pub trait Sink: Send {
    /// Takes note of an event.
    fn take(&mut self, event: Event<'_>) -> Result<()>;
}

/// Nowhere.
impl Sink for () {
    fn take(&mut self, _: Event<'_>) -> Result<()> {
        Ok(())
    }
}
