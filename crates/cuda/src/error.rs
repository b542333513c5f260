//! Why there is no CUDA device: each variant names the way out. What fails later is a [`vitrine_tensor::Error`].

use std::path::PathBuf;

use cust::error::CudaError;

/// What keeps a CUDA device from being used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no driver, or one that is too old.
    #[error(transparent)]
    Driver(#[from] vitrine_cuda_driver::DriverError),
    /// The machine has fewer devices.
    #[error(
        "there is no device cuda:{ordinal}: the driver knows {count}; see `nvidia-smi -L`, or take --device cpu"
    )]
    NoDevice {
        /// The device asked for.
        ordinal: u32,
        /// How many there are.
        count: u32,
    },
    /// The card has no instructions that the kernels use.
    #[error(
        "cuda:{ordinal} ({name}) has compute capability {major}.{minor}; the kernels need 8.0 (Ampere) or later; \
         take --device cpu"
    )]
    TooOldCard {
        /// The device.
        ordinal: u32,
        /// What the driver calls it.
        name: String,
        /// Its compute capability.
        major: i32,
        /// The second part of it.
        minor: i32,
    },
    /// No kernels were built.
    #[error("no CUDA kernels in {}; build them with `cargo xtask kernels`", folders(.tried))]
    MissingKernels {
        /// Where they were looked for.
        tried: Vec<PathBuf>,
    },
    /// The kernels were built from other sources than this program.
    #[error(
        "the CUDA kernels in {folder} were built from other sources (hash {found}, this program has {expected}); \
         build them again with `cargo xtask kernels`"
    )]
    StaleKernels {
        /// Where they lie.
        folder: PathBuf,
        /// The hash of their sources.
        found: String,
        /// The hash of the sources in this program.
        expected: String,
    },
    /// A file of the kernels cannot be used.
    #[error("{file}: {message}; build the kernels again with `cargo xtask kernels`")]
    Kernels {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A variable of the environment has a value that means nothing.
    #[error("{name}={value}: expected {expected}")]
    Environment {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The driver refused something while the device was set up.
    #[error("cuda:{ordinal}: {doing}: {source}")]
    SetUp {
        /// The device.
        ordinal: u32,
        /// What was being done.
        doing: &'static str,
        /// What the driver said.
        source: CudaError,
    },
}

fn folders(tried: &[PathBuf]) -> String {
    tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", nor in ")
}
