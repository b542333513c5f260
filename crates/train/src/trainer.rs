//! The training loop: steps, epochs, checkpoints, and going on from one.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use toml::Table;
use vitrine_comm::{Alone, Collective};
use vitrine_data::Loader;
use vitrine_nn::schedule::Schedule;
use vitrine_nn::{Model, Optimizer, Parameters, Pass, clip_grad_norm};
use vitrine_tensor::Tensor;

use crate::atomic::{AtomicWriteError, write_atomic};
use crate::build::{self, Parts};
use crate::checkpoint::{self, Position, Sums};
use crate::description::Description;
use crate::error::{Result, TrainError};
use crate::evaluate::{count_correct, evaluate};
use crate::metrics::{EpochMetrics, Judgement, MetricsLog};
use crate::objective::{DeviceBatch, Objective};
use crate::probe::{self, Probe};
use crate::recipe::{Training, document_text};
use crate::report::ReportPage;
use crate::resumed::{compare, recorded};
use crate::sink::{Event, LEARNING_RATE, Sink, TRAIN_LOSS};
use crate::steps::StepLog;
use crate::weights;
use crate::{export, groups};

mod finish;

pub use crate::resumed::resumed_recipe;

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
    report: ReportPage,
    description: Description,
    position: Position,
    /// What was not read back from the device yet.
    pending: Vec<PendingBatch>,
    /// What is said when the run goes on.
    notices: Vec<String>,
    judgement: Option<Judgement>,
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

/// The folder of the last checkpoint, in a run's folder.
pub const LAST: &str = "last";
/// The folder of the checkpoint with the best validation accuracy, in a run's folder.
pub const BEST: &str = "best";
/// The folder of the weights with the best validation accuracy in timm's form, in the folder of a run that is done.
pub const MODEL: &str = "model";
/// The resolved recipe, in a run's folder.
pub const CONFIG: &str = "config.toml";
/// The figures of each epoch, in a run's folder.
pub const METRICS: &str = "metrics.jsonl";
/// The figures on the test part, in the folder of a run that is done.
pub const TEST: &str = "test.json";
/// The figures of each optimizer step, in a run's folder.
pub const STEPS: &str = "steps.jsonl";

impl Trainer {
    /// Starts a run in a folder that holds none.
    pub fn create(parts: Parts, training: &Training, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(folder_error("create", folder))?;
        let mut trainer = Self::build(parts, training, folder, |document, _, optimizer| {
            if folder.join(CONFIG).exists() {
                return Err(TrainError::RunExists { path: folder.to_owned() });
            }
            let path = folder.join(METRICS);
            // A kill before the configuration was written leaves an empty file, which is in nobody's way.
            let empty = fs::metadata(&path).is_ok_and(|file| file.len() == 0);
            let metrics =
                if empty { MetricsLog::resume(path, 0)? } else { MetricsLog::create(path)? };
            let name = optimizer.name().to_owned();
            Ok((document, metrics, Position { optimizer: name, ..Position::default() }))
        })?;
        if let Some(name) = &training.run.initial_weights {
            let (weights, parameters) = (weights::find(name, |_| {})?, &trainer.parameters);
            let known = export::known(trainer.model.as_ref())?;
            trainer.notices.extend(weights::load(&weights, known.as_ref(), parameters, true)?);
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
                compare(&before, &document)?;
                let position = checkpoint::load(&folder.join(LAST), parameters, optimizer)?;
                let done = position.epochs;
                let test = folder.join(TEST);
                if done > epochs || (done == epochs && (!judged || test.exists())) {
                    return Err(TrainError::Finished { path: folder.to_owned(), epochs: done });
                }
                // The figures of a shorter run are none of this one's.
                match fs::remove_file(&test) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(folder_error("remove", &test)(error));
                    }
                    _ => {}
                }
                // Not before: lines past the position are dropped from the file.
                Ok((document, MetricsLog::resume(folder.join(METRICS), done)?, position))
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
        let before = build::schedule(&training, steps_per_epoch(&training, &self.train)).ok()?;
        let next = self.position.steps;
        let (rate, last) =
            (self.schedule.learning_rate(next), before.learning_rate(next.checked_sub(1)?));
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
        begin: impl FnOnce(
            Table,
            &Parameters,
            &mut dyn Optimizer,
        ) -> Result<(Table, MetricsLog, Position)>,
    ) -> Result<Self> {
        let Parts { model, parameters, data, objective } = parts;
        training.validate()?;
        let mut parameters = build::computed(training, parameters)?;
        groups::group(training, model.as_ref(), &mut parameters)?;
        let mut optimizer = build::optimizer(training)?;
        let input = model.input();
        training.data.check_classes(input.classes)?;
        let train = build::loader(training, &input, data.train, true)?;
        let val = build::loader(training, &input, data.val, false)?;
        let test =
            data.test.map(|test| build::loader(training, &input, test, false)).transpose()?;
        let schedule = build::schedule(training, steps_per_epoch(training, &train))?;
        let lock = lock(folder)?;
        let settings = model.settings()?;
        let title = format!("{} on {}", name(&settings), train.dataset().name());
        let document = training.document(settings.clone(), objective.settings()?)?;
        let (document, metrics, mut position) = begin(document, &parameters, optimizer.as_mut())?;
        for (part, loader, known) in [
            ("training", &train, &mut position.train_data),
            ("validation", &val, &mut position.val_data),
        ] {
            let found = loader.dataset().fingerprint();
            if *known.get_or_insert_with(|| found.clone()) != found {
                return Err(TrainError::OtherData { part, path: folder.to_owned() });
            }
        }
        let description = Description {
            model: settings,
            num_classes: input.classes,
            label_names: train.dataset().class_names().to_vec(),
            pretrained_cfg: build::preprocessing(&training.data, &input),
        };
        let about = format!("{} validation images: {}", val.dataset().len(), data.about_val);
        let about = match &test {
            None => about,
            Some(test) => {
                format!("{about}; {} test images, read once at the end", test.dataset().len())
            }
        };
        Ok(Self {
            training: training.clone(),
            folder: folder.to_owned(),
            _lock: lock,
            steps: StepLog::resume(folder.join(STEPS), position.steps)?,
            report: ReportPage {
                folder: folder.to_owned(),
                title,
                config: document_text(&document),
                about,
            },
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
            judgement: None,
        })
    }

    /// The same run as one of several ranks, whose gradients are summed.
    pub fn with_collective(self, collective: Box<dyn Collective>) -> Self {
        Self { collective, ..self }
    }

    /// How it is trained.
    pub fn training(&self) -> &Training {
        &self.training
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
        let (model, features) = (self.model.clone(), train.image_shape()[0]);
        self.model = Arc::new(Probe { model, features });
        (self.train, self.val, self.test) = (train, val, test);
        Ok(())
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
        let started = Instant::now();
        let before = self.position.sums.seconds;
        let epoch = self.position.epochs;
        let batches = self.train.batches_per_epoch() as u64;
        sink.take(Event::EpochBegins {
            epoch: epoch + 1,
            total_epochs: self.training.run.epochs as u64,
            batches,
            done: self.position.batches,
        })?;
        let mut rate = self.schedule.learning_rate(self.position.steps.saturating_sub(1));
        let first = self.position.batches as usize;
        let mut loaded = self.train.epoch(epoch, first);
        while self.position.batches < batches {
            let group =
                (batches - self.position.batches).min(self.training.optimizer.accumulation as u64);
            rate = self.schedule.learning_rate(self.position.steps);
            let done = self.position.clone();
            if let Err(error) = self.accumulate(&mut loaded, group, sink) {
                return Err(self.stopped_by(error, done, sink));
            }
            self.update(rate)?;
            let every = self.training.run.log_every.max(1);
            let due = self.position.batches / every > done.batches / every;
            if (due || self.pending.len() >= MOST_PENDING)
                && let Err(error) = self.read_pending(sink)
            {
                let now = self.position.clone();
                return Err(self.stopped_by(error, now, sink));
            }
            self.position.sums.seconds = before + started.elapsed().as_secs_f64();
            let stopping = stop.load(Ordering::Relaxed);
            let every = self.training.run.checkpoint_every;
            let due = every > 0 && self.position.steps.is_multiple_of(every);
            // The epoch's end has a checkpoint of its own.
            if (due || stopping) && self.position.batches < batches {
                self.save_last(sink)?;
            }
            if stopping && self.position.batches < batches {
                return Ok(ControlFlow::Break(()));
            }
        }
        drop(loaded);
        self.read_pending(sink)?;
        self.finish_epoch(rate, (started, before), sink, &|| match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }

    /// The gradient over a group of batches, of the mean loss of all their images. The weights stay as they are.
    fn accumulate(
        &mut self,
        loaded: &mut vitrine_data::Batches,
        group: u64,
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let device = self.parameters.values().device().clone();
        self.parameters.zero_grads()?;
        let size = self.training.run.batch_size as u64;
        let (first, samples) =
            (self.position.batches * size, self.train.samples_per_epoch() as u64);
        let images_in_group = samples.min(first + group * size) - first;
        for _ in 0..group {
            let Some(batch) = loaded.next() else { break };
            let batch = batch?;
            let images = batch.labels.len() as u64;
            let on_device = DeviceBatch::upload(&batch, &device)?;
            let number = self.position.batches;
            // The address of the dropout masks: the batch's number since the run began.
            let address = self.position.epochs * self.train.batches_per_epoch() as u64 + number;
            let pass = Pass::training(&self.parameters, self.training.run.seed, address);
            let output = self.model.forward(&pass, &pass.constant(on_device.images.clone()))?;
            let loss = self.objective.loss(&output, &on_device)?;
            drop(on_device);
            let share = images as f64 / images_in_group as f64;
            let scaled = if group > 1 { loss.scale(share)? } else { loss.clone() };
            let (logits, loss) = (output.prediction()?.into_value(), loss.into_value());
            drop(output);
            pass.backward(&scaled)?;
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
    fn update(&mut self, learning_rate: f64) -> Result<()> {
        self.collective.sum(self.parameters.grads()?)?;
        if self.training.optimizer.clip_norm > 0.0 {
            clip_grad_norm(&self.parameters, self.training.optimizer.clip_norm)?;
        }
        self.optimizer.step(&self.parameters, learning_rate)?;
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
        let kept = format!("The checkpoint in {} is kept.", self.folder.join(LAST).display());
        TrainError::NotFinite { loss, epoch: self.position.epochs + 1, batch, kept }
    }

    /// Validates, writes metrics, checkpoints and report. If the run is asked to stop meanwhile, that is done when it
    /// goes on; if it was before, the epoch is finished.
    fn finish_epoch(
        &mut self,
        learning_rate: f64,
        (started, before): (Instant, f64),
        sink: &mut dyn Sink,
        going: &dyn Fn() -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let train = self.position.sums;
        let train_seconds = before + started.elapsed().as_secs_f64();
        let finishing = going().is_break();
        let seen = |_| if finishing { ControlFlow::Continue(()) } else { going() };
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
            train_loss: train.loss / train.images.max(1) as f64,
            train_accuracy: train.correct as f64 / train.images.max(1) as f64,
            val_loss: val.loss,
            val_accuracy: val.top1,
            learning_rate,
            images_per_second: train.images as f64 / train_seconds,
            seconds: before + started.elapsed().as_secs_f64(),
        };
        let best = self.metrics.best().is_none_or(|best| metrics.better_than(best));
        let total_epochs = self.training.run.epochs as u64;
        let event = Event::EpochEnds { metrics: &metrics, total_epochs };
        self.metrics.take(event)?;
        self.position.epochs += 1;
        self.position.batches = 0;
        self.position.sums = Sums::default();
        // `last` last: a kill before it repeats the epoch, and writes all of them again. After it, the run may be done.
        if best {
            self.save(BEST)?;
        }
        self.report.take(event)?;
        self.save_last(sink)?;
        sink.take(event)?;
        Ok(going())
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

fn steps_per_epoch(training: &Training, train: &Loader) -> u64 {
    train.batches_per_epoch().div_ceil(training.optimizer.accumulation) as u64
}

/// What a model is called, by its settings: its preset, else its family.
pub fn name(settings: &Table) -> &str {
    let named = ["preset", "family"].iter().find_map(|key| settings.get(*key)?.as_str());
    named.unwrap_or("model")
}

pub(crate) fn folder_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> TrainError {
    let path = path.to_owned();
    move |source| TrainError::Folder { action, path, source }
}

/// Holds a run's folder for this process, as long as the file is open. Where the file system knows no locks, nobody is
/// kept out.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let failed =
        |source| AtomicWriteError::Failed { path: path.clone(), step: "creating it", source };
    let file = File::create(&path).map_err(failed)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(TrainError::RunBusy { path: folder.to_owned() }),
        _ => Ok(file),
    }
}
