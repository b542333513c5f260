//! Element-wise arithmetic.

use vitrine_tensor::{Binary, Result, Tensor};

use crate::arguments::Walk;
use crate::backend::CudaBackend;

/// `to += factor · from`, dense.
pub(crate) fn add_scaled(
    backend: &CudaBackend,
    from: &Tensor,
    factor: f64,
    to: &Tensor,
) -> Result<()> {
    let elements = to.elements() as u64;
    backend
        .launch_for("add_scaled", to.dtype())?
        .moves(&[from, to, to])
        .over(elements)
        .tensor(from)
        .value(factor as f32)
        .tensor(to)
        .value(elements)
        .launch()
}

/// `to = op(a, b)` of strided inputs of the shape of `to`.
pub(crate) fn binary(
    backend: &CudaBackend,
    op: Binary,
    a: &Tensor,
    b: &Tensor,
    to: &Tensor,
) -> Result<()> {
    let walk = Walk::new("binary", to.shape(), &[a.strides(), b.strides(), to.strides()])?;
    let number: u32 = match op {
        Binary::Add => 0,
        Binary::Sub => 1,
        Binary::Mul => 2,
        Binary::Div => 3,
    };
    backend
        .launch_for("binary", to.dtype())?
        .moves(&[a, b, to])
        .over(walk.elements())
        .value(number)
        .tensor(a)
        .tensor(b)
        .tensor(to)
        .value(walk)
        .launch()
}
