//! Why a file of a model on a Hub could not be had.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::HubName;

/// Why a file of a Hub could not be had. No message holds a token, or the query of an address, which may sign it.
#[derive(Debug, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message says what each field is")]
pub enum HubError {
    /// The name of a model, or of a file.
    #[error("`{given}` names no {what}; its parts are of letters, digits, `.`, `_` and `-`")]
    Name { given: String, what: &'static str },
    /// A variable of the environment.
    #[error("{name} {problem}")]
    Variable { name: &'static str, problem: &'static str },
    /// The Hub knows the repository, but no such revision or file.
    #[error("{repo} has no {what}")]
    Missing { repo: String, what: String },
    /// The file is not in the cache, and did not get there either.
    #[error("{file} of {name} is not in the cache {}, and {why}", cache.display())]
    NotCached { name: HubName, file: String, cache: PathBuf, why: String },
    /// A file or folder of the cache.
    #[error("cannot use {}: {source}; HF_HUB_CACHE may name another folder", path.display())]
    Io { path: PathBuf, source: io::Error },
}
