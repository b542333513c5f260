//! `vitrine train`

use std::fs;
use std::io::ErrorKind;
use std::path::{self, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use vitrine_data::Source;
use vitrine_train::TrainError;
use vitrine_train::build::{self, Datasets, Parts};
use vitrine_train::description::Description;
use vitrine_train::hub::HubName;
use vitrine_train::metrics::Judgement;
use vitrine_train::progress::Progress;
use vitrine_train::recipe::Recipe;
use vitrine_train::threads::with_threads;
use vitrine_train::trainer::{self, CONFIG, Outcome, Trainer, resumed_recipe};
use vitrine_train::weights;

use super::arguments::{RecipeArguments, TrainArguments};
use super::{message, print, tell, warn_of};

/// Trains a new run or goes on with one.
pub fn run(arguments: TrainArguments) -> Result<ExitCode> {
    let heard = listen()?;
    let Done { outcome, judgement, folder } = train(arguments, &heard.0, &mut Progress::stderr())?;
    let Outcome::Finished(last) = outcome else {
        tell(&format!("stopped; `--resume {}` goes on", folder.display()));
        return Ok(interrupted(&heard));
    };
    let mut text =
        format!("done: validation accuracy {:.4}, loss {:.4}", last.accuracy(), last.loss());
    if let Some(Judgement { epoch, averaged, figures }) = judgement {
        text += &format!("; test accuracy {:.4}", figures.top1);
        let which = if averaged { "averaged weights" } else { "weights" };
        text += &format!(" with the {which} of epoch {epoch}, the best");
    }
    text += &format!("; report {}\n", folder.join("report.html").display());
    // The run is saved, whoever reads this.
    print(&text).unwrap_or_else(|error| tell(&message(&error)));
    Ok(ExitCode::SUCCESS)
}

/// What a run came to.
pub struct Done {
    pub outcome: Outcome,
    judgement: Option<Judgement>,
    folder: PathBuf,
}

/// Trains until all is done or `stop` is set.
pub fn train(
    arguments: TrainArguments,
    stop: &AtomicBool,
    progress: &mut Progress,
) -> Result<Done> {
    let mut overrides = arguments.recipe.overrides()?;
    let detected = match arguments.resume {
        None => RecipeArguments::detect(&mut overrides)?,
        Some(_) => None,
    };
    let mut initial = None;
    if let Some(name) = &arguments.weights {
        let found = weights::find(name, tell)?;
        weights::locate(&found)?;
        let stated = match (name.split('@').next(), found.file_name()) {
            // The trainer finds this commit in the cache, and asks nobody.
            (Some(repo), Some(commit)) if repo.starts_with(HubName::PREFIX) => {
                format!("{repo}@{}", commit.display())
            }
            // A path is found from anywhere.
            _ => path::absolute(&found)?.into_os_string().into_string().map_err(|path| {
                anyhow!("the name of {} is not UTF-8; rename it", path.display())
            })?,
        };
        overrides.set(&format!("run.initial_weights={stated}"))?;
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
        weights::check(&found, &recipe.model)?;
    }
    let training = &recipe.training;
    let (images, val_images) = (data.train.len(), data.val.len());
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
        progress.message(&format!(
            "{} parameters, {images} training and {val_images} validation images; run folder {}",
            trainer.parameters().count(),
            folder.display()
        ));
        let outcome = trainer.run(progress, stop)?;
        warn_of(&trainer.broken());
        Ok((outcome, trainer.judgement().cloned()))
    })??;
    Ok(Done { outcome, judgement, folder })
}

/// What asked a run to stop: whether, and which signal.
pub type Heard = (Arc<AtomicBool>, Arc<AtomicI32>);

/// What a shell gives for a program that the signal ended.
pub fn interrupted((_, signal): &Heard) -> ExitCode {
    ExitCode::from(128 + signal.load(Ordering::Relaxed) as u8)
}

/// Listens for what asks a run to stop: Ctrl-C, and what Slurm, containers, systemd and a lost connection send. The
/// first signal sets the flag, and which one it was; the second ends the program at once.
pub fn listen() -> Result<Heard> {
    let mut signals = vec![SIGINT, SIGTERM];
    // `nohup` asks for it to be ignored.
    if !ignored(SIGHUP) {
        signals.push(SIGHUP);
    }
    let mut signals = Signals::new(signals).context("cannot listen for signals")?;
    let (stop, first) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI32::new(SIGINT)));
    let heard = (stop.clone(), first.clone());
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
    Ok(heard)
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
    let mut number = 1;
    while let Err(error) = fs::create_dir(&folder) {
        if error.kind() != ErrorKind::AlreadyExists {
            return Err(error).with_context(|| failed(&folder));
        }
        number += 1;
        folder = runs.join(format!("{name}-{seconds}-{number}"));
    }
    Ok(folder)
}
