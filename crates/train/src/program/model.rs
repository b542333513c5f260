//! From `--run` or `--weights` to a recipe and the place of its weights.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use vitrine_train::TrainError;
use vitrine_train::recipe::Recipe;
use vitrine_train::trainer::{BEST, CONFIG, LAST};

use super::arguments::{Checkpoint, ModelArguments};

/// The recipe of a trained model, and its file of weights or its checkpoint's folder.
pub fn resolve(arguments: &ModelArguments) -> Result<(Recipe, PathBuf)> {
    let overrides = arguments.recipe.overrides()?;
    if let Some(folder) = &arguments.source.run {
        let config = folder.join(CONFIG);
        if !config.exists() {
            return Err(TrainError::NoRun { path: folder.clone() }.into());
        }
        let recipe = Recipe::load_file(&config, &overrides)?;
        return Ok((recipe, checkpoint_of_run(folder, arguments.checkpoint)));
    }
    let recipe = Recipe::load(arguments.recipe.source(), &overrides)?;
    let file = arguments.source.weights.clone().unwrap_or_default();
    file.metadata().with_context(|| format!("cannot read the weights {}", file.display()))?;
    Ok((recipe, file))
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
