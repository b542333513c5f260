//! Checkpoints: a folder with the weights, the optimizer's buffers and the trainer's position. A folder is written
//! whole under another name, synced, and then renamed, so that a kill at any moment leaves one that can be read.
//!
//! `weights.safetensors` has parameters and buffers under timm's names; `optimizer.safetensors` the optimizer's
//! buffers, flat, in the parameters' order; `trainer.json` the [`Position`]; `config.json` the [`Description`].

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorView};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use vitrine_data::Preprocessing;
use vitrine_nn::{Optimizer, Parameters};
use vitrine_tensor::{DType, Tensor};

use crate::atomic::{AtomicWriteError, sync_folder, write_atomic};

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const POSITION: &str = "trainer.json";
const DESCRIPTION: &str = "config.json";

/// Why a checkpoint could not be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message says what each field is")]
pub enum CheckpointError {
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] AtomicWriteError),
    /// A folder or file could not be worked on.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// There is none.
    #[error("there is no checkpoint in {}", path.display())]
    Missing { path: PathBuf },
    /// A file is truncated or no safetensors file.
    #[error("{} is truncated or no safetensors file: {message}", path.display())]
    Format { path: PathBuf, message: String },
    /// The position's or the description's file is damaged.
    #[error("{} is damaged: {source}", path.display())]
    Position { path: PathBuf, source: serde_json::Error },
    /// The file is of another model.
    #[error("{} is of another model: {difference}", path.display())]
    OtherModel { path: PathBuf, difference: String },
    /// The checkpoint is of another optimizer.
    #[error(
        "{} is of the optimizer {found}, the recipe says {expected}", path.display()
    )]
    OtherOptimizer { path: PathBuf, found: String, expected: &'static str },
    /// A weight is NaN or infinite.
    #[error("{}: `{name}` holds a number that is not finite; the weights are of no use", path.display())]
    NotFinite { path: PathBuf, name: String },
    /// A weight or a buffer of the optimizer has become NaN or infinite.
    #[error(
        "`{name}` has become a number that is not finite, so no checkpoint was written to {}; the one before it is \
         kept. A lower learning rate, warm-up or clip_norm may help", folder.display()
    )]
    Diverged { folder: PathBuf, name: String },
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
    /// What tells the training data from others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_data: Option<String>,
    /// What tells the validation data from others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_data: Option<String>,
}

/// What a reader of the weights needs beside them, in the fields of timm's `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Classes K.
    pub num_classes: usize,
    /// What each class is called, if that is known.
    #[serde(default)]
    pub label_names: Vec<String>,
    /// What becomes of a picture.
    pub pretrained_cfg: Preprocessing,
}

impl Description {
    /// Reads the one beside weights, which are a checkpoint's folder or a file; `None` if there is none.
    pub fn beside(weights: &Path) -> Result<Option<Self>> {
        let path = match weights.is_file() {
            true => weights.with_file_name(DESCRIPTION),
            false => whole(weights).join(DESCRIPTION),
        };
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            text => {
                let damaged = |source| CheckpointError::Position { path: path.clone(), source };
                let text = text.map_err(io_error("read", &path))?;
                let config: serde_json::Value = serde_json::from_str(&text).map_err(damaged)?;
                // Others write files of this name, too.
                let ours = config.get("pretrained_cfg").is_some();
                ours.then(|| serde_json::from_value(config)).transpose().map_err(damaged)
            }
        }
    }
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
    if let Err(error) = write_files(&new, parameters, optimizer, position, description) {
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
    description: &Description,
) -> Result<()> {
    fs::create_dir_all(new).map_err(io_error("create", new))?;
    write_weights(&new.join(WEIGHTS), parameters)?;
    let state = optimizer.state(parameters)?;
    write_tensors(&new.join(OPTIMIZER), state.into_iter().map(|(name, t)| (name.to_owned(), t)))?;
    write_json(&new.join(DESCRIPTION), description)?;
    write_json(&new.join(POSITION), position)
}

/// Writes a value as a JSON file, whole or not at all.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|source| CheckpointError::Position { path: path.to_owned(), source })?;
    Ok(write_atomic(path, text.as_bytes())?)
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
    // Names, shapes and types are checked in both files before anything is changed.
    let weights = named(parameters)?;
    let state = optimizer.state(parameters)?;
    let state: Vec<_> = state.into_iter().map(|(name, t)| (name.to_owned(), t)).collect();
    let mut files =
        [Weights::open(&folder.join(WEIGHTS))?, Weights::open(&folder.join(OPTIMIZER))?];
    for (file, tensors) in files.iter().zip([&weights, &state]) {
        file.check(tensors, false)?;
    }
    for (file, tensors) in files.iter_mut().zip([&weights, &state]) {
        file.read_into(tensors)?;
    }
    optimizer.set_steps(position.steps);
    Ok(position)
}

/// Reads weights alone: from a checkpoint's folder, or from a safetensors file with timm's names. A file of another
/// model changes nothing; where a number is not finite, a part of the values may be read by then.
pub fn load_weights(path: &Path, parameters: &Parameters) -> Result<()> {
    let (mut weights, tensors) = (open_weights(path)?, named(parameters)?);
    weights.check(&tensors, false)?;
    weights.read_into(&tensors)
}

/// What the names of a classifier's head begin with.
const HEAD: &str = "head.";

/// Reads weights to begin a training with. If their head tells another number of classes apart, it is left out: the
/// model's own keeps its values, and the number is given.
pub fn begin_with(path: &Path, parameters: &Parameters) -> Result<Option<usize>> {
    let (mut weights, mut tensors) = (open_weights(path)?, named(parameters)?);
    let heads = tensors.iter().filter(|(name, _)| name.starts_with(HEAD));
    let classes = heads.clone().find_map(|(name, tensor)| {
        let (found, ours) =
            (weights.head.info(name)?.shape.split_first()?, tensor.shape().split_first()?);
        (found.0 != ours.0 && found.1 == ours.1).then_some(*found.0)
    });
    if classes.is_some() {
        tensors.retain(|(name, _)| !name.starts_with(HEAD));
    }
    weights.check(&tensors, classes.is_some())?;
    weights.read_into(&tensors)?;
    Ok(classes)
}

fn open_weights(path: &Path) -> Result<Weights> {
    // Nothing is moved here: the run may be under way, and in the middle of a save.
    let file = if path.is_file() { path.to_owned() } else { whole(path).join(WEIGHTS) };
    if !file.exists() {
        return Err(CheckpointError::Missing { path: path.to_owned() });
    }
    Weights::open(&file)
}

/// Parameters and buffers by name.
fn named(parameters: &Parameters) -> Result<Vec<(String, Tensor)>> {
    let named = parameters.named_values();
    named.map(|(name, value)| Ok((name.to_owned(), value?))).collect()
}

/// Writes the parameters under timm's names. A number that is not finite is an error.
pub fn write_weights(path: &Path, parameters: &Parameters) -> Result<()> {
    write_tensors(path, named(parameters)?.into_iter())
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

/// A safetensors file whose head was read. Its tensors are read one by one: in memory there is one more at the most.
struct Weights {
    path: PathBuf,
    file: File,
    /// Where the tensors begin.
    start: u64,
    head: Metadata,
}

/// Biases that a Vision Transformer may do without, and what gives it them.
const BIASES: [(&str, &str); 2] =
    [("attn.qkv.bias", "model.qkv_bias"), ("attn.proj.bias", "model.projection_bias")];

/// No head is longer: safetensors has the same limit.
const LONGEST_HEAD: u64 = 100_000_000;

impl Weights {
    fn open(path: &Path) -> Result<Self> {
        let io = io_error("read", path);
        let format = |message: &dyn std::fmt::Display| CheckpointError::Format {
            path: path.to_owned(),
            message: message.to_string(),
        };
        let read = || -> io::Result<(File, u64, Vec<u8>)> {
            let mut file = File::open(path)?;
            let length = file.metadata()?.len();
            let (mut size, mut head) = ([0; 8], Vec::new());
            if length >= 8 {
                file.read_exact(&mut size)?;
            }
            let size = u64::from_le_bytes(size).min(LONGEST_HEAD);
            (&mut file).take(size).read_to_end(&mut head)?;
            Ok((file, length, head))
        };
        let (file, length, bytes) = read().map_err(io)?;
        let head: Metadata = serde_json::from_slice(&bytes).map_err(|error| format(&error))?;
        let start = 8 + bytes.len() as u64;
        let end = start + head.data_len() as u64;
        if end != length {
            let message = format!("its tensors end at byte {end}, the file at {length}");
            return Err(format(&message));
        }
        Ok(Self { path: path.to_owned(), file, start, head })
    }

    fn other(&self, difference: String) -> CheckpointError {
        CheckpointError::OtherModel { path: self.path.clone(), difference }
    }

    /// Whether the file has these tensors, all and no more, in their shapes, as floats; perhaps a head beside them.
    fn check(&self, tensors: &[(String, Tensor)], and_head: bool) -> Result<()> {
        for (name, tensor) in tensors {
            let Some(info) = self.head.info(name) else {
                return Err(self.other(format!("`{name}` is missing from the file")));
            };
            if info.shape != tensor.shape() {
                return Err(self.other(format!(
                    "`{name}` has the shape {:?} in the file, {:?} in the model",
                    info.shape,
                    tensor.shape()
                )));
            }
            if !matches!(info.dtype, Dtype::F64 | Dtype::F32 | Dtype::BF16 | Dtype::F16) {
                let dtype = info.dtype;
                return Err(self.other(format!("`{name}` is of type {dtype:?}, not a float")));
            }
        }
        let known = |name: &String| {
            (and_head && name.starts_with(HEAD)) || tensors.iter().any(|(known, _)| known == name)
        };
        match self.head.offset_keys().into_iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(extra) => {
                let key = BIASES.iter().find(|(end, _)| extra.ends_with(end));
                let hint = key
                    .map_or(String::new(), |(_, key)| format!("; --set {key}=true gives it one"));
                Err(self.other(format!("the model has no `{extra}`{hint}")))
            }
        }
    }

    /// Copies the values of tensors that were checked, all finite.
    fn read_into(&mut self, tensors: &[(String, Tensor)]) -> Result<()> {
        // One memory for all: fresh pages for each tensor would take as long as reading it.
        let (mut bytes, mut values) = (Vec::new(), Vec::<f32>::new());
        for (name, tensor) in tensors {
            let info = self.head.info(name).expect("it was checked");
            let ((from, to), dtype) = (info.data_offsets, info.dtype);
            bytes.resize(to - from, 0);
            let at = SeekFrom::Start(self.start + from as u64);
            let read = self.file.seek(at).and_then(|_| self.file.read_exact(&mut bytes));
            read.map_err(io_error("read", &self.path))?;
            values.clear();
            match dtype {
                Dtype::BF16 => values.extend(
                    chunks(&bytes).map(|b| vitrine_tensor::bf16::from_le_bytes(b).to_f32()),
                ),
                Dtype::F16 => {
                    values.extend(chunks(&bytes).map(|b| half::f16::from_le_bytes(b).to_f32()));
                }
                Dtype::F64 => values.extend(chunks(&bytes).map(|b| f64::from_le_bytes(b) as f32)),
                _ => values.extend(chunks(&bytes).map(f32::from_le_bytes)),
            }
            if !values.iter().all(|v| v.is_finite()) {
                let (path, name) = (self.path.clone(), name.clone());
                return Err(CheckpointError::NotFinite { path, name });
            }
            tensor.copy_from_slice_(&values)?;
        }
        Ok(())
    }
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}
