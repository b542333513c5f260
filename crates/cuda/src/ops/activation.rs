//! Activations and dropout over dense tensors, with their gradients.

use vitrine_tensor::{Activation, Dropout, Result, Tensor};

use crate::arguments::{DropoutArgument, activation_number};
use crate::backend::CudaBackend;

/// `y = activation(x)`
pub(crate) fn activate(
    backend: &CudaBackend,
    x: &Tensor,
    activation: Activation,
    y: &Tensor,
) -> Result<()> {
    let elements = y.elements() as u64;
    backend
        .launch_for("activate", y.dtype())?
        .moves(&[x, y])
        .over(elements)
        .tensor(x)
        .value(activation_number(Some(activation)))
        .tensor(y)
        .value(elements)
        .launch()
}

/// `dx = dy · activation′(x)`
pub(crate) fn grad(
    backend: &CudaBackend,
    x: &Tensor,
    activation: Activation,
    dy: &Tensor,
    dx: &Tensor,
) -> Result<()> {
    let elements = dx.elements() as u64;
    backend
        .launch_for("activate_grad", dx.dtype())?
        .moves(&[x, dy, dx])
        .over(elements)
        .tensor(x)
        .value(activation_number(Some(activation)))
        .tensor(dy)
        .tensor(dx)
        .value(elements)
        .launch()
}

/// `y = x · mask`
pub(crate) fn dropout(
    backend: &CudaBackend,
    x: &Tensor,
    dropout: Dropout,
    y: &Tensor,
) -> Result<()> {
    backend
        .launch_for("dropout", y.dtype())?
        .moves(&[x, y])
        .over_masked(y.elements())
        .tensor(x)
        .value(DropoutArgument::new(Some(dropout), x))
        .tensor(y)
        .value(y.elements() as u64)
        .launch()
}
