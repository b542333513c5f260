//! Timing: a recipe's train step or forward pass on made-up images. Figures of single operations are in `benches/`.

#[cfg(feature = "cuda")]
use std::any::Any;
use std::fs;
use std::time::Instant;

use serde::Serialize;
#[cfg(feature = "cuda")]
use vitrine_cuda::{CudaBackend, KernelReport, Profiling};
use vitrine_data::Batch;
use vitrine_nn::{InputSpec, Model, Optimizer, Parameters, Pass};
use vitrine_tensor::{StreamKey, Tensor};

use crate::build;
use crate::error::{Result, TrainError};
use crate::objective::{DeviceBatch, Objective};
use crate::recipe::{Recipe, Training};
use crate::{groups, machine, step};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Work {
    /// Zero the gradients; upload a batch, forward, loss, backward (as often as gradients are accumulated); one step of
    /// the optimizer.
    TrainStep,
    /// Upload a batch, forward without dropout and gradients, read the loss.
    Forward,
}

impl Work {
    /// The name on the command line and in the figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::TrainStep => "train-step",
            Self::Forward => "forward",
        }
    }
}

/// The figures, with the keys of the scripts in `benches/peers`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchFigures {
    /// This program and its version.
    pub program: String,
    /// What was timed.
    pub what: &'static str,
    /// The number type of forward and backward.
    pub precision: &'static str,
    /// Threads of the CPU.
    pub threads: usize,
    /// Images in a step.
    pub batch_size: usize,
    /// Steps that were timed.
    pub steps: usize,
    /// The median time of a step, in milliseconds.
    pub median_ms: f64,
    /// The shortest time of a step, in milliseconds.
    pub min_ms: f64,
    /// Images a second at the median.
    pub images_per_second: f64,
    /// The most memory that this process has had, in MiB; `None` where the system does not tell.
    pub peak_rss_mb: Option<f64>,
}

/// A model with a made-up batch, ready to be timed.
pub struct Bench {
    work: Work,
    model: Box<dyn Model>,
    parameters: Parameters,
    training: Training,
    objective: Box<dyn Objective>,
    optimizer: Box<dyn Optimizer>,
    batch: Batch,
    steps_done: u64,
}

impl Bench {
    /// A recipe's model and optimizer, and a batch of uniform noise with labels 0, 1, 2, …
    pub fn of(recipe: &Recipe, work: Work) -> Result<Self> {
        let (model, mut parameters) = build::model(recipe)?;
        let training = &recipe.training;
        let InputSpec { channels, size: (height, width), classes, .. } = model.input();
        let (count, pixels) = (training.run.batch_size, channels * height * width);
        let mut batch = Batch { shape: [count, channels, height, width], ..Batch::default() };
        batch.images.reserve(count * pixels);
        for (image, label) in (0..count).zip((0..classes).cycle()) {
            // One image at a time: numbers for the whole batch would be the program's peak of memory.
            let noise = StreamKey { seed: training.run.seed, step: 0, stream: image as u32 };
            batch.images.extend(noise.uniform().take(pixels).map(|value| value as f32));
            batch.labels.push(label as i64);
        }
        groups::group(training, model.as_ref(), &mut parameters)?;
        let objective = recipe.objective.build(training, &model.input())?;
        let (optimizer, training) = (build::optimizer(training)?, training.clone());
        Ok(Self { work, model, parameters, training, objective, optimizer, batch, steps_done: 0 })
    }

    /// The parameters as they are now.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Does the work once, to the end on any device; gives the loss. A step has as many batches as the recipe
    /// accumulates; each is the same one.
    pub fn step(&mut self) -> Result<f64> {
        match self.work {
            Work::TrainStep => self.train_step(),
            Work::Forward => {
                let (batch, pass) = (self.upload()?, Pass::inference(&self.parameters));
                let output = self.model.forward(&pass, &pass.constant(batch.images))?;
                Ok(output.prediction()?.value().cross_entropy(&batch.labels, 0.0)?.to_scalar()?)
            }
        }
    }

    fn upload(&self) -> Result<DeviceBatch> {
        DeviceBatch::upload(&self.batch, self.parameters.values().device())
    }

    fn train_step(&mut self) -> Result<f64> {
        self.parameters.zero_grads()?;
        let mut losses = Vec::new();
        let (training, objective) = (&self.training, self.objective.as_ref());
        let batches = self.batches_in_step() as u64;
        let share = 1.0 / batches as f64;
        for number in self.steps_done * batches..(self.steps_done + 1) * batches {
            let pass = Pass::training(&self.parameters, training.run.seed, number);
            let model = self.model.as_ref();
            losses.push(step::backward(model, objective, pass, self.upload()?, share)?.0);
        }
        let rate = training.optimizer.learning_rate;
        step::update(training, &self.parameters, self.optimizer.as_mut(), rate)?;
        self.steps_done += 1;
        // Read last, so that a device has finished all that was asked of it.
        let losses: Vec<f64> = losses.iter().map(Tensor::to_scalar).collect::<Result<_, _>>()?;
        Ok(losses.iter().sum::<f64>() / batches as f64)
    }

    fn batches_in_step(&self) -> usize {
        match self.work {
            Work::TrainStep => self.training.optimizer.accumulation,
            Work::Forward => 1,
        }
    }

    /// What each kernel of the CUDA device does in a step, on average over `steps` steps (at least one) after `warmup`
    /// steps. If they are not timed, none is run, and the model's numbers are of no use afterwards.
    #[cfg(feature = "cuda")]
    pub fn kernels(&mut self, timed: bool, warmup: usize, steps: usize) -> Result<KernelReport> {
        let device = self.parameters.values().device().clone();
        let Some(backend) = (device.backend() as &dyn Any).downcast_ref::<CudaBackend>() else {
            return Err(no_kernels());
        };
        let mode = if timed { Profiling::Timed } else { Profiling::Counted };
        let steps = steps.max(1);
        if timed {
            for _ in 0..warmup {
                self.step()?;
            }
        }
        backend.start_profile(mode);
        for _ in 0..steps {
            self.step()?;
        }
        Ok(backend.kernel_report(steps, timed)?)
    }

    /// An error: this program has no CUDA device.
    #[cfg(not(feature = "cuda"))]
    pub fn kernels(&mut self, _timed: bool, _warmup: usize, _steps: usize) -> Result<String> {
        Err(no_kernels())
    }

    /// Times `steps` steps (at least one) after `warmup` that are not timed.
    pub fn run(&mut self, warmup: usize, steps: usize) -> Result<BenchFigures> {
        for _ in 0..warmup {
            self.step()?;
        }
        let mut times = Vec::with_capacity(steps.max(1));
        for _ in 0..steps.max(1) {
            let start = Instant::now();
            self.step()?;
            times.push(1000.0 * start.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        let median = median(&times);
        let batch_size = self.batch.labels.len() * self.batches_in_step();
        Ok(BenchFigures {
            program: format!("vitrine {}", env!("CARGO_PKG_VERSION")),
            what: self.work.name(),
            precision: self.training.run.precision.name(),
            threads: rayon::current_num_threads(),
            batch_size,
            steps: times.len(),
            median_ms: rounded(median, 1000.0),
            min_ms: rounded(times[0], 1000.0),
            images_per_second: rounded(1000.0 * batch_size as f64 / median, 10.0),
            peak_rss_mb: peak_rss_mb().map(|mebibytes| rounded(mebibytes, 10.0)),
        })
    }
}

fn no_kernels() -> TrainError {
    TrainError::Unavailable {
        what: "a table of kernels".into(),
        advice: "only a CUDA device has kernels: add --device cuda:0",
    }
}

/// The median of sorted times, of which there is at least one.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// The most memory that this process has had so far, in MiB, where the system tells.
pub fn peak_rss_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    machine::mebibytes(&status, "VmHWM:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[1.0, 3.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
    }
}
