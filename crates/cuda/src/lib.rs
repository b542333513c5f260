//! The CUDA backend: the operations of [`vitrine_tensor::Backend`] as kernels in CUDA C++, launched through `cust`.
//!
//! ```no_run
//! use vitrine_tensor::Tensor;
//!
//! let device = vitrine_cuda::device(0)?;
//! let x = Tensor::from_slice(&[1.0f32, 2.0], &[1, 2], &device)?;
//! let weight = Tensor::from_slice(&[3.0f32, 4.0], &[1, 2], &device)?; // [out, in]
//! assert_eq!(x.linear(&weight, &Default::default())?.to_vec::<f32>()?, [11.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - Kernels lie in `kernels/*.cu`; `cargo xtask kernels` builds them. The backend loads them from `$VITRINE_KERNELS`,
//!   from `kernels/` beside the program, or from cargo's `target/kernels`, and refuses those of other sources.
//! - Work goes in order through one stream, so memory that is given back may be used again at once. Batches travel on
//!   a second stream, from pinned memory, while the step before is still running.
//! - Nothing waits for the device but [`Tensor::to_vec`] and its like. An error that the device finds later (a label
//!   that is no class) is given by the next call that waits.
//! - Element types are `f32` and `bf16`; `u8`, `i64` and `f64` can be moved and converted. Sums are kept in `f32`.
//! - No operation adds floats in an order that changes: the same inputs give the same bits on one kind of card.
//!
//! Tensor shapes and their checks are in `vitrine-tensor`; the driver is found by `vitrine-cuda-driver`.
//!
//! [`Tensor::to_vec`]: vitrine_tensor::Tensor::to_vec

extern crate vitrine_cuda_driver as _;

mod arguments;
mod backend;
mod error;
mod kernels;
mod launch;
mod limits;
mod memory;
mod ops;
mod profile;
mod report;
mod transfer;

use std::collections::BTreeMap;

use parking_lot::Mutex;
use vitrine_tensor::Device;

pub use backend::{Allocator, CudaBackend, MatmulPrecision, Options};
pub use error::Error;
pub use kernels::kernels_folder;
pub use limits::Limits;
pub use profile::{KernelFigures, Profiling, Work};
pub use report::{KernelReport, KernelRow};

/// The device `cuda:ordinal`, with the options of the environment ([`Options::from_environment`]): the same one at each
/// call, whose tensors can be used together.
pub fn device(ordinal: u32) -> Result<Device, Error> {
    static DEVICES: Mutex<BTreeMap<u32, Device>> = Mutex::new(BTreeMap::new());
    let mut devices = DEVICES.lock();
    if let Some(device) = devices.get(&ordinal) {
        return Ok(device.clone());
    }
    let device = Device::new(CudaBackend::new(ordinal, &Options::from_environment()?)?);
    devices.insert(ordinal, device.clone());
    Ok(device)
}
