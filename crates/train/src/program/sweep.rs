//! `vitrine sweep`

use std::fs::{self, File};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use vitrine_train::atomic::write_atomic;
use vitrine_train::progress::Progress;
use vitrine_train::recipe::{Recipe, recipe_text, sweep_section};
use vitrine_train::sweep::{Run, Sweep};
use vitrine_train::trainer::{CONFIG, Outcome, is_finished};

use super::arguments::{SweepArguments, TrainArguments};
use super::{message, print, tell, train};

/// What all runs of a sweep have in common, in its folder: others may not be added to them.
#[derive(PartialEq, Serialize, Deserialize)]
struct Base {
    recipe: Option<String>,
    set: Vec<String>,
    weights: Option<String>,
}

const BASE: &str = "sweep.json";

/// Trains all runs that are not done yet, and writes what they came to after each.
pub fn run(arguments: SweepArguments) -> Result<ExitCode> {
    let SweepArguments { recipe, weights, over, seeds, jobs, out } = arguments;
    let mut sweep = match &recipe.recipe {
        Some(source) => Sweep::read(&sweep_section(source)?)?,
        None => Sweep::default(),
    };
    over.iter().try_for_each(|assignment| sweep.set(assignment))?;
    if let Some(seeds) = seeds {
        sweep.seeds(seeds.get())?;
    }
    let runs = sweep.runs();
    if runs.len() < 2 {
        bail!(
            "nothing to sweep over: give --over key=a,b or --seeds N, or a recipe with a section [sweep]"
        );
    }
    let base = Base {
        recipe: recipe.recipe.as_deref().map(recipe_text).transpose()?,
        set: recipe.stated(),
        weights: weights.clone(),
    };
    fs::create_dir_all(&out)
        .with_context(|| format!("cannot create the folder {}", out.display()))?;
    let path = out.join(BASE);
    match fs::read(&path) {
        Ok(before) if serde_json::from_slice::<Base>(&before).ok().as_ref() == Some(&base) => {}
        Ok(_) => bail!(
            "{} holds runs of another recipe or with other settings; choose another --out",
            out.display()
        ),
        Err(_) => write_atomic(&path, &serde_json::to_vec_pretty(&base)?)?,
    }

    let heard = train::listen()?;
    let jobs = jobs.get().min(runs.len());
    let threads = match Recipe::load(recipe.source("d2l"), &recipe.overrides()?) {
        Ok(resolved) if resolved.training.run.threads > 0 => resolved.training.run.threads,
        _ => thread::available_parallelism().map_or(1, usize::from),
    };
    let recipe = match jobs {
        1 => recipe,
        jobs => recipe.with("run.threads", &(threads / jobs).max(1).to_string()),
    };
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // One writes the results at a time.
    let results = Mutex::new(());
    let one = |number: usize, run: &Run| -> Result<()> {
        let folder = out.join(&run.name);
        let started = folder.join(CONFIG).exists();
        if is_finished(&folder)? {
            return Ok(());
        }
        tell(&format!("run {} of {}: {}", number + 1, runs.len(), run.name));
        let arguments = TrainArguments {
            recipe: match started {
                true => recipe.machine(),
                false => sweep.assignments(run).fold(recipe.clone(), |r, (key, v)| r.with(key, &v)),
            },
            weights: weights.clone().filter(|_| !started),
            out: (!started).then(|| folder.clone()),
            resume: started.then(|| folder.clone()),
        };
        let mut progress = match jobs {
            1 => Progress::stderr(),
            _ => {
                fs::create_dir_all(&folder)?;
                let log = File::options().create(true).append(true).open(folder.join("log.txt"))?;
                Progress::plain(Box::new(log), Duration::from_secs(10))
            }
        };
        let done = train::train(arguments, &heard.0, &mut progress)?;
        if let Outcome::Finished(_) = done.outcome {
            let _alone = results.lock().unwrap_or_else(PoisonError::into_inner);
            sweep.write_results(&out)?;
        }
        Ok(())
    };
    let work = || {
        while !heard.0.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(run) = runs.get(number) else { break };
            if let Err(error) = one(number, run) {
                let text = format!("{}: {}", run.name, message(&error));
                tell(&format!("error: {text}"));
                failed.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    let table = sweep.write_results(&out)?;
    if heard.0.load(Ordering::Relaxed) {
        tell("stopped; the same command goes on");
        return Ok(train::interrupted(&heard));
    }
    print(&table)?;
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    tell(&format!("{} of {} runs failed:\n  {}", failed.len(), runs.len(), failed.join("\n  ")));
    Ok(ExitCode::FAILURE)
}
