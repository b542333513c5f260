//! The training loop: steps, epochs, checkpoints. How a run begins or goes on is in `begin`, how it ends in `finish`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use vitrine_comm::Collective;
use vitrine_data::{Batch, Batches, Loader};
use vitrine_nn::schedule::Schedule;
use vitrine_nn::{InputSpec, Model, Optimizer, Parameters, Pass};
use vitrine_tensor::Tensor;

use crate::atomic::write_atomic;
use crate::build;
use crate::checkpoint::{self, Position, Sums};
use crate::description::Description;
use crate::error::{Result, TrainError};
use crate::evaluate::{Answer, Evaluation, count_correct, evaluate};
use crate::metrics::{EpochMetrics, Judgement, MetricsLog, StepLog, best_epoch};
use crate::objective::{DeviceBatch, Objective};
use crate::picture::{self, Picture};
use crate::recipe::{RunRecipe, Training};
use crate::report::{self, About, Judged};
use crate::sink::{Event, LEARNING_RATE, Sink, TRAIN_LOSS};
use crate::step;
use crate::tensorboard::EventFile;

mod begin;
mod finish;

pub use begin::{
    BEST, CHECKPOINTS, CONFIG, EXAMPLES, LAST, METRICS, MODEL, STEPS, TEST, VALIDATION,
    is_finished, name, resumed_recipe,
};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done, or no more are wanted; the last one's figures.
    Finished(EpochMetrics),
    /// It was asked to stop, and wrote a checkpoint.
    Interrupted,
}

/// A training run in a folder.
pub struct Trainer {
    training: Training,
    folder: PathBuf,
    /// Nobody else writes to the folder while it is held.
    _lock: begin::Lock,
    model: Arc<dyn Model>,
    parameters: Parameters,
    objective: Box<dyn Objective>,
    optimizer: Box<dyn Optimizer>,
    collective: Box<dyn Collective>,
    schedule: Schedule,
    train: Loader,
    val: Loader,
    test: Option<Loader>,
    metrics: MetricsLog,
    steps: StepLog,
    events: EventFile,
    about: About,
    /// The resolved recipe.
    config: String,
    judgement: Option<Judgement>,
    description: Description,
    position: Position,
    /// What was not read back from the device yet.
    pending: Vec<PendingBatch>,
    /// What is said when the run goes on.
    notices: Vec<String>,
}

/// A batch whose figures are still on the device.
struct PendingBatch {
    loss: Tensor,
    logits: Tensor,
    labels: Vec<i64>,
    /// Its number in the epoch, from 1.
    number: u64,
    /// Its share of the images of its step.
    share: f64,
    /// The optimizer step that it is a part of, from 1.
    step: u64,
}

/// Images of the first batch that are kept for people.
const MOST_EXAMPLES: usize = 16;

/// Figures of no more batches wait on the device, however seldom they are asked for: each has its logits with it.
const MOST_PENDING: usize = 32;

impl Trainer {
    /// The same run as one of several ranks, whose gradients are summed.
    pub fn with_collective(self, collective: Box<dyn Collective>) -> Self {
        Self { collective, ..self }
    }

    /// The parameters as they are now.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Where the run is.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Trains until all epochs are done, no more are wanted, or `stop` is set; then the step under way is finished and
    /// a checkpoint written. `sink` is told the figures, beside the files in the run's folder.
    pub fn run(&mut self, sink: &mut dyn Sink, stop: &AtomicBool) -> Result<Outcome> {
        for text in std::mem::take(&mut self.notices) {
            sink.take(Event::Message(&text))?;
        }
        while !self.is_done() {
            let flow = self.run_epoch(sink, stop)?;
            // A run that was asked to stop after its last step is done all the same.
            if flow.is_break() && !self.is_done() {
                return Ok(Outcome::Interrupted);
            }
        }
        let (epochs, total) = (self.position.epochs, self.training.run.epochs);
        if epochs < total as u64 {
            let patience = self.training.run.patience;
            let text = format!(
                "ends after {epochs} of {total} epochs: the last {patience} were no better"
            );
            sink.take(Event::Message(&text))?;
        }
        if self.finish(sink, stop)?.is_break() {
            return Ok(Outcome::Interrupted);
        }
        let last = self.metrics.epochs().last().copied();
        last.map(Outcome::Finished).ok_or_else(|| TrainError::NoRun { path: self.folder.clone() })
    }

    /// Whether all epochs are done, or so many brought nothing that no more are wanted.
    fn is_done(&self) -> bool {
        is_done(&self.training.run, &self.position, self.metrics.epochs())
    }

    /// The figures on the test part, if it was read.
    pub fn judgement(&self) -> Option<&Judgement> {
        self.judgement.as_ref()
    }

    /// Why images could not be read and were passed over.
    pub fn broken(&self) -> Vec<String> {
        let loaders = [Some(&self.train), Some(&self.val), self.test.as_ref()];
        loaders.into_iter().flatten().flat_map(Loader::broken).collect()
    }

    fn run_epoch(&mut self, sink: &mut dyn Sink, stop: &AtomicBool) -> Result<ControlFlow<()>> {
        let (started, before) = (Instant::now(), self.position.sums.seconds);
        let seconds = || before + started.elapsed().as_secs_f64();
        let batches = self.train.batches_per_epoch() as u64;
        let Position { epochs, batches: first, .. } = self.position;
        let (epoch, total_epochs) = (epochs + 1, self.training.run.epochs as u64);
        sink.take(Event::EpochBegins { epoch, total_epochs, batches, done: first })?;
        self.fit_images(epochs)?;
        let mut loaded = self.train.epoch(epochs, first as usize);
        while self.position.batches < batches {
            let done = self.position.clone();
            if let Err(error) = self.accumulate(&mut loaded, sink) {
                return Err(self.stopped_by(error, done, sink));
            }
            if let Err(error) = self.update() {
                // A loss that is no number says more than what came of it.
                self.read_pending(sink)?;
                return Err(error);
            }
            let every = self.training.run.log_every;
            let due = self.position.batches / every > done.batches / every;
            if (due || self.pending.len() >= MOST_PENDING)
                && let Err(error) = self.read_pending(sink)
            {
                let now = self.position.clone();
                return Err(self.stopped_by(error, now, sink));
            }
            self.position.sums.seconds = seconds();
            let every = self.training.run.checkpoint_every;
            let due = every > 0 && self.position.steps.is_multiple_of(every);
            let flow = going(stop);
            // The epoch's end has a checkpoint of its own.
            if (due || flow.is_break()) && self.position.batches < batches {
                self.save_last(sink)?;
                if flow.is_break() {
                    return Ok(flow);
                }
            }
        }
        drop(loaded);
        self.read_pending(sink)?;
        self.finish_epoch(&seconds, sink, stop)
    }

    /// Makes the training images as large as an epoch wants them.
    fn fit_images(&mut self, epoch: u64) -> Result<()> {
        let input = self.model.input();
        let size = self.training.image_size(epoch, input.size);
        if self.train.config().preprocessing.size() != size {
            let (input, samples) = (InputSpec { size, ..input }, self.train.dataset().clone());
            let loader = build::loader(&self.training, &input, samples, true)?;
            self.train = loader.after(&self.train);
        }
        Ok(())
    }

    /// The gradient over the batches of a step, of the mean loss of all their images. The weights stay as they are.
    fn accumulate(&mut self, loaded: &mut Batches, sink: &mut dyn Sink) -> Result<()> {
        let (seed, size) = (self.training.run.seed, self.training.run.batch_size as u64);
        let most = self.training.optimizer.accumulation as u64;
        self.parameters.zero_grads()?;
        let batches = self.train.batches_per_epoch() as u64;
        let group = (batches - self.position.batches).min(most);
        let samples = self.train.dataset().len() as u64;
        let first = self.position.batches * size;
        let images_in_group = samples.min(first + group * size) - first;
        for _ in 0..group {
            let Some(batch) = loaded.next() else { break };
            let batch = batch?;
            if self.position.steps == 0 && self.position.batches == 0 {
                self.show(&batch, sink)?;
            }
            let images = batch.labels.len() as u64;
            let share = images as f64 / images_in_group as f64;
            let on_device = DeviceBatch::upload(&batch, self.parameters.values().device())?;
            // The address of the dropout masks: the batch's number since the run began.
            let address = self.position.epochs * batches + self.position.batches;
            let pass = Pass::training(&self.parameters, seed, address);
            let (model, objective) = (self.model.as_ref(), self.objective.as_ref());
            let (loss, logits) = step::backward(model, objective, pass, on_device, share)?;
            self.position.batches += 1;
            let (number, step) = (self.position.batches, self.position.steps + 1);
            let labels = batch.labels.clone();
            self.pending.push(PendingBatch { loss, logits, labels, number, share, step });
            self.train.recycle(batch);
            sink.take(Event::Batch { images })?;
        }
        Ok(())
    }

    /// Keeps images of the first batch, for people.
    fn show(&mut self, batch: &Batch, sink: &mut dyn Sink) -> Result<()> {
        let Some(picture) = picture::grid(batch, &self.model.input(), MOST_EXAMPLES) else {
            return Ok(());
        };
        let Picture { png, size, channels } = &picture;
        write_atomic(&self.folder.join(EXAMPLES), png)?;
        let event = Event::Examples { png, size: *size, channels: *channels };
        self.events.take(event)?;
        sink.take(event)
    }

    /// One step of the optimizer.
    fn update(&mut self) -> Result<()> {
        self.collective.sum(self.parameters.grads()?)?;
        let rate = self.schedule.learning_rate(self.position.steps);
        step::update(&self.training, &self.parameters, self.optimizer.as_mut(), rate)?;
        self.position.steps += 1;
        Ok(())
    }

    /// Goes back to the end of the last step, whose weights are still there, and writes a checkpoint if it can: a
    /// device that has no memory left for a step has what this needs.
    fn stopped_by(&mut self, error: TrainError, done: Position, sink: &mut dyn Sink) -> TrainError {
        if matches!(error, TrainError::NotFinite { .. }) {
            return error;
        }
        self.pending.retain(|batch| batch.number <= done.batches);
        self.position = done;
        match self.save_last(sink) {
            Ok(()) => TrainError::Stopped {
                source: Box::new(error),
                steps: self.position.steps,
                path: self.folder.clone(),
            },
            // What stopped the run is the news; the checkpoint before is still there.
            Err(_) => error,
        }
    }

    /// Reads what is still on the device, whole steps. A loss that is not finite ends the run. Where reading fails,
    /// nothing was read.
    fn read_pending(&mut self, sink: &mut dyn Sink) -> Result<()> {
        let (mut sums, mut step_loss, mut steps) = (self.position.sums, 0.0, Vec::new());
        for (i, batch) in self.pending.iter().enumerate() {
            let loss = batch.loss.to_scalar()?;
            if !loss.is_finite() {
                return Err(self.not_finite(loss, batch.number, sink));
            }
            sums.images += batch.labels.len() as u64;
            sums.loss += loss * batch.labels.len() as f64;
            sums.correct += count_correct(&batch.logits, &batch.labels)?;
            step_loss += loss * batch.share;
            if self.pending.get(i + 1).is_none_or(|next| next.step != batch.step) {
                steps.push((batch.step, std::mem::take(&mut step_loss)));
            }
        }
        self.pending.clear();
        self.position.sums = sums;
        for (step, loss) in steps {
            let rate = self.schedule.learning_rate(step - 1);
            let figures = [(TRAIN_LOSS, loss), (LEARNING_RATE, rate)];
            let event = Event::Step { step, figures: &figures };
            self.steps.take(event)?;
            self.events.take(event)?;
            sink.take(event)?;
        }
        Ok(())
    }

    fn not_finite(&self, loss: f64, batch: u64, sink: &mut dyn Sink) -> TrainError {
        // What stops the run is the news.
        let _ = sink.take(Event::Message("stopping: the loss is not finite"));
        let (epoch, kept) = (self.position.epochs + 1, self.folder.join(LAST));
        TrainError::NotFinite { loss, epoch, batch, kept }
    }

    /// Validates, writes metrics, checkpoints and report. If the run is asked to stop meanwhile, that is done when it
    /// goes on; if it was before, the epoch is finished.
    fn finish_epoch(
        &mut self,
        seconds: &dyn Fn() -> f64,
        sink: &mut dyn Sink,
        stop: &AtomicBool,
    ) -> Result<ControlFlow<()>> {
        let train = self.position.sums;
        let images = train.images.max(1) as f64;
        let train_seconds = seconds();
        let finishing = going(stop).is_break();
        let seen = |_| if finishing { ControlFlow::Continue(()) } else { going(stop) };
        let averaged = self.optimizer.averaged(&self.parameters)?;
        let mut figures = Vec::new();
        for parameters in [Some(self.parameters.clone()), averaged.clone()].into_iter().flatten() {
            let Some(val) = evaluate(self.model.as_ref(), &parameters, &self.val, seen)? else {
                self.save_last(sink)?;
                return Ok(ControlFlow::Break(()));
            };
            if !val.loss.is_finite() {
                return Err(self.not_finite(val.loss, self.position.batches, sink));
            }
            figures.push(val);
        }
        let metrics = EpochMetrics {
            epoch: self.position.epochs + 1,
            step: self.position.steps,
            train_loss: train.loss / images,
            train_accuracy: train.correct as f64 / images,
            val_loss: figures[0].loss,
            val_accuracy: figures[0].top1,
            val_top5: Some(figures[0].top5),
            averaged_val_loss: figures.get(1).map(|averaged| averaged.loss),
            averaged_val_accuracy: figures.get(1).map(|averaged| averaged.top1),
            averaged_val_top5: figures.get(1).map(|averaged| averaged.top5),
            learning_rate: self.schedule.learning_rate(self.position.steps.saturating_sub(1)),
            images_per_second: train.images as f64 / train_seconds,
            seconds: seconds(),
        };
        let event = Event::EpochEnds(&metrics);
        self.metrics.take(event)?;
        self.events.take(event)?;
        self.position.epochs += 1;
        self.position.batches = 0;
        self.position.sums = Sums::default();
        // `last` last: a kill before it repeats the epoch, and writes all of them again. After it, the run may be done.
        let better = averaged.filter(|_| metrics.averaged_is_better());
        let kept = self.metrics.best_ones(self.training.run.checkpoint_hist);
        let mut names = Vec::new();
        if self.metrics.best().is_some_and(|best| best.epoch == metrics.epoch) {
            names.push(BEST.to_owned());
            self.keep_answers(&figures[usize::from(better.is_some())])?;
        }
        if kept.contains(&metrics.epoch) {
            names.push(format!("{CHECKPOINTS}/{}", metrics.epoch));
        }
        for name in names {
            self.save(&name, better.as_ref())?;
        }
        if !kept.is_empty() {
            checkpoint::remove_others(&self.folder.join(CHECKPOINTS), metrics.epoch, &kept)?;
        }
        self.save_last(sink)?;
        report::write(&self.folder)?;
        sink.take(event)?;
        Ok(going(stop))
    }

    /// Writes the best epoch's figures, with pictures of its mistakes and doubtful answers.
    fn keep_answers(&self, figures: &Evaluation) -> Result<()> {
        let input = self.model.input();
        let pictures =
            self.pictures_of(figures, |_, pixels| Ok(picture::of_pixels(pixels, &input)))?;
        let judged = Judged { figures: figures.clone(), pictures, maps: BTreeMap::new() };
        Ok(checkpoint::write_json(&self.folder.join(VALIDATION), &judged)?)
    }

    /// What `draw` makes of the pixels of each answer that is kept, by the sample's index; without those that cannot be
    /// read or shown.
    fn pictures_of(
        &self,
        figures: &Evaluation,
        draw: impl Fn(&Answer, &[f32]) -> Result<Option<Vec<u8>>>,
    ) -> Result<BTreeMap<usize, String>> {
        let samples = self.val.dataset().as_ref();
        let preprocessing = &self.val.config().preprocessing;
        let mut pictures = BTreeMap::new();
        for answer in figures.mistakes.iter().chain(&figures.doubtful) {
            if let Some(pixels) = picture::pixels(samples, answer.sample, preprocessing)
                && let Some(png) = draw(answer, &pixels)?
            {
                pictures.insert(answer.sample, STANDARD.encode(png));
            }
        }
        Ok(pictures)
    }

    fn save_last(&mut self, sink: &mut dyn Sink) -> Result<()> {
        // Nothing is written before what led to it was looked at.
        self.read_pending(sink)?;
        self.steps.take(Event::Checkpoint)?;
        self.events.take(Event::Checkpoint)?;
        sink.take(Event::Checkpoint)?;
        self.save(LAST, None)
    }

    /// Writes a checkpoint, perhaps with the averaged weights in the place of those that are trained.
    fn save(&mut self, name: &str, averaged: Option<&Parameters>) -> Result<()> {
        let folder = self.folder.join(name);
        let Self { parameters, optimizer, position, description, .. } = self;
        let about = Description { averaged: averaged.is_some(), ..description.clone() };
        let parameters = averaged.unwrap_or(parameters);
        Ok(checkpoint::save(&folder, parameters, optimizer.as_mut(), position, &about)?)
    }
}

/// See [`Trainer::is_done`].
fn is_done(run: &RunRecipe, position: &Position, metrics: &[EpochMetrics]) -> bool {
    let best = best_epoch(metrics).filter(|_| run.patience > 0 && position.batches == 0);
    let most = best.map_or(u64::MAX, |best| best.epoch + run.patience as u64);
    position.epochs >= most.min(run.epochs as u64)
}

/// Whether to go on, as far as whoever set `stop` is asked.
fn going(stop: &AtomicBool) -> ControlFlow<()> {
    if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
