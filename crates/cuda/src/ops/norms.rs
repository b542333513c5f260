//! Layer norm and softmax over the last axis, with their gradients.

use vitrine_tensor::backend::{LayerNormGrads, Norms};
use vitrine_tensor::{Result, Tensor};

use super::arithmetic::{ROWS, add_partial, blocks, float_kernel};
use crate::backend::CudaBackend;

/// The rows to work on: none where they have no elements.
fn rows_of(x: &Tensor) -> usize {
    if x.elements() == 0 { 0 } else { x.rows() }
}

/// Rows and their width; no rows where they have no elements.
fn extents(y: &Tensor) -> (usize, u32) {
    let width = y.dims().last();
    (y.elements().checked_div(width).unwrap_or(0), width as u32)
}

impl Norms for CudaBackend {
    fn layer_norm(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        epsilon: f64,
        y: &Tensor,
        statistics: &Tensor,
    ) -> Result<()> {
        self.launch_for("layer_norm", y.dtype())?
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

    fn layer_norm_grad(
        &self,
        x: &Tensor,
        scale: &Tensor,
        statistics: &Tensor,
        dy: &Tensor,
        grads: &LayerNormGrads<'_>,
    ) -> Result<()> {
        const OP: &str = "layer_norm_grad";
        let (rows, width) = (rows_of(x), scale.elements());
        self.launch_for(OP, x.dtype())?
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
        let partial = self.scratch(parts * 2 * width * size_of::<f32>())?;
        self.launch(OP, &float_kernel("layer_norm_grad_parameters", x.dtype())?)?
            .moves(&[x, statistics, dy])
            .grid([blocks(self, parts * width.div_ceil(32))?, 1, 1])
            .tensor(x)
            .tensor(statistics)
            .tensor(dy)
            .value(partial.address())
            .value(rows as u64)
            .value(width as u32)
            .value(ROWS as u32)
            .launch()?;
        add_partial(self, OP, &partial, [parts, 2 * width], 0, grads.scale)?;
        add_partial(self, OP, &partial, [parts, 2 * width], width, grads.shift)
    }

    fn softmax(&self, x: &Tensor, y: &Tensor) -> Result<()> {
        let (rows, width) = extents(y);
        self.launch_for("softmax", y.dtype())?
            .moves(&[x, y])
            .over_rows(rows)
            .tensor(x)
            .tensor(y)
            .value(rows as u64)
            .value(width)
            .launch()
    }

    fn softmax_grad(&self, y: &Tensor, dy: &Tensor, dx: &Tensor) -> Result<()> {
        let (rows, width) = extents(y);
        self.launch_for("softmax_grad", y.dtype())?
            .moves(&[y, dy, dx])
            .over_rows(rows)
            .tensor(y)
            .tensor(dy)
            .tensor(dx)
            .value(rows as u64)
            .value(width)
            .launch()
    }
}
