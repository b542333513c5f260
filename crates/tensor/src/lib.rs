//! Tensors for vision transformers: one concrete [`Tensor`] type, an object-safe [`Backend`] of coarse operations,
//! and a CPU backend.
//!
//! ```
//! use vitrine_tensor::{Device, Tensor};
//!
//! let device = Device::cpu();
//! let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3], &device)?;
//! let weight = Tensor::from_slice(&[1.0f32, 0.0, -1.0], &[1, 3], &device)?; // [out, in]
//! let y = x.linear(&weight, &Default::default())?;
//! assert_eq!(y.shape(), [2, 1]);
//! assert_eq!(y.to_vec::<f32>()?, [-2.0, -2.0]);
//! # Ok::<(), vitrine_tensor::Error>(())
//! ```
//!
//! - A [`Tensor`] is a view (shape, strides, offset) of shared memory on a [`Device`]. Cloning is cheap.
//! - Shapes, element types and devices are checked once, in the methods of [`Tensor`]; an [`Error`] names the
//!   operation and both shapes. A [`Backend`] may trust them.
//! - Memory goes back to a pool when the last view is dropped, and the next step takes it from there.
//! - Random numbers come from [`random`]: a dropout mask is a function of its address, never stored.
//! - The host's side is `ndarray`: see `Tensor::from` and [`Tensor::to_ndarray`].
//!
//! There is no gradient here: the gradient formulas of each operation are plain methods (`…_grad`), and
//! `vitrine-autodiff` strings them together.

pub mod backend;
pub mod composed;
mod cpu;
mod device;
mod dtype;
mod error;
mod host;
mod ops;
pub mod random;
mod shape;
pub mod simd;
mod tensor;

pub use backend::{
    Activation, AdamWStep, Attention, AttentionInputs, AttentionOutput, Backend, BatchNorm, Binary,
    Epilogue, ParameterGroup, Partition, Rotation, SgdStep, Windows,
};
pub use cpu::CpuBackend;
pub use device::Device;
pub use dtype::{DType, Element, bf16};
pub use error::{Error, Result};
pub use random::{Dropout, StreamKey};
pub use shape::{MAX_RANK, Shape};
pub use tensor::Tensor;
