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

/// `dx = dy · mask · activation′(x)`
pub(crate) fn grad(
    backend: &CudaBackend,
    x: &Tensor,
    activation: Activation,
    dropout: Option<Dropout>,
    dy: &Tensor,
    dx: &Tensor,
) -> Result<()> {
    backend
        .launch_for("activate_grad", dx.dtype())?
        .moves(&[x, dy, dx])
        .over_masked(dx.elements())
        .tensor(x)
        .value(activation_number(Some(activation)))
        .value(DropoutArgument::new(dropout, x))
        .tensor(dy)
        .tensor(dx)
        .value(dx.elements() as u64)
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
