//! From `--run` or `--weights` to a recipe and the place of its weights.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use vitrine_train::TrainError;
use vitrine_train::checkpoint::Description;
use vitrine_train::recipe::Recipe;
use vitrine_train::trainer::{BEST, CONFIG, LAST};

use super::arguments::{Checkpoint, ModelArguments, RecipeArguments};

/// The recipe of a trained model, and its file of weights or its checkpoint's folder.
pub fn resolve(arguments: &ModelArguments) -> Result<(Recipe, PathBuf)> {
    let mut overrides = arguments.recipe.overrides()?;
    let weights = match &arguments.source.run {
        Some(folder) => checkpoint_of_run(folder, arguments.checkpoint),
        None => arguments.source.weights.clone().unwrap_or_default(),
    };
    // What is wrong with a folder of data is said when it is read.
    let _ = RecipeArguments::detect(&mut overrides);
    // Other images are judged whole: what the run held out was held out of its own.
    if overrides.get("data.dir").is_some() && overrides.get("data.holdout").is_none() {
        overrides.set("data.holdout=0")?;
    }
    if let Some(about) = Description::beside(&weights)? {
        overrides.describe(&about)?;
    }
    if let Some(folder) = &arguments.source.run {
        let config = folder.join(CONFIG);
        if !config.exists() {
            return Err(TrainError::NoRun { path: folder.clone() }.into());
        }
        return Ok((Recipe::load_file(&config, &overrides)?, weights));
    }
    weights.metadata().with_context(|| format!("cannot read the weights {}", weights.display()))?;
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
