//! What a run's folder says of its recipe, and what may differ when the run is resumed. Going on is the trainer's.

use std::fs;
use std::path::Path;

use toml::{Table, Value};

use crate::error::{Result, TrainError};
use crate::recipe::{Overrides, Recipe};
use crate::trainer::{CONFIG, folder_error};

/// The keys that a resumed run may change.
const MAY_CHANGE: [&str; 12] = [
    "run.epochs",
    "run.threads",
    "run.device",
    "run.checkpoint_every",
    "run.log_every",
    "data.dir",
    "data.cache",
    "data.workers",
    "data.prefetch",
    "data.max_pixels",
    "data.max_broken",
    "model.recompute",
];

/// The first key that differs and may not is an error.
pub(crate) fn compare(before: &Table, after: &Table) -> Result<()> {
    let text = |value: Option<&Value>| value.map_or("not set".to_owned(), Value::to_string);
    for (section, new) in after {
        let (Some(old), Some(new)) =
            (before.get(section).and_then(Value::as_table), new.as_table())
        else {
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
pub(crate) fn recorded(folder: &Path) -> Result<Table> {
    let path = folder.join(CONFIG);
    if !path.exists() {
        return Err(TrainError::NoRun { path: folder.to_owned() });
    }
    let text = fs::read_to_string(&path).map_err(folder_error("read", &path))?;
    Ok(Recipe::document_of(&text, &path.display().to_string())?)
}

/// The recipe of the run in a folder, with overrides that leave its arithmetic as it is.
pub fn resumed_recipe(folder: &Path, overrides: &Overrides) -> Result<Recipe> {
    let before = recorded(folder)?;
    let recipe = Recipe::load_file(&folder.join(CONFIG), overrides)?;
    compare(&before, &recipe.document()?)?;
    Ok(recipe)
}
