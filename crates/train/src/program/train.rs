//! `vitrine train`

use std::fs;
use std::io::ErrorKind;
use std::path::{self, Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use vitrine_data::Source;
use vitrine_nn::ParameterBuilder;
use vitrine_train::TrainError;
use vitrine_train::build::{self, Datasets, Parts};
use vitrine_train::description::Description;
use vitrine_train::progress::Progress;
use vitrine_train::recipe::Recipe;
use vitrine_train::threads::with_threads;
use vitrine_train::trainer::{self, CONFIG, Outcome, Trainer, resumed_recipe};
use vitrine_train::weights;

use super::arguments::{RecipeArguments, TrainArguments};
use super::{message, print, tell, warn_of};

/// Trains a new run or goes on with one.
pub fn run(arguments: TrainArguments) -> Result<ExitCode> {
    let mut overrides = arguments.recipe.overrides()?;
    let detected = match arguments.resume {
        None => RecipeArguments::detect(&mut overrides)?,
        Some(_) => None,
    };
    let mut initial = None;
    if let Some(name) = &arguments.weights {
        let found = weights::find(name, tell)?;
        weights::locate(&found)?;
        // What is no name on a Hub is found from anywhere.
        let path = path::absolute(&found)?;
        let name = if found == Path::new(name) { path.to_str() } else { Some(name.as_str()) };
        let name = name
            .with_context(|| format!("the name of {} is not UTF-8; rename it", path.display()))?;
        overrides.set(&format!("run.initial_weights={name}"))?;
        if let Some(about) = Description::beside(&found)? {
            overrides.describe(&about, false)?;
        }
        initial = Some(found);
    }
    let default = match detected {
        _ if arguments.weights.is_some() => "finetune",
        Some(Source::Folder | Source::Shards) => "scratch-small",
        _ => "d2l",
    };
    let source = arguments.recipe.source(default);
    let mut recipe = match &arguments.resume {
        Some(folder) => resumed_recipe(folder, &overrides)?,
        None => Recipe::load(source, &overrides)?,
    };
    // What cannot run is said before anything is fetched.
    build::device(recipe.training.run.device)?;
    if let Some(path) = arguments.out.as_ref().filter(|folder| folder.join(CONFIG).exists()) {
        return Err(TrainError::RunExists { path: path.clone() }.into());
    }
    let data = Datasets::load(&mut recipe.training, tell)?;
    if arguments.resume.is_none() {
        let classes = data.train.class_names().len();
        recipe.model = Recipe::load(source, overrides.classes_found(classes))?.model;
    }
    if let Some(found) = initial {
        // Before a model of any size is drawn.
        let mut declared = ParameterBuilder::new(0);
        recipe.model.build(&mut declared)?;
        weights::check(&found, Some(&recipe.model), &declared, true)?;
    }
    let training = &recipe.training;
    let (images, val_images) = (data.train.len(), data.val.len());
    let interrupt = Interrupt::listen()?;
    let resume = arguments.resume.is_some();
    let folder = match arguments.resume.or(arguments.out) {
        Some(folder) => folder,
        None => new_folder(trainer::name(&recipe.model.table()?))?,
    };
    let (outcome, judgement) = with_threads(training.run.threads, || -> Result<_> {
        let parts = Parts::of(&recipe, data)?;
        let mut trainer = match resume {
            true => Trainer::resume(parts, training, &folder)?,
            false => Trainer::create(parts, training, &folder)?,
        };
        let mut progress = Progress::stderr();
        progress.message(&format!(
            "{} parameters, {images} training and {val_images} validation images; run folder {}",
            trainer.parameters().count(),
            folder.display()
        ));
        let outcome = trainer.run(&mut progress, &interrupt.stop)?;
        warn_of(&trainer.broken());
        Ok((outcome, trainer.judgement().cloned()))
    })??;
    match outcome {
        Outcome::Finished(last) => {
            let report = folder.join("report.html");
            let test = judgement.map_or(String::new(), |judgement| {
                let (epoch, accuracy) = (judgement.epoch, judgement.figures.top1);
                format!("; test accuracy {accuracy:.4} with the weights of epoch {epoch}, the best")
            });
            let text = format!(
                "done: validation accuracy {:.4}, loss {:.4}{test}; report {}\n",
                last.val_accuracy,
                last.val_loss,
                report.display()
            );
            // The run is saved, whoever reads this.
            print(&text).unwrap_or_else(|error| tell(&message(&error)));
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Interrupted => {
            tell(&format!("stopped; `--resume {}` goes on", folder.display()));
            Ok(ExitCode::from(interrupt.code()))
        }
    }
}

/// What asks a run to stop: Ctrl-C, and what Slurm, containers, systemd and a lost connection send.
struct Interrupt {
    /// Set by the first signal; the second ends the program at once.
    stop: Arc<AtomicBool>,
    signal: Arc<AtomicI32>,
}

impl Interrupt {
    fn listen() -> Result<Self> {
        let mut signals = vec![SIGINT, SIGTERM];
        // `nohup` asks for it to be ignored.
        if !ignored(SIGHUP) {
            signals.push(SIGHUP);
        }
        let mut signals = Signals::new(signals).context("cannot listen for signals")?;
        let interrupt = Self { stop: Arc::default(), signal: Arc::new(AtomicI32::new(SIGINT)) };
        let (stop, first) = (interrupt.stop.clone(), interrupt.signal.clone());
        std::thread::spawn(move || {
            for signal in signals.forever() {
                if stop.load(Ordering::Relaxed) {
                    std::process::exit(128 + signal);
                }
                first.store(signal, Ordering::Relaxed);
                stop.store(true, Ordering::Relaxed);
                tell("\nfinishing this step; press Ctrl-C again to stop at once");
            }
        });
        Ok(interrupt)
    }

    /// What a shell gives for a program that the signal ended.
    fn code(&self) -> u8 {
        128 + self.signal.load(Ordering::Relaxed) as u8
    }
}

/// Whether whoever started this process has it ignore a signal, where the system tells.
fn ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// A new folder, named by the model and the time. Runs that start in the same second get one each.
fn new_folder(name: &str) -> Result<PathBuf> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let runs = PathBuf::from("runs");
    let failed = |folder: &PathBuf| format!("cannot create the folder {}", folder.display());
    fs::create_dir_all(&runs).with_context(|| failed(&runs))?;
    let mut folder = runs.join(format!("{name}-{seconds}"));
    for more in 2.. {
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                folder = runs.join(format!("{name}-{seconds}-{more}"));
            }
            created => {
                created.with_context(|| failed(&folder))?;
                break;
            }
        }
    }
    Ok(folder)
}
