//! The safe operations on tensors: every check of shapes, types and devices is made here, once, and then the backend
//! is called. One file a topic: the trait of the backend's methods, the structs that they take, and the methods of
//! [`Tensor`] that check and call them, each beside its gradient.

mod activation;
mod arithmetic;
mod attention;
mod batch_norm;
mod convolution;
mod embedding;
mod linear;
mod losses;
mod movement;
mod norms;
mod optimizers;
mod pooling;

pub use activation::{Activation, Activations};
pub use arithmetic::{Arithmetic, Binary};
pub use attention::{
    Attention, AttentionGrads, AttentionInputs, AttentionOutput, Attentions, InputGrads,
};
pub use batch_norm::{BatchNorm, BatchNormGrads, BatchNorms};
pub use convolution::{Convolutions, Partition, Windows};
pub use embedding::{Embeddings, Rotation};
pub use linear::{Epilogue, Products};
pub use losses::Losses;
pub use movement::Movement;
pub use norms::{LayerNormGrads, Norms};
pub use optimizers::{AdamWStep, Optimizers, ParameterGroup, SgdStep};
pub use pooling::Poolings;

use crate::error::{Error, Result};
use crate::{DType, Device, Tensor};

/// All tensors on one device?
fn same_device<'a>(op: &'static str, first: &'a Tensor, rest: &[&Tensor]) -> Result<&'a Device> {
    match rest.iter().find(|t| t.device() != first.device()) {
        None => Ok(first.device()),
        Some(other) => Err(Error::DeviceMismatch {
            op,
            lhs: first.device().to_string(),
            rhs: other.device().to_string(),
        }),
    }
}

/// All tensors on one device, of one element type, and that a float?
fn same_float<'a>(op: &'static str, first: &'a Tensor, rest: &[&Tensor]) -> Result<&'a Device> {
    let device = same_device(op, first, rest)?;
    for tensor in rest {
        if tensor.dtype() != first.dtype() {
            return Err(Error::DTypeMismatch { op, lhs: first.dtype(), rhs: tensor.dtype() });
        }
    }
    if !first.dtype().is_float() {
        return Err(Error::DType { op, dtype: first.dtype(), expected: "f32, f64 or bf16" });
    }
    Ok(device)
}

/// Is `tensor` of the accumulator's type of `like`, and on its device? So are statistics, losses and norms.
fn expect_accumulator(op: &'static str, tensor: &Tensor, like: &Tensor) -> Result<()> {
    same_device(op, like, &[tensor])?;
    let expected = like.dtype().accumulator();
    if tensor.dtype() != expected {
        return Err(Error::DTypeMismatch { op, lhs: tensor.dtype(), rhs: expected });
    }
    Ok(())
}

/// Is `tensor` of the type of `like` or of its accumulator's, and on its device? So are gradients of parameters.
fn expect_sum(op: &'static str, tensor: &Tensor, like: &Tensor) -> Result<()> {
    match tensor.dtype() == like.dtype() {
        true => same_device(op, like, &[tensor]).map(|_| ()),
        false => expect_accumulator(op, tensor, like),
    }
}

/// Does `tensor` have this shape?
fn expect_shape(
    op: &'static str,
    tensor: &Tensor,
    shape: &[usize],
    rule: &'static str,
) -> Result<()> {
    if tensor.shape() == shape {
        return Ok(());
    }
    Err(Error::shapes(op, tensor.shape(), shape, rule))
}

/// Can `to` be written while `inputs` are read? If so, it will be.
fn expect_writable(op: &'static str, to: &Tensor, inputs: &[&Tensor]) -> Result<()> {
    if !to.is_contiguous() {
        return Err(to.shape_error(op, "the destination must be dense; it is a view with gaps"));
    }
    if inputs.iter().any(|input| input.shares_memory_with(to)) {
        return Err(Error::Aliased { op });
    }
    to.note_write();
    Ok(())
}

/// Is the dropout's probability in [0, 1)?
fn check_dropout(op: &'static str, dropout: Option<&crate::Dropout>) -> Result<()> {
    dropout.map_or(Ok(()), |d| expect_share(op, "dropout probability", d.probability))
}

/// Is a number in [0, 1)?
fn expect_share(op: &'static str, name: &'static str, value: f64) -> Result<()> {
    match (0.0..1.0).contains(&value) {
        true => Ok(()),
        false => Err(Error::argument(op, name, value, "it must be at least 0 and below 1")),
    }
}

/// Is `tensor` of `i64`? What it is, is said with the type.
fn expect_i64(op: &'static str, tensor: &Tensor, expected: &'static str) -> Result<()> {
    match tensor.dtype() {
        DType::I64 => Ok(()),
        dtype => Err(Error::DType { op, dtype, expected }),
    }
}
