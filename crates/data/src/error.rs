//! The error type of this crate.

use std::io;
use std::path::{Path, PathBuf};

/// What this crate's functions give.
pub type Result<T, E = DataError> = std::result::Result<T, E>;

/// Anything that can go wrong between a file on disk and a batch in memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message says what each field is")]
pub enum DataError {
    /// The operating system refused an operation on a file or folder.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },

    /// A folder lacks one of a dataset's files.
    #[error("{file} is missing: the folder {} holds neither {file} nor {file}.gz", dir.display())]
    MissingFile { dir: PathBuf, file: String },

    /// A folder that should hold a dataset is not there.
    #[error("there is no folder {}", dir.display())]
    MissingFolder { dir: PathBuf },

    /// A folder does not hold pictures as it should.
    #[error("the folder {} cannot be used: {reason}", path.display())]
    BadFolder { path: PathBuf, reason: String },

    /// More pictures cannot be read than is allowed.
    #[error(
        "{dataset}: {} {} cannot be read, and data.max_broken allows {allowed}:\n  {}", broken.len(),
        if broken.len() == 1 { "picture" } else { "pictures" }, broken.join("\n  ")
    )]
    TooManyBroken { dataset: String, allowed: usize, broken: Vec<String> },

    /// The gzip stream of a file is cut short or damaged.
    #[error("{}: the gzip data is truncated or damaged ({source}); fetch the file again", path.display())]
    Gzip { path: PathBuf, source: io::Error },

    /// A file has the right form but other contents than the published one.
    #[error(
        "{}: the MD5 of the {of} is {actual}, the published one is {expected}; \
         the file is damaged or belongs to another dataset, fetch it again",
        path.display()
    )]
    Checksum { path: PathBuf, of: &'static str, expected: String, actual: String },

    /// A file does not hold what it should.
    #[error("{}: {reason}", path.display())]
    BadFile { path: PathBuf, reason: String },

    /// A sample's label is not the number of a class.
    #[error(
        "{dataset}: sample {sample} has label {label}, but there are {classes} classes, numbered from 0"
    )]
    LabelOutOfRange { dataset: String, sample: usize, label: i64, classes: usize },

    /// The parts of a dataset do not fit together.
    #[error("dataset {dataset}: {reason}")]
    BadParts { dataset: String, reason: String },

    /// A sample cannot be had, or the loader finds fault with it.
    #[error("{dataset}: sample {index}: {reason}")]
    Sample { dataset: String, index: usize, reason: String },

    /// A dataset is in none of the usual places and could not be fetched.
    #[error(
        "{dataset} was not found and could not be fetched. Tried:\n  - {}\nWhat to do: {advice}",
        attempts.join("\n  - ")
    )]
    NotFound { dataset: String, attempts: Vec<String>, advice: String },

    /// A setting of the loader or of a transform makes no sense.
    #[error("loader setting {setting}: {reason}")]
    BadSetting { setting: &'static str, reason: String },

    /// Making a batch panicked. The panic was caught in the worker.
    #[error("a loader worker panicked while making batch {batch} of epoch {epoch}: {message}")]
    WorkerPanicked { epoch: u64, batch: usize, message: String },

    /// The system gave no thread for a worker.
    #[error("cannot start a loader worker: {source}; set workers to 0 to do without")]
    Thread { source: io::Error },

    /// An image file could not be decoded.
    #[error("{name}: cannot decode the image: {source}")]
    Decode { name: String, source: image::ImageError },

    /// An image file holds a picture of more pixels than is allowed.
    #[error(
        "{name}: the picture has {width} x {height} pixels, more than the {max_pixels} that are allowed; if it is \
         meant to be that large, raise data.max_pixels"
    )]
    TooManyPixels { name: String, width: u32, height: u32, max_pixels: u64 },
}

impl DataError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }

    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::BadFile { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn folder(path: &Path, reason: impl Into<String>) -> Self {
        Self::BadFolder { path: path.to_owned(), reason: reason.into() }
    }
}
