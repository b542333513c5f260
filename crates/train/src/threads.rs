//! The pool of threads that a command runs in.

use crate::error::{Result, TrainError};

/// Runs `work` in a pool of so many threads; 0 for one a core.
pub fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> Result<R> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| TrainError::Threads { threads, message: e.to_string() })?;
    Ok(pool.install(work))
}
