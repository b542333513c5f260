//! Batch norm with what follows it, its statistics, and its gradients.

use bytemuck::NoUninit;
use vitrine_tensor::backend::{BatchNorm, BatchNormGrads, BatchNorms};
use vitrine_tensor::{DType, Result, Tensor};

use super::arithmetic::{ROWS, add_partial, blocks, float_kernel};
use crate::arguments::activation_number;
use crate::backend::CudaBackend;
use crate::launch::Launch;
use crate::memory::address;

/// Channels of a block of threads.
const CHANNELS: usize = 32;
/// Parts that rows are cut into at the most: what they sum up to is read again.
const MOST_PARTS: usize = 512;

/// How rows of channels are cut, as `Rows` in `kernels/batch_norm.cu`. It depends on the sizes alone, and so does the
/// order of the sums.
#[derive(Clone, Copy, Debug, PartialEq, NoUninit)]
#[repr(C)]
struct Rows {
    rows: u64,
    channels: u32,
    part: u32,
}

impl Rows {
    fn of(x: &Tensor) -> Self {
        Self::new(x.rows(), x.dims().last())
    }

    fn new(rows: usize, channels: usize) -> Self {
        let part = rows.div_ceil(MOST_PARTS).next_multiple_of(ROWS).max(ROWS);
        Self { rows: rows as u64, channels: channels as u32, part: part as u32 }
    }

    fn parts(self) -> usize {
        self.rows.div_ceil(self.part.into()) as usize
    }

    /// Two numbers for each channel.
    fn pair(self) -> usize {
        2 * self.channels as usize
    }

    /// A launch of a step of an operation, by element type, with a block for 32 channels of each part.
    fn launch<'a>(
        self,
        backend: &'a CudaBackend,
        op: &'static str,
        step: &'static str,
        dtype: DType,
    ) -> Result<Launch<'a>> {
        let columns = (self.channels as usize).div_ceil(CHANNELS);
        let grid = [blocks(backend, self.parts() * columns)?, 1, 1];
        Ok(backend.launch(op, &float_kernel(step, dtype)?)?.grid(grid))
    }
}

/// What normalises, as `Norm` in `kernels/batch_norm.cu`.
#[derive(Clone, Copy, NoUninit)]
#[repr(C)]
struct Norm {
    statistics: u64,
    scale: u64,
    shift: u64,
    residual: u64,
    epsilon: f32,
    activation: u32,
}

impl Norm {
    fn new(statistics: &Tensor, norm: &BatchNorm<'_>) -> Self {
        Self {
            statistics: address(statistics),
            scale: address(norm.scale),
            shift: address(norm.shift),
            residual: norm.residual.map_or(0, address),
            epsilon: norm.epsilon as f32,
            activation: activation_number(norm.activation),
        }
    }
}

impl BatchNorms for CudaBackend {
    fn batch_statistics(&self, x: &Tensor, statistics: &Tensor) -> Result<()> {
        const OP: &str = "batch_statistics";
        let rows = Rows::of(x);
        let moments = self.scratch(rows.parts() * rows.pair() * size_of::<f32>())?;
        rows.launch(self, OP, "batch_moments", x.dtype())?
            .moves(&[x])
            .tensor(x)
            .value(moments.address())
            .value(rows)
            .launch()?;
        self.launch(OP, OP)?
            .moves(&[statistics])
            .grid([rows.channels.div_ceil(CHANNELS as u32), 1, 1])
            .value(moments.address())
            .tensor(statistics)
            .value(rows)
            .launch()
    }

    fn batch_norm(
        &self,
        x: &Tensor,
        statistics: &Tensor,
        norm: &BatchNorm<'_>,
        y: &Tensor,
    ) -> Result<()> {
        const OP: &str = "batch_norm";
        let rows = Rows::of(x);
        rows.launch(self, OP, OP, y.dtype())?
            .moves(&[x, y])
            .moves(norm.residual.as_slice())
            .tensor(x)
            .value(Norm::new(statistics, norm))
            .tensor(y)
            .value(rows)
            .launch()
    }

    fn batch_norm_grad(
        &self,
        x: &Tensor,
        statistics: &Tensor,
        norm: &BatchNorm<'_>,
        fixed: bool,
        dy: &Tensor,
        grads: &BatchNormGrads<'_>,
    ) -> Result<()> {
        const OP: &str = "batch_norm_grad";
        if x.elements() == 0 {
            return Ok(());
        }
        let (rows, norm_argument) = (Rows::of(x), Norm::new(statistics, norm));
        let (parts, pair) = (rows.parts(), rows.pair());
        // Where the gradient before the activation is written: it is dy if there is none and nobody asks for it.
        let written = grads.residual.or(norm.activation.map(|_| grads.input));
        let partial = self.scratch(parts * pair * size_of::<f32>())?;
        let read = norm.activation.and(norm.residual);
        rows.launch(self, OP, "batch_norm_grad_sums", x.dtype())?
            .moves(&[x, dy])
            .moves(&[read, written].into_iter().flatten().collect::<Vec<_>>())
            .tensor(x)
            .value(norm_argument)
            .tensor(dy)
            .optional(written)
            .value(partial.address())
            .value(rows)
            .launch()?;
        let sums = self.scratch(pair * size_of::<f32>())?;
        self.launch(OP, "sum_f32")?
            .grid([blocks(self, pair.div_ceil(CHANNELS))?, 1, 1])
            .value(partial.address())
            .value(sums.address())
            .value(parts as u64)
            .value(pair as u32)
            .launch()?;
        add_partial(self, OP, &sums, [1, pair], 0, grads.shift)?;
        add_partial(self, OP, &sums, [1, pair], pair / 2, grads.scale)?;
        let before = written.unwrap_or(dy);
        let share = if fixed { 0.0 } else { 1.0 / rows.rows as f64 };
        rows.launch(self, OP, OP, x.dtype())?
            .moves(&[x, before, grads.input])
            .tensor(x)
            .value(norm_argument)
            .tensor(before)
            .value(sums.address())
            .value(share as f32)
            .tensor(grads.input)
            .value(rows)
            .launch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_of_a_bounded_number_of_parts() {
        for rows in [0, 1, 63, 64, 65, 32_768, 32_769, 1_605_632, 1 << 31] {
            let cut = Rows::new(rows, 5);
            let (parts, part) = (cut.parts(), cut.part as usize);
            assert!(parts <= MOST_PARTS && part.is_multiple_of(ROWS), "{rows} {cut:?}");
            assert!(parts * part >= rows && parts.saturating_sub(1) * part <= rows, "{cut:?}");
        }
    }
}
