//! The training loop: steps, epochs, checkpoints, and going on from one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use vitrine_data::Loader;
use vitrine_models::VisionTransformer;
use vitrine_nn::schedule::Schedule;
use vitrine_nn::{Optimizer, Parameters, Pass, clip_grad_norm};
use vitrine_tensor::Tensor;

use crate::atomic::write_atomic;
use crate::build::{self, Datasets};
use crate::checkpoint::{self, Position, Sums};
use crate::error::{Result, TrainError};
use crate::evaluate::{count_correct, evaluate, upload};
use crate::machine;
use crate::metrics::{EpochMetrics, MetricsLog};
use crate::progress::Progress;
use crate::recipe::{Overrides, Recipe};
use crate::report::Report;

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
    recipe: Recipe,
    folder: PathBuf,
    model: VisionTransformer,
    parameters: Parameters,
    optimizer: Box<dyn Optimizer>,
    schedule: Schedule,
    train: Loader,
    val: Loader,
    metrics: MetricsLog,
    position: Position,
    /// What was not read back from the device yet.
    pending: Vec<PendingBatch>,
}

/// A batch whose figures are still on the device.
struct PendingBatch {
    loss: Tensor,
    logits: Tensor,
    labels: Vec<i64>,
    /// Its number in the epoch, from 1.
    number: u64,
}

/// The folder of the last checkpoint, in a run's folder.
pub const LAST: &str = "last";
/// The folder of the checkpoint with the best validation accuracy, in a run's folder.
pub const BEST: &str = "best";
/// The resolved recipe, in a run's folder.
pub const CONFIG: &str = "config.toml";
/// The figures of each epoch, in a run's folder.
pub const METRICS: &str = "metrics.jsonl";

impl Trainer {
    /// Starts a run in a folder that holds none.
    pub fn create(recipe: Recipe, folder: &Path, data: &Datasets) -> Result<Self> {
        if folder.join(CONFIG).exists() {
            return Err(TrainError::RunExists { path: folder.to_owned() });
        }
        let mut trainer = Self::build(recipe, folder, data, |_, optimizer| {
            fs::create_dir_all(folder).map_err(|source| TrainError::Folder {
                action: "create",
                path: folder.to_owned(),
                source,
            })?;
            let path = folder.join(METRICS);
            // A kill before the configuration was written leaves an empty file, which is in nobody's way.
            let empty = fs::metadata(&path).is_ok_and(|file| file.len() == 0);
            let metrics =
                if empty { MetricsLog::resume(path, 0)? } else { MetricsLog::create(path)? };
            let name = optimizer.name().to_owned();
            Ok((metrics, Position { optimizer: name, ..Position::default() }))
        })?;
        trainer.save_last()?;
        // Last, for it is what makes the folder a run's: from here on there is a checkpoint to go on from.
        write_atomic(&folder.join(CONFIG), trainer.recipe.resolved_toml()?.as_bytes())?;
        Ok(trainer)
    }

    /// Goes on with the run in a folder, from its last checkpoint. Only settings that leave the run's arithmetic as it
    /// is may be overridden. (More epochs do change what a cosine schedule gives for the steps to come.)
    pub fn resume(recipe: Recipe, folder: &Path, data: &Datasets) -> Result<Self> {
        let epochs = recipe.run.epochs as u64;
        let trainer = Self::build(recipe, folder, data, |parameters, optimizer| {
            let position = checkpoint::load(&folder.join(LAST), parameters, optimizer)?;
            let done = position.epochs;
            if done >= epochs {
                return Err(TrainError::Finished { path: folder.to_owned(), epochs: done });
            }
            // Not before: lines past the position are dropped from the file.
            Ok((MetricsLog::resume(folder.join(METRICS), done)?, position))
        })?;
        write_atomic(&folder.join(CONFIG), trainer.recipe.resolved_toml()?.as_bytes())?;
        Ok(trainer)
    }

    /// The parts of a run. `begin` gives its metrics and position, and may read a checkpoint for them.
    fn build(
        recipe: Recipe,
        folder: &Path,
        data: &Datasets,
        begin: impl FnOnce(&Parameters, &mut dyn Optimizer) -> Result<(MetricsLog, Position)>,
    ) -> Result<Self> {
        let (model, parameters) = build::model(&recipe)?;
        let mut optimizer = build::optimizer(&recipe)?;
        let train = build::loader(&recipe, data.train.clone(), true)?;
        let val = build::loader(&recipe, data.val.clone(), false)?;
        let steps = train.batches_per_epoch().div_ceil(recipe.optimizer.accumulation) as u64;
        let schedule = build::schedule(&recipe, steps)?;
        let (metrics, position) = begin(&parameters, optimizer.as_mut())?;
        Ok(Self {
            recipe,
            folder: folder.to_owned(),
            model,
            parameters,
            optimizer,
            schedule,
            train,
            val,
            metrics,
            position,
            pending: Vec::new(),
        })
    }

    /// The resolved recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
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
    pub fn run(&mut self, progress: &mut Progress, stop: &AtomicBool) -> Result<Outcome> {
        let total = self.recipe.run.epochs as u64;
        while self.position.epochs < total {
            let flow = self.run_epoch(progress, stop)?;
            // A run that was asked to stop after its last step is done all the same.
            if flow == Flow::Stop && self.position.epochs < total {
                return Ok(Outcome::Interrupted);
            }
        }
        let last = self.metrics.epochs().last().copied();
        last.map(Outcome::Finished).ok_or_else(|| TrainError::NoRun { path: self.folder.clone() })
    }

    fn run_epoch(&mut self, progress: &mut Progress, stop: &AtomicBool) -> Result<Flow> {
        let started = Instant::now();
        let before = self.position.sums.seconds;
        let epoch = self.position.epochs;
        let batches = self.train.batches_per_epoch() as u64;
        progress.start_epoch(epoch + 1, self.recipe.run.epochs as u64, batches);
        progress.skip(self.position.batches);
        let mut rate = self.schedule.learning_rate(self.position.steps.saturating_sub(1));
        let first = self.position.batches as usize;
        let mut loaded = self.train.epoch(epoch, first);
        while self.position.batches < batches {
            let group =
                (batches - self.position.batches).min(self.recipe.optimizer.accumulation as u64);
            rate = self.schedule.learning_rate(self.position.steps);
            let done = self.position.clone();
            if let Err(error) = self.accumulate(&mut loaded, group, progress) {
                return Err(self.stopped_by(error, done));
            }
            self.update(rate)?;
            self.position.sums.seconds = before + started.elapsed().as_secs_f64();
            let stopping = stop.load(Ordering::Relaxed);
            let every = self.recipe.run.checkpoint_every;
            let due = every > 0 && self.position.steps.is_multiple_of(every);
            // The epoch's end has a checkpoint of its own.
            if (due || stopping) && self.position.batches < batches {
                self.save_last()?;
            }
            if stopping && self.position.batches < batches {
                return Ok(Flow::Stop);
            }
        }
        drop(loaded);
        self.read_pending(progress)?;
        self.finish_epoch(rate, started, before, progress)?;
        Ok(if stop.load(Ordering::Relaxed) { Flow::Stop } else { Flow::Continue })
    }

    /// The gradient over a group of batches. The weights stay as they are.
    fn accumulate(
        &mut self,
        loaded: &mut vitrine_data::Batches,
        group: u64,
        progress: &mut Progress,
    ) -> Result<()> {
        let device = self.parameters.values().device().clone();
        self.parameters.zero_grads()?;
        let mut due = false;
        for left in (0..group).rev() {
            let Some(batch) = loaded.next() else { break };
            let batch = batch?;
            let (images, labels) = upload(&batch, &device)?;
            let number = self.position.batches;
            // The address of the dropout masks: the batch's number since the run began.
            let address = self.position.epochs * self.train.batches_per_epoch() as u64 + number;
            let pass = Pass::training(&self.parameters, self.recipe.run.seed, address);
            let logits = self.model.forward(&pass, &pass.constant(images))?;
            let loss = logits.cross_entropy(&labels, self.recipe.loss.label_smoothing)?;
            let scaled = if group > 1 { loss.scale(1.0 / group as f64)? } else { loss.clone() };
            let (logits, loss) = (logits.into_value(), loss.into_value());
            pass.backward(&scaled)?;
            self.position.batches += 1;
            let (images, number) = (batch.labels.len() as u64, self.position.batches);
            self.pending.push(PendingBatch { loss, logits, labels: batch.labels.clone(), number });
            self.train.recycle(batch);
            due |= number.is_multiple_of(self.recipe.run.log_every.max(1));
            // Not within a group: what `stopped_by` goes back to has all figures of the batches before.
            let shown = if due && left == 0 { self.read_pending(progress)? } else { None };
            progress.step(shown, images);
        }
        Ok(())
    }

    /// One step of the optimizer.
    fn update(&mut self, learning_rate: f64) -> Result<()> {
        if self.recipe.optimizer.clip_norm > 0.0 {
            clip_grad_norm(&self.parameters, self.recipe.optimizer.clip_norm)?;
        }
        self.optimizer.step(&self.parameters, learning_rate)?;
        self.position.steps += 1;
        Ok(())
    }

    /// Goes back to the end of the last step, whose weights are still there, and writes a checkpoint if it can: a
    /// device that has no memory left for a step has what this needs.
    fn stopped_by(&mut self, error: TrainError, done: Position) -> TrainError {
        if matches!(error, TrainError::NotFinite { .. }) {
            return error;
        }
        self.pending.retain(|batch| batch.number <= done.batches);
        self.position = done;
        match self.save_last() {
            Ok(()) => TrainError::Stopped {
                source: Box::new(error),
                steps: self.position.steps,
                path: self.folder.clone(),
            },
            // What stopped the run is the news; the checkpoint before is still there.
            Err(_) => error,
        }
    }

    /// Reads what is still on the device; gives the last loss. A loss that is not finite ends the run.
    fn read_pending(&mut self, progress: &mut Progress) -> Result<Option<f32>> {
        let mut last = None;
        for batch in std::mem::take(&mut self.pending) {
            let loss = batch.loss.to_scalar()?;
            if !loss.is_finite() {
                return Err(self.not_finite(loss, batch.number, progress));
            }
            let sums = &mut self.position.sums;
            sums.images += batch.labels.len() as u64;
            sums.loss += loss * batch.labels.len() as f64;
            sums.correct += count_correct(&batch.logits, &batch.labels)?;
            last = Some(loss as f32);
        }
        Ok(last)
    }

    fn not_finite(&self, loss: f64, batch: u64, progress: &mut Progress) -> TrainError {
        progress.message("stopping: the loss is not finite");
        let kept = format!("The checkpoint in {} is kept.", self.folder.join(LAST).display());
        TrainError::NotFinite { loss, epoch: self.position.epochs + 1, batch, kept }
    }

    /// Validates, writes metrics, checkpoints and report.
    fn finish_epoch(
        &mut self,
        learning_rate: f64,
        started: Instant,
        before: f64,
        progress: &mut Progress,
    ) -> Result<()> {
        let train = self.position.sums;
        let train_seconds = before + started.elapsed().as_secs_f64();
        let val = evaluate(&self.model, &self.parameters, &self.val, |_| {})?;
        if !val.loss.is_finite() {
            return Err(self.not_finite(val.loss, self.position.batches, progress));
        }
        let share = |count: u64, of: u64| count as f64 / of.max(1) as f64;
        let metrics = EpochMetrics {
            epoch: self.position.epochs + 1,
            step: self.position.steps,
            train_loss: train.loss / train.images.max(1) as f64,
            train_accuracy: share(train.correct, train.images),
            val_loss: val.loss / val.images.max(1) as f64,
            val_accuracy: share(val.correct, val.images),
            learning_rate,
            images_per_second: train.images as f64 / train_seconds,
            seconds: before + started.elapsed().as_secs_f64(),
        };
        let best = self.metrics.best().is_none_or(|best| metrics.better_than(best));
        self.metrics.append(metrics)?;
        self.position.epochs += 1;
        self.position.batches = 0;
        self.position.sums = Sums::default();
        // `last` last: a kill before it repeats the epoch, and writes all of them again. After it, the run may be done.
        if best {
            self.save(BEST)?;
        }
        self.write_report()?;
        self.save_last()?;
        progress.finish_epoch(&metrics);
        Ok(())
    }

    fn save_last(&mut self) -> Result<()> {
        // Nothing is written before what led to it was looked at.
        self.read_pending(&mut Progress::silent())?;
        self.save(LAST)
    }

    fn save(&mut self, name: &str) -> Result<()> {
        let folder = self.folder.join(name);
        let Self { parameters, optimizer, position, .. } = self;
        Ok(checkpoint::save(&folder, parameters, optimizer.as_mut(), position)?)
    }

    fn write_report(&self) -> Result<()> {
        let title = match &self.recipe.model.preset {
            Some(preset) => format!("{preset} on {}", self.recipe.data.dataset),
            None => format!("Vision Transformer on {}", self.recipe.data.dataset),
        };
        let report = Report {
            title: &title,
            metrics: self.metrics.epochs(),
            total_epochs: self.recipe.run.epochs as u64,
            recipe_toml: &self.recipe.resolved_toml()?,
            machine: &machine::describe(),
        };
        Ok(report.write(&self.folder.join("report.html"))?)
    }
}

/// Whether the loop goes on.
#[derive(PartialEq)]
enum Flow {
    Continue,
    Stop,
}

/// The recipe of the run in a folder, with overrides that leave its arithmetic as it is.
pub fn resumed_recipe(folder: &Path, overrides: &Overrides) -> Result<Recipe> {
    let path = folder.join(CONFIG);
    if !path.exists() {
        return Err(TrainError::NoRun { path: folder.to_owned() });
    }
    let before = Recipe::load_file(&path, &Overrides::new())?;
    let after = Recipe::load_file(&path, overrides)?;
    let mut allowed = before.clone();
    allowed.model.recompute = after.model.recompute;
    allowed.run.epochs = after.run.epochs;
    allowed.run.threads = after.run.threads;
    allowed.run.device = after.run.device;
    allowed.run.checkpoint_every = after.run.checkpoint_every;
    allowed.run.log_every = after.run.log_every;
    allowed.data.workers = after.data.workers;
    allowed.data.prefetch = after.data.prefetch;
    let sections = [
        ("model", allowed.model == after.model),
        ("data", allowed.data == after.data),
        ("optimizer", allowed.optimizer == after.optimizer),
        ("schedule", allowed.schedule == after.schedule),
        ("loss", allowed.loss == after.loss),
        ("run", allowed.run == after.run),
    ];
    match sections.into_iter().find(|(_, same)| !same) {
        None => Ok(after),
        Some((section, _)) => Err(TrainError::ResumeDiffers { section }),
    }
}
