//! A run's folder: what is in it, who may write to it, and what it says of its recipe, of which little may differ when
//! the run is resumed. Going on is the trainer's.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use toml::{Table, Value};

use crate::atomic::write_failed;
use crate::checkpoint::io_error;
use crate::error::{Result, TrainError};
use crate::recipe::{Overrides, Recipe};

/// The last checkpoint, a folder.
pub const LAST: &str = "last";
/// The checkpoint with the best validation accuracy, a folder.
pub const BEST: &str = "best";
/// The weights with the best validation accuracy in timm's form, a folder: once the run is done.
pub const MODEL: &str = "model";
/// The resolved recipe.
pub const CONFIG: &str = "config.toml";
/// The figures of each epoch.
pub const METRICS: &str = "metrics.jsonl";
/// The figures on the test part: once the run is done.
pub const TEST: &str = "test.json";
/// The figures of each optimizer step.
pub const STEPS: &str = "steps.jsonl";

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
pub(crate) fn recorded(folder: &Path) -> Result<Table> {
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

/// Holds a run's folder for this process, as long as the file is open. Where the file system knows no locks, nobody is
/// kept out.
pub(crate) fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let file = File::create(&path).map_err(write_failed(&path, "creating it"))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(TrainError::RunBusy { path: folder.to_owned() }),
        _ => Ok(file),
    }
}
