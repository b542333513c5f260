//! The format of `kernels.json`, by which the CUDA backend finds the outputs and what they need.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ptxas::Usage;

/// The version of the format.
pub const FORMAT: u32 = 1;

/// All modules of one build.
#[derive(Debug, Serialize)]
pub struct Index {
    pub format: u32,
    /// Of all sources; see `Sources::hash`.
    pub source_hash: String,
    /// The version of nvcc.
    pub compiler: String,
    pub ptx_version: String,
    /// Compute capabilities times ten.
    pub targets: Vec<u32>,
    pub modules: Vec<IndexedModule>,
}

/// The outputs of one `.cu` file; files are in the folder of the index.
#[derive(Debug, Serialize)]
pub struct IndexedModule {
    pub name: String,
    pub file: String,
    /// By target.
    pub cubins: BTreeMap<u32, String>,
    pub kernels: Vec<IndexedKernel>,
}

/// An entry point.
#[derive(Debug, Serialize)]
pub struct IndexedKernel {
    pub name: String,
    /// The size of each parameter in bytes, in order.
    pub parameters: Vec<u64>,
    /// The most threads a block may have, if the source says so (`__launch_bounds__`).
    pub max_threads: Option<u32>,
    /// Bytes of shared memory, without what a launch adds.
    pub static_shared: u32,
    /// By target.
    pub targets: BTreeMap<u32, Usage>,
}
