//! How a run begins, or goes on from its folder: what is in the folder, who may write to it, what it says of its
//! recipe, and what of that may differ when the run is resumed.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::sync::Arc;

use toml::{Table, Value};
use vitrine_comm::Alone;
use vitrine_data::Loader;
use vitrine_nn::schedule::Schedule;
use vitrine_nn::settings::SettingError;
use vitrine_nn::{Optimizer, Parameters};

use super::{Trainer, is_done};
use crate::atomic::{write_atomic, write_failed};
use crate::build::{self, Parts};
use crate::checkpoint::{self, Position, io_error};
use crate::description::Description;
use crate::error::{Result, TrainError};
use crate::metrics::{MetricsLog, StepLog, read_metrics};
use crate::probe::{self, Probe};
use crate::recipe::{Overrides, Recipe, Training, document_text};
use crate::report::{self, About};
use crate::tensorboard::EventFile;
use crate::{export, groups, machine, weights};

/// The last checkpoint, a folder.
pub const LAST: &str = "last";
/// The checkpoint with the best validation accuracy, a folder.
pub const BEST: &str = "best";
/// The weights with the best validation accuracy in timm's form, a folder: once the run is done.
pub const MODEL: &str = "model";
/// The checkpoints of the best epochs, a folder of folders, where they are asked for.
pub const CHECKPOINTS: &str = "checkpoints";
/// The best epoch's figures on the validation part.
pub const VALIDATION: &str = "validation.json";
/// Images that the run began with, as the model saw them.
pub const EXAMPLES: &str = "examples.png";
/// The resolved recipe.
pub const CONFIG: &str = "config.toml";
/// The figures of each epoch.
pub const METRICS: &str = "metrics.jsonl";
/// The figures on the test part: once the run is done.
pub const TEST: &str = "test.json";
/// The figures of each optimizer step.
pub const STEPS: &str = "steps.jsonl";

/// The keys that a resumed run may change.
const MAY_CHANGE: [&str; 14] = [
    "run.epochs",
    "run.patience",
    "run.threads",
    "run.device",
    "run.checkpoint_every",
    "run.checkpoint_hist",
    "run.log_every",
    "data.dir",
    "data.cache",
    "data.workers",
    "data.prefetch",
    "data.max_pixels",
    "data.max_broken",
    "model.recompute",
];

impl Trainer {
    /// Starts a run in a folder that holds none.
    pub fn create(parts: Parts, training: &Training, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(io_error("create", folder))?;
        let mut trainer = Self::build(parts, training, folder, |_, _, optimizer| {
            if folder.join(CONFIG).exists() {
                return Err(TrainError::RunExists { path: folder.to_owned() });
            }
            let optimizer = optimizer.name().to_owned();
            let position = Position { optimizer, ..Position::default() };
            Ok((MetricsLog::create(folder.join(METRICS))?, position))
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
                compare(&before, document)?;
                let position = checkpoint::load(&folder.join(LAST), parameters, optimizer)?;
                let done = position.epochs;
                let test = folder.join(TEST);
                let metrics = match training.run.patience {
                    0 => Vec::new(),
                    _ => read_metrics(&folder.join(METRICS))?,
                };
                let over = is_done(&training.run, &position, &metrics);
                // Runs of earlier versions do not say whether they are done.
                let said = report::about(folder)?.is_none_or(|about| about.finished);
                let finished = said && (!judged || test.exists());
                if done > epochs || (over && finished) {
                    return Err(TrainError::Finished { path: folder.to_owned(), epochs: done });
                }
                // The figures of a shorter run are none of this one's.
                if test.exists() {
                    fs::remove_file(&test).map_err(io_error("remove", &test))?;
                }
                // Not before: lines past the position are dropped from the file.
                Ok((MetricsLog::resume(folder.join(METRICS), done)?, position))
            })?;
        if let Some(about) = report::about(folder)? {
            trainer.about.command = about.command;
        }
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
        let mut changed = Vec::new();
        if rate != before.learning_rate(next) {
            changed.push(format!(
                "the learning rate is {rate:.6} in the next step, and was {last:.6} in the last one"
            ));
        }
        let size = |training: &Training| {
            training.image_size(self.position.epochs, self.model.input().size)
        };
        let (size_before, now) = (size(&training), size(&self.training));
        if size_before != now {
            let ((height, width), (tall, wide)) = (size_before, now);
            changed.push(format!(
                "training images of this epoch are {tall}x{wide}, and would have been {height}x{width}"
            ));
        }
        (!changed.is_empty()).then(|| {
            format!("the run now has {epochs_now} epochs, not {epochs}: {}", changed.join("; "))
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
        if let Some((height, width)) = training.refused_size(model.as_ref()) {
            let reason = format!(
                "the model takes no images of {height}x{width}; a Vision Transformer takes all that its patches divide \
                 with `model.dynamic_img_size = true`"
            );
            let sizes = format!("{:?}", training.augment.image_sizes.clone().unwrap_or_default());
            return Err(SettingError::conflict("augment.image_sizes", sizes, reason).into());
        }
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
        let arguments: Vec<String> =
            env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
        let about = About {
            title: format!("{} on {}", name(&settings), train.dataset().name()),
            machine: machine::describe(),
            images: about,
            command: arguments.join(" "),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            finished: false,
        };
        let config = document_text(&document);
        let description = Description {
            model: settings,
            num_classes: input.classes,
            label_names: train.dataset().class_names().to_vec(),
            pretrained_cfg: build::preprocessing(&training.data, &input),
            averaged: false,
        };
        Ok(Self {
            training: training.clone(),
            folder: folder.to_owned(),
            _lock: lock,
            steps: StepLog::resume(folder.join(STEPS), position.steps)?,
            events: EventFile::resume(folder, &position, &config)?,
            about,
            config,
            judgement: None,
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

    /// Where nothing but the head changes, what it reads is computed once.
    fn keep_features(&mut self) -> Result<()> {
        let Some(headed) = probe::head_alone(self.model.as_ref(), &self.parameters) else {
            return Ok(());
        };
        if !self.training.augment.is_off() {
            let text = "nothing but the head changes, but [augment] gives other images in each epoch; without it, the \
                        rest of the model would see each image once";
            self.notices.push(text.to_owned());
            return Ok(());
        }
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

    fn write_config(&self) -> Result<()> {
        checkpoint::write_json(&self.folder.join(report::ABOUT), &self.about)?;
        Ok(write_atomic(&self.folder.join(CONFIG), self.config.as_bytes())?)
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

/// The first key that differs and may not is an error.
fn compare(before: &Table, after: &Table) -> Result<()> {
    let text = |value: Option<&Value>| value.map_or("not set".to_owned(), Value::to_string);
    for (section, new) in after {
        let (Some(Value::Table(old)), Value::Table(new)) = (before.get(section), new) else {
            continue;
        };
        for leaf in old.keys().chain(new.keys()) {
            let (key, before, after) = (format!("{section}.{leaf}"), old.get(leaf), new.get(leaf));
            if before != after && !MAY_CHANGE.contains(&key.as_str()) {
                let (before, after) = (text(before), text(after));
                let allowed = MAY_CHANGE.join(", ");
                return Err(TrainError::ResumeDiffers { key, before, after, allowed });
            }
        }
    }
    Ok(())
}

/// What `config.toml` in a run's folder says, with the defaults of keys that it does not have.
fn recorded(folder: &Path) -> Result<Table> {
    let path = folder.join(CONFIG);
    if !path.exists() {
        return Err(TrainError::NoRun { path: folder.to_owned() });
    }
    let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
    Ok(Recipe::document_of(&text, &path.display().to_string())?)
}

/// The recipe of the run in a folder, with overrides that leave its arithmetic as it is.
pub fn resumed_recipe(folder: &Path, overrides: &Overrides) -> Result<Recipe> {
    let before = recorded(folder)?;
    let recipe = Recipe::load_file(&folder.join(CONFIG), overrides)?;
    compare(&before, &recipe.document()?)?;
    Ok(recipe)
}

/// Whether all is done in a run's folder, up to the judgement on the test part.
pub fn is_finished(folder: &Path) -> Result<bool> {
    let about = report::about(folder)?;
    Ok(folder.join(CONFIG).exists() && about.is_some_and(|about| about.finished))
}

/// Holds a run's folder for this process.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // A process that another thread is about to start may still have the file open.
        let _ = self.0.unlock();
    }
}

/// Holds a run's folder. Where the file system knows no locks, nobody is kept out.
fn lock(folder: &Path) -> Result<Lock> {
    let path = folder.join(".lock");
    let file = File::create(&path).map_err(write_failed(&path, "creating it"))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(TrainError::RunBusy { path: folder.to_owned() }),
        _ => Ok(Lock(file)),
    }
}
