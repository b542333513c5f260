//! Checkpoints: a folder with the weights, the optimizer's buffers and the trainer's position. A folder is written
//! whole under another name, synced, and then renamed, so that a kill at any moment leaves one that can be read.
//!
//! `weights.safetensors` has parameters and buffers under timm's names; `optimizer.safetensors` the optimizer's
//! buffers, flat, in the parameters' order; `trainer.json` the [`Position`]; `config.json` the [`Description`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use vitrine_nn::settings::shown;
use vitrine_nn::{Optimizer, Parameters};

use crate::atomic::{AtomicWriteError, folder_of, sync_folder, write_atomic_with};
use crate::description::{DESCRIPTION, Description};
use crate::weights::{WEIGHTS, Weights, named, shapes, write};

const OPTIMIZER: &str = "optimizer.safetensors";
const POSITION: &str = "trainer.json";

/// Why a checkpoint could not be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message says what each one is")]
pub enum CheckpointError {
    #[error(transparent)]
    Write(#[from] AtomicWriteError),
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot read the weights {}: there is no checkpoint, and no model.safetensors", path.display())]
    Missing { path: PathBuf },
    #[error(
        "{} is a pickle of PyTorch's, which may run any program when it is read. Convert it where you trust it:\n  \
         python3 -c 'import sys, torch; from safetensors.torch import save_file; \
         d = torch.load(sys.argv[1], \"cpu\", weights_only=True); d = d.get(\"state_dict\", d.get(\"model\", d)); \
         save_file({{k: v.contiguous() for k, v in d.items()}}, sys.argv[2])' {} model.safetensors",
        told(path),
        quoted(path)
    )]
    Pickle { path: PathBuf },
    #[error(
        "{} says that the weights are in several files, which are not read; save them in one \
         (`save_pretrained(…, max_shard_size=\"100GB\")`)", path.display()
    )]
    Split { path: PathBuf },
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),
    #[error(transparent)]
    Setting(#[from] vitrine_nn::settings::SettingError),
    #[error("{} is truncated or no safetensors file: {}", path.display(), shown(message, LONGEST))]
    Format { path: PathBuf, message: String },
    #[error("{} is damaged: {}", path.display(), shown(&source.to_string(), LONGEST))]
    Position { path: PathBuf, source: serde_json::Error },
    #[error("{} is of another model: {difference}", path.display())]
    OtherModel { path: PathBuf, difference: String },
    #[error(
        "{} is of the optimizer {found}, the recipe says {expected}", path.display()
    )]
    OtherOptimizer { path: PathBuf, found: String, expected: &'static str },
    #[error("{}: `{name}` holds a number that is not finite; the weights are of no use", path.display())]
    NotFinite { path: PathBuf, name: String },
    #[error(
        "`{name}` has become a number that is not finite, so no checkpoint was written to {}; the one before it is \
         kept. A lower learning rate, warm-up or clip_norm may help", folder.display()
    )]
    Diverged { folder: PathBuf, name: String },
    #[error(transparent)]
    Model(#[from] vitrine_nn::Error),
    #[error(transparent)]
    Tensor(#[from] vitrine_tensor::Error),
}

type Result<T, E = CheckpointError> = std::result::Result<T, E>;

/// What others say of a file is cut in a message.
const LONGEST: usize = 500;

/// A path that somebody else may have chosen.
fn told(path: &Path) -> String {
    shown(&path.display().to_string(), usize::MAX)
}

/// The same for a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", told(path).replace('\'', r"'\''"))
}

/// Where a run is: together with seed and recipe, all that decides how it goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Epochs done.
    pub epochs: u64,
    /// Batches done in the epoch under way.
    pub batches: u64,
    /// Optimizer steps done since the run began.
    pub steps: u64,
    /// The kind of optimizer.
    pub optimizer: String,
    /// Sums over the epoch under way.
    pub sums: Sums,
    /// What tells the training data from others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_data: Option<String>,
    /// What tells the validation data from others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_data: Option<String>,
}

/// What an epoch's figures are made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    /// Images seen.
    pub images: u64,
    /// Sum of the images' losses.
    pub loss: f64,
    /// Images classified correctly.
    pub correct: u64,
    /// Seconds spent.
    pub seconds: f64,
}

/// Writes a checkpoint to `folder`, in place of one that is there. Where that fails, or where a number is not finite,
/// the one that is there is kept.
pub fn save(
    folder: &Path,
    parameters: &Parameters,
    optimizer: &mut dyn Optimizer,
    position: &Position,
    description: &Description,
) -> Result<()> {
    let (new, old) = siblings(folder);
    recover(folder)?;
    remove(&new)?;
    let mut write_files = || {
        fs::create_dir_all(&new).map_err(io_error("create", &new))?;
        write_weights(&new.join(WEIGHTS), parameters)?;
        write(&new.join(OPTIMIZER), optimizer.state(parameters)?.into_iter(), Dtype::F32)?;
        write_json(&new.join(DESCRIPTION), description)?;
        write_json(&new.join(POSITION), position)
    };
    if let Err(error) = write_files() {
        // The half-written folder would fill the disk to no use.
        let _ = remove(&new);
        return Err(match error {
            CheckpointError::NotFinite { name, .. } => {
                CheckpointError::Diverged { folder: folder.to_owned(), name }
            }
            other => other,
        });
    }
    // From here on the new folder is whole: `recover` finishes what a kill interrupts.
    if folder.exists() {
        fs::rename(folder, &old).map_err(io_error("rename", folder))?;
    }
    fs::rename(&new, folder).map_err(io_error("rename", &new))?;
    sync_parent(folder)?;
    remove(&old)
}

/// Writes a value as a JSON file, whole or not at all.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    Ok(write_atomic_with(path, |file| Ok(serde_json::to_writer_pretty(file, value)?))?)
}

/// Finishes a save that was interrupted between its renames.
fn recover(folder: &Path) -> Result<()> {
    let whole = whole(folder);
    if whole != folder {
        fs::rename(&whole, folder).map_err(io_error("rename", &whole))?;
        sync_parent(folder)?;
    }
    remove(&siblings(folder).1)
}

/// Where the whole checkpoint of this name is: under another name if a save was interrupted between its renames.
pub(crate) fn whole(folder: &Path) -> PathBuf {
    let (new, old) = siblings(folder);
    match (folder.exists(), old.exists(), new.exists()) {
        // The old folder was moved away, so the new one is whole.
        (false, true, true) => new,
        (false, true, false) => old,
        _ => folder.to_owned(),
    }
}

/// Removes the checkpoints in a folder, each under its epoch's number, of the first `epochs` but for those in `kept`.
pub(crate) fn remove_others(folder: &Path, epochs: u64, kept: &[u64]) -> Result<()> {
    for epoch in (1..=epochs).filter(|epoch| !kept.contains(epoch)) {
        let path = folder.join(epoch.to_string());
        let (new, old) = siblings(&path);
        for path in [path, new, old].into_iter().filter(|path| path.join(POSITION).exists()) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// The names beside `folder` under which a save is under way.
fn siblings(folder: &Path) -> (PathBuf, PathBuf) {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    (folder.with_file_name(format!(".{name}.new")), folder.with_file_name(format!(".{name}.old")))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", folder)(e)),
        _ => Ok(()),
    }
}

fn sync_parent(folder: &Path) -> Result<()> {
    let parent = folder_of(folder);
    sync_folder(parent).map_err(io_error("sync", parent))
}

/// A file that can be read to its end, which pipes and devices have none of.
pub(crate) fn regular(path: &Path) -> io::Result<fs::File> {
    match fs::metadata(path)? {
        about if about.is_file() => fs::File::open(path),
        about if about.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        _ => Err(io::Error::other("it is no regular file")),
    }
}

pub(crate) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io { action, path, source }
}

/// Where the run of a checkpoint is.
pub fn position(folder: &Path) -> Result<Position> {
    let path = whole(folder).join(POSITION);
    if !path.exists() {
        return Err(CheckpointError::Missing { path: folder.to_owned() });
    }
    let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
    serde_json::from_str(&text).map_err(|source| CheckpointError::Position { path, source })
}

/// Reads a checkpoint into parameters and optimizer.
pub fn load(
    folder: &Path,
    parameters: &Parameters,
    optimizer: &mut dyn Optimizer,
) -> Result<Position> {
    recover(folder)?;
    let position = position(folder)?;
    if position.optimizer != optimizer.name() {
        return Err(CheckpointError::OtherOptimizer {
            path: folder.join(POSITION),
            found: position.optimizer,
            expected: optimizer.name(),
        });
    }
    // Names, shapes and types are checked in both files before anything is changed.
    let weights = named(parameters)?;
    let state = optimizer.state(parameters)?;
    let mut planned = Vec::new();
    for (name, tensors) in [(WEIGHTS, &weights), (OPTIMIZER, &state)] {
        let file = Weights::open(&folder.join(name))?;
        let plan = file.plan(&shapes(tensors), None, false)?;
        planned.push((file, plan, tensors));
    }
    for (mut file, plan, tensors) in planned {
        file.read(&plan, tensors)?;
    }
    optimizer.set_steps(position.steps);
    Ok(position)
}

/// Writes the parameters under their own names. A number that is not finite is an error.
pub fn write_weights(path: &Path, parameters: &Parameters) -> Result<()> {
    write(path, named(parameters)?.into_iter(), Dtype::F32)
}
