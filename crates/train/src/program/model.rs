//! From `--run` or `--weights` to a recipe and the place of its weights.

use std::path::PathBuf;

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
    let weights = match (&arguments.run, arguments.checkpoint) {
        (None, _) => weights::find(arguments.weights.as_deref().unwrap_or_default(), tell)?,
        (Some(run), None) if !run.join(BEST).exists() => run.join(LAST),
        (Some(run), None | Some(Checkpoint::Best)) => run.join(BEST),
        (Some(run), Some(Checkpoint::Last)) => run.join(LAST),
    };
    // What is wrong with a folder of data is said when it is read.
    let _ = RecipeArguments::detect(&mut overrides);
    // Other images are judged whole: what the run held out was held out of its own.
    if overrides.get("data.dir").is_some() && overrides.get("data.holdout").is_none() {
        overrides.set("data.holdout=0")?;
    }
    if let Some(about) = Description::beside(&weights)? {
        overrides.describe(&about, true)?;
    } else if arguments.run.is_none()
        && let Some(classes) = weights::classes(&weights)?
    {
        overrides.head_has(classes);
    }
    let Some(folder) = &arguments.run else {
        return Ok((Recipe::load(arguments.recipe.source("d2l"), &overrides)?, weights));
    };
    let config = folder.join(CONFIG);
    if !config.exists() {
        return Err(TrainError::NoRun { path: folder.clone() }.into());
    }
    Ok((Recipe::load_file(&config, &overrides)?, weights))
}
