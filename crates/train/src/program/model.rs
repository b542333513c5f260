//! From `--run` or `--weights` to a recipe and the place of its weights.

use std::path::{Path, PathBuf};

use anyhow::Result;
use vitrine_train::TrainError;
use vitrine_train::description::Description;
use vitrine_train::recipe::Recipe;
use vitrine_train::trainer::{BEST, CONFIG, LAST};
use vitrine_train::weights;

use super::arguments::{Checkpoint, ModelArguments, RecipeArguments};
use super::tell;

/// The recipe of a trained model, and its file of weights or its checkpoint's folder.
pub fn resolve(arguments: &ModelArguments) -> Result<(Recipe, PathBuf)> {
    let mut overrides = arguments.recipe.overrides()?;
    let weights = match &arguments.source.run {
        Some(folder) => checkpoint_of_run(folder, arguments.checkpoint),
        None => weights::find(arguments.source.weights.as_deref().unwrap_or_default(), tell)?,
    };
    // What is wrong with a folder of data is said when it is read.
    let _ = RecipeArguments::detect(&mut overrides);
    // Other images are judged whole: what the run held out was held out of its own.
    if overrides.get("data.dir").is_some() && overrides.get("data.holdout").is_none() {
        overrides.set("data.holdout=0")?;
    }
    let classes = match arguments.source.run {
        None => weights::classes(&weights)?,
        Some(_) => None,
    };
    match (Description::beside(&weights)?, classes) {
        (Some(about), _) => drop(overrides.describe(&about, true)?),
        (None, Some(classes)) => drop(overrides.head_has(classes)),
        (None, None) => {}
    }
    if let Some(folder) = &arguments.source.run {
        let config = folder.join(CONFIG);
        if !config.exists() {
            return Err(TrainError::NoRun { path: folder.clone() }.into());
        }
        return Ok((Recipe::load_file(&config, &overrides)?, weights));
    }
    Ok((Recipe::load(arguments.recipe.source("d2l"), &overrides)?, weights))
}

fn checkpoint_of_run(folder: &Path, checkpoint: Option<Checkpoint>) -> PathBuf {
    let (best, last) = (folder.join(BEST), folder.join(LAST));
    match checkpoint {
        Some(Checkpoint::Best) => best,
        Some(Checkpoint::Last) => last,
        None if best.exists() => best,
        None => last,
    }
}
