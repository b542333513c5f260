//! [`Backend`]: the coarse operations that a device offers, as one trait a topic. Each stands with the plain structs
//! that it takes, and with the safe functions that check and call it, in a file of `ops`; here are their sum and the
//! memory behind it.
//!
//! Operations write into tensors that the caller allocated. Every method may trust what the safe functions in `ops`
//! have checked: shapes fit, element types are the same unless stated, all tensors are on this backend, none but the
//! ones documented as strided has gaps, and a destination shares memory with no input. No backend checks again.
//!
//! B is the batch, N tokens, D a width, I and O the inputs and outputs of a linear layer, K classes or keys. "Rows" are
//! all axes but the last.

use std::any::Any;

pub use crate::ops::*;
use crate::{Result, Tensor};

/// A backend's own memory behind a tensor. It goes back to the backend when it is dropped.
pub type Memory = Box<dyn Any + Send + Sync>;

/// Memory, and the way to it.
pub trait Storage: Any + Send + Sync {
    /// What people call the device, such as `cpu` or `cuda:0`.
    fn name(&self) -> String;
    /// Memory of `bytes` bytes with any content.
    fn allocate(&self, bytes: usize) -> Result<Memory>;
    /// Copies bytes from the host into a dense tensor.
    fn upload(&self, bytes: &[u8], to: &Tensor) -> Result<()>;
    /// Copies a dense tensor to the host, waiting for what is still running.
    fn download(&self, from: &Tensor, bytes: &mut [u8]) -> Result<()>;
    /// Overwrites memory that is not in use with NaN, where the backend keeps such memory. For tests: an operation that
    /// leaves a part of its result unwritten is found.
    fn poison(&self) {}
}

/// All operations of a device. What implements each topic is a backend.
///
/// `Any` is a supertrait so that a caller can get at what one backend alone offers:
/// `(device.backend() as &dyn Any).downcast_ref::<CpuBackend>()`.
pub trait Backend:
    Storage
    + Movement
    + Arithmetic
    + Activations
    + Products
    + Convolutions
    + Poolings
    + Norms
    + BatchNorms
    + Attentions
    + Losses
    + Embeddings
    + Optimizers
{
}
