//! Coarse operations put together from finer ones: what a backend does that does not fuse them.

use crate::backend::{Binary, Products};
use crate::{Result, Tensor};

/// [`Products::linear_grad_activated`] in two passes, with the gradient of the linear layer's input between them.
pub fn linear_grad_activated<B: Products + ?Sized>(
    backend: &B,
    dy: &Tensor,
    w: &Tensor,
    derivative: &Tensor,
    dpre: &Tensor,
) -> Result<()> {
    let bytes = dpre.elements() * dpre.dtype().size();
    let memory = backend.allocate(bytes)?;
    let dx = Tensor::from_memory(memory, dpre.dims(), dpre.dtype(), dpre.device());
    backend.linear_grad_input(dy, w, &dx)?;
    backend.binary(Binary::Mul, &dx, derivative, dpre)
}
