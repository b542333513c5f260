//! Checkpoints: a folder with the weights, the optimizer's buffers and the trainer's position. A folder is written
//! whole under another name, synced, and then renamed, so that a kill at any moment leaves one that can be read.
//!
//! `weights.safetensors` has the parameters under timm's names; `optimizer.safetensors` the optimizer's buffers, flat,
//! in the parameters' order; `trainer.json` the [`Position`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use vitrine_nn::{Optimizer, Parameters};
use vitrine_tensor::{DType, Tensor};

use crate::atomic::{AtomicWriteError, sync_folder, write_atomic};

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const POSITION: &str = "trainer.json";

/// Why a checkpoint could not be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] AtomicWriteError),
    /// A folder or file could not be worked on.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// There is none.
    #[error("there is no checkpoint in {}", path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// A file is truncated or no safetensors file.
    #[error("{} is truncated or no safetensors file: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the reader found.
        message: String,
    },
    /// The position's file is damaged.
    #[error("{} is damaged: {source}", path.display())]
    Position {
        /// The file.
        path: PathBuf,
        /// What the parser found.
        source: serde_json::Error,
    },
    /// The file is of another model.
    #[error("{} is of another model: {difference}", path.display())]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The first difference.
        difference: String,
    },
    /// The checkpoint is of another optimizer.
    #[error(
        "{} is of the optimizer {found}, the recipe says {expected}", path.display()
    )]
    OtherOptimizer {
        /// The file.
        path: PathBuf,
        /// The optimizer in the checkpoint.
        found: String,
        /// The recipe's.
        expected: &'static str,
    },
    /// A weight is NaN or infinite.
    #[error("{}: `{name}` holds a number that is not finite; the weights are of no use", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The parameter.
        name: String,
    },
    /// A weight or a buffer of the optimizer has become NaN or infinite.
    #[error(
        "`{name}` has become a number that is not finite, so no checkpoint was written to {}; the one before it is \
         kept. A lower learning rate, warm-up or clip_norm may help", folder.display()
    )]
    Diverged {
        /// The checkpoint's folder.
        folder: PathBuf,
        /// The parameter or buffer.
        name: String,
    },
    /// Values could not be moved between the file and the device.
    #[error(transparent)]
    Model(#[from] vitrine_nn::Error),
    /// Values could not be moved between the file and the device.
    #[error(transparent)]
    Tensor(#[from] vitrine_tensor::Error),
}

type Result<T, E = CheckpointError> = std::result::Result<T, E>;

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
) -> Result<()> {
    let (new, old) = siblings(folder);
    recover(folder)?;
    remove(&new)?;
    if let Err(error) = write_files(&new, parameters, optimizer, position) {
        // The half-written folder would fill the disk to no use. The error above is what the caller needs to hear
        // about.
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

/// Writes the files of a checkpoint to a new folder.
fn write_files(
    new: &Path,
    parameters: &Parameters,
    optimizer: &mut dyn Optimizer,
    position: &Position,
) -> Result<()> {
    fs::create_dir_all(new).map_err(io_error("create", new))?;
    write_weights(&new.join(WEIGHTS), parameters)?;
    let state = optimizer.state(parameters)?;
    write_tensors(&new.join(OPTIMIZER), state.into_iter().map(|(name, t)| (name.to_owned(), t)))?;
    let path = new.join(POSITION);
    let text = serde_json::to_string_pretty(position)
        .map_err(|source| CheckpointError::Position { path: path.clone(), source })?;
    Ok(write_atomic(&path, text.as_bytes())?)
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
fn whole(folder: &Path) -> PathBuf {
    let (new, old) = siblings(folder);
    match (folder.exists(), old.exists(), new.exists()) {
        // The old folder was moved away, so the new one is whole.
        (false, true, true) => new,
        (false, true, false) => old,
        _ => folder.to_owned(),
    }
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
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            sync_folder(parent).map_err(io_error("sync", parent))
        }
        _ => sync_folder(Path::new(".")).map_err(io_error("sync", Path::new("."))),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io { action, path, source }
}

/// Reads a checkpoint into parameters and optimizer.
pub fn load(
    folder: &Path,
    parameters: &Parameters,
    optimizer: &mut dyn Optimizer,
) -> Result<Position> {
    recover(folder)?;
    let path = folder.join(POSITION);
    if !path.exists() {
        return Err(CheckpointError::Missing { path: folder.to_owned() });
    }
    let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
    let position: Position = serde_json::from_str(&text)
        .map_err(|source| CheckpointError::Position { path: path.clone(), source })?;
    if position.optimizer != optimizer.name() {
        return Err(CheckpointError::OtherOptimizer {
            path,
            found: position.optimizer,
            expected: optimizer.name(),
        });
    }
    // Everything is read and checked before anything is changed.
    let weights = Weights::open(&folder.join(WEIGHTS))?;
    weights.check(parameters)?;
    let state = optimizer.state(parameters)?;
    let buffers = Weights::open(&folder.join(OPTIMIZER))?;
    for (name, buffer) in &state {
        buffers.values(name, buffer.shape())?;
    }
    weights.read_into(parameters)?;
    for (name, buffer) in &state {
        buffer.copy_from_slice_(&buffers.values(name, buffer.shape())?)?;
    }
    optimizer.set_steps(position.steps);
    Ok(position)
}

/// Reads weights alone: from a checkpoint's folder, or from a safetensors file with timm's names.
pub fn load_weights(path: &Path, parameters: &Parameters) -> Result<()> {
    // Nothing is moved here: the run may be under way, and in the middle of a save.
    let file = if path.is_file() { path.to_owned() } else { whole(path).join(WEIGHTS) };
    if !file.exists() {
        return Err(CheckpointError::Missing { path: path.to_owned() });
    }
    let weights = Weights::open(&file)?;
    weights.check(parameters)?;
    weights.read_into(parameters)
}

/// Writes the parameters under timm's names. A number that is not finite is an error.
pub fn write_weights(path: &Path, parameters: &Parameters) -> Result<()> {
    let mut named = Vec::new();
    for (name, value) in parameters.named_values() {
        named.push((name.to_owned(), value?));
    }
    write_tensors(path, named.into_iter())
}

fn write_tensors(path: &Path, named: impl Iterator<Item = (String, Tensor)>) -> Result<()> {
    let mut data = Vec::new();
    for (name, tensor) in named {
        let values: Vec<f32> = tensor.to_dtype(DType::F32)?.to_vec()?;
        if !values.iter().all(|v| v.is_finite()) {
            return Err(CheckpointError::NotFinite { path: path.to_owned(), name });
        }
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        data.push((name, tensor.shape().to_vec(), bytes));
    }
    let format = |e: safetensors::SafeTensorError| CheckpointError::Format {
        path: path.to_owned(),
        message: e.to_string(),
    };
    let mut views = Vec::with_capacity(data.len());
    for (name, shape, bytes) in &data {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(format)?;
        views.push((name.as_str(), view));
    }
    let bytes = safetensors::serialize(views, None).map_err(format)?;
    Ok(write_atomic(path, &bytes)?)
}

/// A safetensors file that was read.
struct Weights {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Weights {
    fn open(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(io_error("read", path))?;
        let weights = Self { path: path.to_owned(), bytes };
        weights.tensors()?;
        Ok(weights)
    }

    fn tensors(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.bytes).map_err(|e| CheckpointError::Format {
            path: self.path.clone(),
            message: e.to_string(),
        })
    }

    fn other(&self, difference: String) -> CheckpointError {
        CheckpointError::OtherModel { path: self.path.clone(), difference }
    }

    /// The values of a tensor that must have this shape, all finite.
    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensors = self.tensors()?;
        let view = tensors
            .tensor(name)
            .map_err(|_| self.other(format!("`{name}` is missing from the file")))?;
        if view.shape() != shape {
            return Err(self.other(format!(
                "`{name}` has the shape {:?} in the file, {shape:?} in the model",
                view.shape()
            )));
        }
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => chunks(view.data()).map(f32::from_le_bytes).collect(),
            Dtype::BF16 => chunks(view.data())
                .map(|b| vitrine_tensor::bf16::from_le_bytes(b).to_f32())
                .collect(),
            Dtype::F16 => {
                chunks(view.data()).map(|b| half::f16::from_le_bytes(b).to_f32()).collect()
            }
            other => {
                return Err(self.other(format!("`{name}` is of type {other:?}, not a float")));
            }
        };
        match values.iter().all(|v| v.is_finite()) {
            true => Ok(values),
            false => {
                let (path, name) = (self.path.clone(), name.to_owned());
                Err(CheckpointError::NotFinite { path, name })
            }
        }
    }

    /// Whether the file has the model's parameters, all and no more, in their shapes.
    fn check(&self, parameters: &Parameters) -> Result<()> {
        for info in parameters.infos() {
            self.values(&info.name, &info.shape)?;
        }
        let known = |name: &&str| parameters.names().any(|n| n == *name);
        match self.tensors()?.names().into_iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(extra) => Err(self.other(format!("the model has no `{extra}`"))),
        }
    }

    fn read_into(&self, parameters: &Parameters) -> Result<()> {
        for (info, (_, value)) in parameters.infos().iter().zip(parameters.named_values()) {
            value?.copy_from_slice_(&self.values(&info.name, &info.shape)?)?;
        }
        Ok(())
    }
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}
