//! `vitrine train`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use vitrine_train::TrainError;
use vitrine_train::build::{self, Datasets};
use vitrine_train::progress::Progress;
use vitrine_train::recipe::Recipe;
use vitrine_train::threads::with_threads;
use vitrine_train::trainer::{CONFIG, Outcome, Trainer, resumed_recipe};

use super::arguments::TrainArguments;

/// Trains a new run or goes on with one.
pub fn run(arguments: TrainArguments) -> Result<ExitCode> {
    let overrides = arguments.recipe.overrides()?;
    let recipe = match &arguments.resume {
        Some(folder) => resumed_recipe(folder, &overrides)?,
        None => Recipe::load(arguments.recipe.source(), &overrides)?,
    };
    // What cannot run is said before anything is fetched.
    build::device(&recipe)?;
    if let Some(path) = arguments.out.as_ref().filter(|folder| folder.join(CONFIG).exists()) {
        return Err(TrainError::RunExists { path: path.clone() }.into());
    }
    let data = Datasets::load(&recipe, arguments.data, |text| eprintln!("{text}"))?;
    let stop = interrupted()?;
    let resume = arguments.resume.is_some();
    let folder = arguments.resume.or(arguments.out).unwrap_or_else(|| new_folder(&recipe));
    let outcome = with_threads(recipe.run.threads, || -> Result<Outcome> {
        let mut trainer = match resume {
            true => Trainer::resume(recipe, &folder, &data)?,
            false => Trainer::create(recipe, &folder, &data)?,
        };
        let mut progress = Progress::stderr();
        progress.message(&format!(
            "{} parameters, {} training and {} validation images; run folder {}",
            trainer.parameters().count(),
            data.train.len(),
            data.val.len(),
            folder.display()
        ));
        Ok(trainer.run(&mut progress, &stop)?)
    })??;
    match outcome {
        Outcome::Finished(last) => {
            println!(
                "done: validation accuracy {:.4}, loss {:.4}; report {}",
                last.val_accuracy,
                last.val_loss,
                folder.join("report.html").display()
            );
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Interrupted => {
            eprintln!("stopped; `--resume {}` goes on", folder.display());
            Ok(ExitCode::from(130))
        }
    }
}

/// Set by the first Ctrl-C; the second ends the program at once.
fn interrupted() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nfinishing this step; press Ctrl-C again to stop at once");
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

/// A folder named by recipe and time.
fn new_folder(recipe: &Recipe) -> PathBuf {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let name = recipe.model.preset.as_deref().unwrap_or("vit");
    PathBuf::from("runs").join(format!("{name}-{seconds}"))
}
