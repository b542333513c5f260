//! The training loop: steps, epochs, checkpoints, and going on from one.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use toml::Table;
use vitrine_comm::{Alone, Collective};
use vitrine_data::{Batches, Loader};
use vitrine_nn::schedule::Schedule;
use vitrine_nn::{Model, Optimizer, Parameters, Pass};
use vitrine_tensor::Tensor;

use crate::atomic::write_atomic;
use crate::build::{self, Parts};
use crate::checkpoint::{self, Position, Sums, io_error};
use crate::description::Description;
use crate::error::{Result, TrainError};
use crate::evaluate::{count_correct, evaluate};
use crate::metrics::{EpochMetrics, Judgement, MetricsLog, StepLog};
use crate::objective::{DeviceBatch, Objective};
use crate::probe::{self, Probe};
use crate::recipe::{Training, document_text};
use crate::report::Report;
use crate::run_folder::{compare, lock, recorded};
use crate::sink::{Event, LEARNING_RATE, Sink, TRAIN_LOSS};
use crate::{export, groups, machine, step, weights};

mod finish;

pub use crate::run_folder::{BEST, CONFIG, LAST, METRICS, MODEL, STEPS, TEST, resumed_recipe};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done; the last one's figures.
    Finished(EpochMetrics),
    /// It was asked to stop, and wrote a checkpoint.
    Interrupted,
}

/// A training run in a folder.
pub struct Trainer {
    training: Training,
    folder: PathBuf,
    /// Nobody else writes to the folder while it is held.
    _lock: File,
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
    report: Report,
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

/// Figures of no more batches wait on the device, however seldom they are asked for: each has its logits with it.
const MOST_PENDING: usize = 32;

impl Trainer {
    /// Starts a run in a folder that holds none.
    pub fn create(parts: Parts, training: &Training, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(io_error("create", folder))?;
        let mut trainer = Self::build(parts, training, folder, |_, _, optimizer| {
            if folder.join(CONFIG).exists() {
                return Err(TrainError::RunExists { path: folder.to_owned() });
            }
            let path = folder.join(METRICS);
            // A kill before the configuration was written leaves an empty file, which is in nobody's way.
            let empty = fs::metadata(&path).is_ok_and(|file| file.len() == 0);
            let metrics =
                if empty { MetricsLog::resume(path, 0)? } else { MetricsLog::create(path)? };
            let name = optimizer.name().to_owned();
            Ok((metrics, Position { optimizer: name, ..Position::default() }))
        })?;
        if let Some(name) = &training.run.initial_weights {
            let (weights, parameters) = (weights::find(name, |_| {})?, &trainer.parameters);
            let known = export::known(trainer.model.as_ref())?;
            let adapted = weights::load(&weights, known.as_ref(), parameters, true)?;
            let anew = adapted.new_head.map(|why| format!("{why}: the head begins anew"));
            trainer.notices.extend(anew.into_iter().chain(adapted.notices));
        }
        trainer.keep_features()?;
        trainer.save_last(&mut ())?;
        // Last, for it is what makes the folder a run's: from here on there is a checkpoint to go on from.
        trainer.write_config()?;
        Ok(trainer)
    }

    /// Goes on with the run in a folder, from its last checkpoint, with a model, an objective and data as it began
    /// with. Only settings that leave the run's arithmetic as it is may differ. (More epochs do change what a cosine
    /// schedule gives for the steps to come.)
    pub fn resume(parts: Parts, training: &Training, folder: &Path) -> Result<Self> {
        let epochs = training.run.epochs as u64;
        let before = recorded(folder)?;
        let judged = parts.data.test.is_some();
        let mut trainer =
            Self::build(parts, training, folder, |document, parameters, optimizer| {
                compare(&before, document)?;
                let position = checkpoint::load(&folder.join(LAST), parameters, optimizer)?;
                let done = position.epochs;
                let test = folder.join(TEST);
                if done > epochs || (done == epochs && (!judged || test.exists())) {
                    return Err(TrainError::Finished { path: folder.to_owned(), epochs: done });
                }
                // The figures of a shorter run are none of this one's.
                if test.exists() {
                    fs::remove_file(&test).map_err(io_error("remove", &test))?;
                }
                // Not before: lines past the position are dropped from the file.
                Ok((MetricsLog::resume(folder.join(METRICS), done)?, position))
            })?;
        trainer.notices.extend(trainer.stretched(&before));
        trainer.keep_features()?;
        trainer.write_config()?;
        Ok(trainer)
    }

    /// What is to be said of a run that is resumed with another length, where its learning rate jumps.
    fn stretched(&self, before: &Table) -> Option<String> {
        let epochs = before.get("run")?.get("epochs")?.as_integer()?;
        let mut training = self.training.clone();
        training.run.epochs = epochs as usize;
        let before = schedule(&training, &self.train).ok()?;
        let next = self.position.steps;
        let last = before.learning_rate(next.checked_sub(1)?);
        let rate = self.schedule.learning_rate(next);
        let epochs_now = self.training.run.epochs;
        (rate != before.learning_rate(next)).then(|| {
            format!(
                "the schedule now has {epochs_now} epochs, not {epochs}: the learning rate is {rate:.6} in the next \
                 step, and was {last:.6} in the last one"
            )
        })
    }

    /// The parts of a run. `begin` gives its metrics and position, and may read a checkpoint for them.
    fn build(
        parts: Parts,
        training: &Training,
        folder: &Path,
        begin: impl FnOnce(&Table, &Parameters, &mut dyn Optimizer) -> Result<(MetricsLog, Position)>,
    ) -> Result<Self> {
        let Parts { model, parameters, data, objective } = parts;
        training.validate()?;
        let mut parameters = build::computed(training, parameters)?;
        groups::group(training, model.as_ref(), &mut parameters)?;
        let mut optimizer = build::optimizer(training)?;
        let input = model.input();
        training.data.check_classes(input.classes)?;
        let loader = |samples, shuffled| build::loader(training, &input, samples, shuffled);
        let (train, val) = (loader(data.train, true)?, loader(data.val, false)?);
        let test = data.test.map(|test| loader(test, false)).transpose()?;
        let schedule = schedule(training, &train)?;
        let lock = lock(folder)?;
        let settings = model.settings()?;
        let document = training.document(settings.clone(), objective.settings()?)?;
        let (metrics, mut position) = begin(&document, &parameters, optimizer.as_mut())?;
        for (part, loader, known) in [
            ("training", &train, &mut position.train_data),
            ("validation", &val, &mut position.val_data),
        ] {
            let found = loader.dataset().fingerprint();
            if *known.get_or_insert_with(|| found.clone()) != found {
                return Err(TrainError::OtherData { part, path: folder.to_owned() });
            }
        }
        let mut about = format!("{} validation images: {}", val.dataset().len(), data.about_val);
        if let Some(test) = &test {
            let images = test.dataset().len();
            about += &format!("; {images} test images, read once at the end");
        }
        let report = Report {
            path: folder.join("report.html"),
            title: format!("{} on {}", name(&settings), train.dataset().name()),
            epochs: metrics.epochs().to_vec(),
            total_epochs: training.run.epochs as u64,
            config: document_text(&document),
            machine: machine::describe(),
            about,
            judgement: None,
        };
        let description = Description {
            model: settings,
            num_classes: input.classes,
            label_names: train.dataset().class_names().to_vec(),
            pretrained_cfg: build::preprocessing(&training.data, &input),
        };
        Ok(Self {
            training: training.clone(),
            folder: folder.to_owned(),
            _lock: lock,
            steps: StepLog::resume(folder.join(STEPS), position.steps)?,
            report,
            model: model.into(),
            parameters,
            objective,
            optimizer,
            collective: Box::new(Alone),
            schedule,
            train,
            val,
            test,
            metrics,
            description,
            position,
            pending: Vec::new(),
            notices: Vec::new(),
        })
    }

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

    /// Trains until all epochs are done or `stop` is set; then the step under way is finished and a checkpoint written.
    /// `sink` is told the figures, beside the files in the run's folder.
    pub fn run(&mut self, sink: &mut dyn Sink, stop: &AtomicBool) -> Result<Outcome> {
        let total = self.training.run.epochs as u64;
        for text in std::mem::take(&mut self.notices) {
            sink.take(Event::Message(&text))?;
        }
        while self.position.epochs < total {
            let flow = self.run_epoch(sink, stop)?;
            // A run that was asked to stop after its last step is done all the same.
            if flow.is_break() && self.position.epochs < total {
                return Ok(Outcome::Interrupted);
            }
        }
        if self.finish(sink, stop)?.is_break() {
            return Ok(Outcome::Interrupted);
        }
        let last = self.metrics.epochs().last().copied();
        last.map(Outcome::Finished).ok_or_else(|| TrainError::NoRun { path: self.folder.clone() })
    }

    /// Where nothing but the head changes, what it reads is computed once.
    fn keep_features(&mut self) -> Result<()> {
        let Some(headed) = probe::keeps(&self.training, self.model.as_ref(), &self.parameters)
        else {
            return Ok(());
        };
        let images = self.train.dataset().len() + self.val.dataset().len();
        self.notices
            .push(format!("nothing but the head changes: features of {images} images are kept"));
        let loader = |loader: &Loader| probe::loader(headed, &self.parameters, loader);
        let (train, val) = (loader(&self.train)?, loader(&self.val)?);
        let test = self.test.as_ref().map(loader).transpose()?;
        self.model = Arc::new(Probe::new(self.model.clone(), train.image_shape()[0]));
        (self.train, self.val, self.test) = (train, val, test);
        Ok(())
    }

    /// The figures on the test part, if it was read.
    pub fn judgement(&self) -> Option<&Judgement> {
        self.report.judgement.as_ref()
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
        let mut loaded = self.train.epoch(epochs, first as usize);
        while self.position.batches < batches {
            let done = self.position.clone();
            if let Err(error) = self.accumulate(&mut loaded, sink) {
                return Err(self.stopped_by(error, done, sink));
            }
            self.update()?;
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

    /// The gradient over the batches of a step, of the mean loss of all their images. The weights stay as they are.
    fn accumulate(&mut self, loaded: &mut Batches, sink: &mut dyn Sink) -> Result<()> {
        let Training { run, optimizer, .. } = &self.training;
        self.parameters.zero_grads()?;
        let batches = self.train.batches_per_epoch() as u64;
        let group = (batches - self.position.batches).min(optimizer.accumulation as u64);
        let (size, samples) = (run.batch_size as u64, self.train.samples_per_epoch() as u64);
        let first = self.position.batches * size;
        let images_in_group = samples.min(first + group * size) - first;
        for _ in 0..group {
            let Some(batch) = loaded.next() else { break };
            let batch = batch?;
            let images = batch.labels.len() as u64;
            let share = images as f64 / images_in_group as f64;
            let on_device = DeviceBatch::upload(&batch, self.parameters.values().device())?;
            // The address of the dropout masks: the batch's number since the run began.
            let address = self.position.epochs * batches + self.position.batches;
            let pass = Pass::training(&self.parameters, run.seed, address);
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
        let val = evaluate(self.model.as_ref(), &self.parameters, &self.val, seen)?;
        let Some(val) = val else {
            self.save_last(sink)?;
            return Ok(ControlFlow::Break(()));
        };
        if !val.loss.is_finite() {
            return Err(self.not_finite(val.loss, self.position.batches, sink));
        }
        let metrics = EpochMetrics {
            epoch: self.position.epochs + 1,
            step: self.position.steps,
            train_loss: train.loss / images,
            train_accuracy: train.correct as f64 / images,
            val_loss: val.loss,
            val_accuracy: val.top1,
            learning_rate: self.schedule.learning_rate(self.position.steps.saturating_sub(1)),
            images_per_second: train.images as f64 / train_seconds,
            seconds: seconds(),
        };
        let event = Event::EpochEnds { metrics: &metrics };
        self.metrics.take(event)?;
        self.position.epochs += 1;
        self.position.batches = 0;
        self.position.sums = Sums::default();
        // `last` last: a kill before it repeats the epoch, and writes all of them again. After it, the run may be done.
        if self.metrics.best().is_some_and(|best| best.epoch == metrics.epoch) {
            self.save(BEST)?;
        }
        self.report.take(event)?;
        self.save_last(sink)?;
        sink.take(event)?;
        Ok(going(stop))
    }

    fn save_last(&mut self, sink: &mut dyn Sink) -> Result<()> {
        // Nothing is written before what led to it was looked at.
        self.read_pending(sink)?;
        self.steps.take(Event::Checkpoint)?;
        sink.take(Event::Checkpoint)?;
        self.save(LAST)
    }

    fn save(&mut self, name: &str) -> Result<()> {
        let folder = self.folder.join(name);
        let Self { parameters, optimizer, position, description, .. } = self;
        Ok(checkpoint::save(&folder, parameters, optimizer.as_mut(), position, description)?)
    }

    fn write_config(&self) -> Result<()> {
        Ok(write_atomic(&self.folder.join(CONFIG), self.report.config.as_bytes())?)
    }
}

fn schedule(training: &Training, train: &Loader) -> Result<Schedule> {
    let steps = train.batches_per_epoch().div_ceil(training.optimizer.accumulation);
    build::schedule(training, steps as u64)
}

/// What a model is called, by its settings: its preset, else its family.
pub fn name(settings: &Table) -> &str {
    let named = ["preset", "family"].iter().find_map(|key| settings.get(*key)?.as_str());
    named.unwrap_or("model")
}

/// Whether to go on, as far as whoever set `stop` is asked.
fn going(stop: &AtomicBool) -> ControlFlow<()> {
    if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
