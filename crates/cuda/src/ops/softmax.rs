//! Softmax over the last axis, with its gradient.

use vitrine_tensor::{Result, Tensor};

use crate::backend::CudaBackend;

/// Softmax of each row.
pub(crate) fn forward(backend: &CudaBackend, x: &Tensor, y: &Tensor) -> Result<()> {
    let (rows, width) = extents(y);
    backend
        .launch_for("softmax", y.dtype())?
        .moves(&[x, y])
        .over_rows(rows)
        .tensor(x)
        .tensor(y)
        .value(rows as u64)
        .value(width)
        .launch()
}

/// `dx = y·(dy − Σ dy·y)` for each row.
pub(crate) fn grad(backend: &CudaBackend, y: &Tensor, dy: &Tensor, dx: &Tensor) -> Result<()> {
    let (rows, width) = extents(y);
    backend
        .launch_for("softmax_grad", y.dtype())?
        .moves(&[y, dy, dx])
        .over_rows(rows)
        .tensor(y)
        .tensor(dy)
        .tensor(dx)
        .value(rows as u64)
        .value(width)
        .launch()
}

/// Rows and their width; no rows where they have no elements.
fn extents(y: &Tensor) -> (usize, u32) {
    let width = y.dims().last();
    (y.elements().checked_div(width).unwrap_or(0), width as u32)
}
