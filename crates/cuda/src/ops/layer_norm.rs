//! Layer norm over the last axis, with its gradients.

use vitrine_tensor::backend::LayerNormGrads;
use vitrine_tensor::{Result, Tensor};

use super::sum::{self, ROWS, float_kernel};
use crate::backend::CudaBackend;

/// `y = (x − mean)·root·scale + shift`; saves mean and root of each row.
pub(crate) fn forward(
    backend: &CudaBackend,
    x: &Tensor,
    [scale, shift]: [&Tensor; 2],
    epsilon: f64,
    y: &Tensor,
    statistics: &Tensor,
) -> Result<()> {
    backend
        .launch_for("layer_norm", y.dtype())?
        .moves(&[x, scale, shift, y, statistics])
        .over_rows(rows_of(x))
        .tensor(x)
        .tensor(scale)
        .tensor(shift)
        .value(epsilon as f32)
        .tensor(y)
        .tensor(statistics)
        .value(x.rows() as u64)
        .value(scale.elements() as u32)
        .launch()
}

/// Writes the input's gradient, adds to those of scale and shift.
pub(crate) fn grad(
    backend: &CudaBackend,
    x: &Tensor,
    scale: &Tensor,
    statistics: &Tensor,
    dy: &Tensor,
    grads: &LayerNormGrads<'_>,
) -> Result<()> {
    const OP: &str = "layer_norm_grad";
    let (rows, width) = (rows_of(x), scale.elements());
    backend
        .launch_for(OP, x.dtype())?
        .moves(&[x, scale, statistics, dy, grads.input])
        .over_rows(rows)
        .tensor(x)
        .tensor(scale)
        .tensor(statistics)
        .tensor(dy)
        .tensor(grads.input)
        .value(rows as u64)
        .value(width as u32)
        .launch()?;
    let parts = rows.div_ceil(ROWS);
    let partial = backend.scratch(parts * 2 * width * size_of::<f32>())?;
    backend
        .launch(OP, &float_kernel("layer_norm_grad_parameters", x.dtype())?)?
        .moves(&[x, statistics, dy])
        .grid([sum::blocks(backend, parts * width.div_ceil(32))?, 1, 1])
        .tensor(x)
        .tensor(statistics)
        .tensor(dy)
        .value(partial.address())
        .value(rows as u64)
        .value(width as u32)
        .value(ROWS as u32)
        .launch()?;
    sum::add_partial(backend, OP, &partial, [parts, 2 * width], 0, grads.scale)?;
    sum::add_partial(backend, OP, &partial, [parts, 2 * width], width, grads.shift)
}

/// The rows to work on: none where they have no elements.
fn rows_of(x: &Tensor) -> usize {
    if x.elements() == 0 { 0 } else { x.rows() }
}
