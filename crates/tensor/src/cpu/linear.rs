//! The linear layer: product and epilogue by row blocks, and its gradients. Batched products are here too.

use super::CpuBackend;
use super::activation::{Mask, activate_row, activate_row_with_derivative, dropout_row};
use super::arithmetic::{accumulate, add_row, multiply_by, store, sum_rows};
use super::buffer::Buffer;
use super::dispatch::{with_float, with_sum};
use super::memory::{lock, packed_weight, read, write};
use super::number::{Number, Real};
use super::parallel::try_each;
use super::product::{
    BlockGrid, Matrix, MatrixMut, ResultBlock, Right, one_row, pack, packed_len, product,
};
use super::scratch::with_scratch;
use super::transpose::{SIDE, transpose};
use crate::backend::{Epilogue, Products};
use crate::simd;
use crate::{Result, Tensor};

/// Packs the transpose of a weight, into an old buffer if there is one; `None` without memory for it.
pub(super) fn pack_weight<T: Number>(w: Matrix<'_, T>, buffer: Option<Buffer>) -> Option<Buffer> {
    let [inputs, outputs] = w.extents();
    let bytes = packed_len::<T>(inputs, outputs) * size_of::<T::Acc>();
    let mut buffer =
        buffer.filter(|b| b.bytes().len() >= bytes).or_else(|| Buffer::zeroed(bytes))?;
    pack::<T>(w, bytemuck::cast_slice_mut(&mut buffer.bytes_mut()[..bytes]));
    Some(buffer)
}

/// `y = epilogue(x·wᵀ)`, given `wᵀ`.
pub(super) fn forward<T: Number>(
    x: Matrix<'_, T>,
    w: Right<'_, T>,
    epilogue: &Epilogue<'_, [T]>,
    mask: Option<&Mask>,
    derivative: Option<&mut [T]>,
    y: &mut [T],
) -> Result<()> {
    if y.is_empty() {
        return Ok(());
    }
    let [_, outputs] = w.matrix.extents();
    let grid = BlockGrid::new::<T>(y.len() / outputs, outputs);
    let mut derivatives = derivative.map(|derivative| grid.cut(derivative).into_iter());
    let parts = grid.cut(y).into_iter().map(|y| (y, derivatives.as_mut().and_then(Iterator::next)));
    product(x, w, &grid, parts, |(y, mut derivative), block| {
        let (rows, columns) = (block.rows(), block.columns());
        compute(&block, y, |i, values| {
            let derivative = derivative.as_mut().map(|derivative| derivative.row(i));
            let first = (rows.start + i) * outputs + columns.start;
            finish_row(epilogue, mask, [first, columns.start], values, derivative);
        })
    })
}

/// Computes a block where it goes, and finishes each of its rows while it is in cache.
pub(super) fn compute<T: Number>(
    block: &ResultBlock<'_, T>,
    to: MatrixMut<'_, T>,
    mut finish: impl FnMut(usize, &mut [T::Acc]),
) -> Result<()> {
    let (rows, columns) = (to.rows(), to.columns());
    match to.of_type::<T::Acc>() {
        Ok(mut to) => {
            block.multiply(&mut to, false)?;
            (0..rows).for_each(|i| finish(i, to.row(i)));
            Ok(())
        }
        Err(mut to) => with_scratch(rows * columns, |values| {
            let mut values = MatrixMut::new(values, [rows, columns], columns);
            block.multiply(&mut values, false)?;
            for i in 0..rows {
                finish(i, values.row(i));
                store::<T>(values.row(i), to.row(i));
            }
            Ok(())
        }),
    }
}

/// Finishes a part of a row of the product, from element `first` of the result on, which is in column `column`.
fn finish_row<T: Number>(
    epilogue: &Epilogue<'_, [T]>,
    mask: Option<&Mask>,
    [first, column]: [usize; 2],
    values: &mut [T::Acc],
    derivative: Option<&mut [T]>,
) {
    let width = values.len();
    if let Some(bias) = epilogue.bias {
        add_row(values, &bias[column..][..width]);
    }
    let mask = mask.map(|mask| (&mask.dropout, mask.index(first)));
    match (epilogue.activation, derivative) {
        (Some(activation), Some(derivative)) => {
            activate_row_with_derivative::<T>(values, activation, mask, derivative);
        }
        (activation, _) => {
            if let Some(activation) = activation {
                activate_row(values, activation);
            }
            if let Some((dropout, index)) = mask {
                dropout_row(values, dropout, index);
            }
        }
    }
    if let Some(residual) = epilogue.residual {
        add_row(values, &residual[first..][..width]);
    }
}

/// `dx = dy·w`, times the derivative of what made the input, if there is one.
fn grad_input<T: Number>(
    dy: &[T],
    w: &Tensor,
    dx: &mut [T],
    derivative: Option<&[T]>,
) -> Result<()> {
    if dx.is_empty() {
        return Ok(());
    }
    let (outputs, inputs, w) = (w.shape()[0], w.shape()[1], read(w));
    let rows = dx.len() / inputs;
    let dy = Matrix::row_major(dy, rows, outputs);
    let w = Matrix::row_major(&w, outputs, inputs);
    let grid = BlockGrid::new::<T>(rows, inputs);
    product(dy, w.into(), &grid, grid.cut(dx), |dx, block| {
        let (rows, columns) = (block.rows(), block.columns());
        compute(&block, dx, |i, values| {
            if let Some(derivative) = derivative {
                let first = (rows.start + i) * inputs + columns.start;
                multiply_by(values, &derivative[first..][..values.len()]);
            }
        })
    })
}

/// `dw += dyᵀ·x`, for a matrix x of a row for each of dy's.
pub(super) fn grad_weight<T: Number, S: Number<Acc = T::Acc>>(
    dy: &[T],
    x: Matrix<'_, T>,
    dw: &mut [S],
    outputs: usize,
) -> Result<()> {
    if dw.is_empty() {
        return Ok(());
    }
    let inputs = dw.len() / outputs;
    let dy = Matrix::row_major(dy, dy.len() / outputs, outputs);
    if inputs <= outputs {
        let grid = BlockGrid::new::<T>(outputs, inputs);
        return product(dy.transposed(), x.into(), &grid, grid.cut(dw), |dw, block| {
            match dw.of_type::<T::Acc>() {
                Ok(mut dw) => block.multiply(&mut dw, true),
                Err(mut dw) => with_block(&block, |values| {
                    for (i, values) in values.chunks_exact(block.columns().len()).enumerate() {
                        accumulate(dw.row(i), values);
                    }
                }),
            }
        });
    }
    // The narrower matrix is the one to pack whole: the transpose is computed.
    let grid = BlockGrid::new::<T>(inputs, outputs);
    product(x.transposed(), dy.into(), &grid, grid.cut_transposed(dw), |mut dw, block| {
        with_block(&block, |values| accumulate_transposed(&mut dw, values))
    })
}

/// Runs `work` on a block, dense.
fn with_block<T: Number>(block: &ResultBlock<'_, T>, work: impl FnOnce(&[T::Acc])) -> Result<()> {
    let (rows, columns) = (block.rows().len(), block.columns().len());
    with_scratch(rows * columns, |values| {
        block.multiply(&mut MatrixMut::new(values, [rows, columns], columns), false)?;
        work(values);
        Ok(())
    })
}

simd! {
    /// `to += sumsᵀ`, for dense sums kept in the arithmetic type.
    fn accumulate_transposed<T: Number>(to: &mut MatrixMut<'_, T>, sums: &[T::Acc]) {
        let (rows, columns) = (to.rows(), to.columns());
        let mut square = [[T::Acc::of(0.0); SIDE]; SIDE];
        for column in (0..columns).step_by(SIDE) {
            let width = SIDE.min(columns - column);
            for row in (0..rows).step_by(SIDE) {
                let height = SIDE.min(rows - row);
                let sums = sums[column * rows..].chunks(rows).take(width);
                for (square, sums) in square.iter_mut().zip(sums) {
                    square[..height].copy_from_slice(&sums[row..row + height]);
                }
                transpose(&mut square);
                for (i, sums) in square.iter().take(height).enumerate() {
                    let to = &mut to.row(row + i)[column..column + width];
                    for (to, &sum) in to.iter_mut().zip(sums) {
                        *to = T::narrow(to.widen() + sum);
                    }
                }
            }
        }
    }
}

/// `db += Σ dy` over the rows.
pub(super) fn grad_bias<T: Number, S: Number<Acc = T::Acc>>(dy: &[T], db: &mut [S]) {
    let sums = sum_rows(dy, db.len());
    accumulate(db, &sums);
}

/// Matrix `i` of a batch of strided ones, whose elements are `values`.
fn matrix<'a, T: Number>(of: &Tensor, values: &'a [T], i: usize) -> Matrix<'a, T> {
    let (shape, strides) = (of.shape(), of.strides());
    let start = (i * strides[0]).min(values.len());
    Matrix::new(&values[start..], [shape[1], shape[2]], [strides[1], strides[2]])
}

/// `c[b] = a[b]·b[b]`
fn matmul<T: Number>(a: &Tensor, b: &Tensor, c: &mut [T]) -> Result<()> {
    let (m, n) = (a.shape()[1], b.shape()[2]);
    if c.is_empty() {
        return Ok(());
    }
    let (a_values, b_values) = (read(a), read(b));
    try_each(c.chunks_mut(m * n).enumerate(), |(i, c)| {
        let (a, b) = (matrix::<T>(a, &a_values, i), matrix::<T>(b, &b_values, i));
        if m == 1 {
            return with_scratch(n, |values| {
                one_row(a, b, values);
                store::<T>(values, c);
                Ok(())
            });
        }
        let grid = BlockGrid::new::<T>(m, n);
        product(a, b.into(), &grid, grid.cut(c), |c, block| compute(&block, c, |_, _| ()))
    })
}

impl Products for CpuBackend {
    fn linear(
        &self,
        x: &Tensor,
        w: &Tensor,
        epilogue: &Epilogue<'_>,
        derivative: Option<&Tensor>,
        y: &Tensor,
    ) -> Result<()> {
        let Epilogue { activation, dropout, .. } = *epilogue;
        let mask = dropout.map(|dropout| Mask::new(dropout, y));
        with_float!(y.dtype(), T => {
            let (bias, residual) = (epilogue.bias.map(read::<T>), epilogue.residual.map(read::<T>));
            let (bias, residual) = (bias.as_deref(), residual.as_deref());
            let epilogue = Epilogue { bias, activation, dropout, residual };
            let mut derivative = derivative.map(write::<T>);
            let (x_values, values) = (read::<T>(x), read::<T>(w));
            let matrix = Matrix::row_major(&values, w.shape()[0], w.shape()[1]).transposed();
            let packed = packed_weight(w, matrix.extents(), |buffer| pack_weight(matrix, buffer));
            let packed = packed.as_deref().map(|buffer| bytemuck::cast_slice(buffer.bytes()));
            let (w, derivative) = (Right { matrix, packed }, derivative.as_deref_mut());
            let x = Matrix::row_major(&x_values, x.rows(), x.dims().last());
            forward(x, w, &epilogue, mask.as_ref(), derivative, &mut write(y))
        })
    }

    fn linear_grad_input(&self, dy: &Tensor, w: &Tensor, dx: &Tensor) -> Result<()> {
        with_float!(dx.dtype(), T => grad_input::<T>(&read(dy), w, &mut write(dx), None))
    }

    fn linear_grad_activated(
        &self,
        dy: &Tensor,
        w: &Tensor,
        derivative: &Tensor,
        dpre: &Tensor,
    ) -> Result<()> {
        with_float!(dpre.dtype(), T => {
            grad_input::<T>(&read(dy), w, &mut write(dpre), Some(&read(derivative)))
        })
    }

    fn linear_grad_weight(
        &self,
        dy: &Tensor,
        x: &Tensor,
        dw: &Tensor,
        db: Option<&Tensor>,
    ) -> Result<()> {
        let &[outputs, inputs] = dw.shape() else { unreachable!("`ops` gives a matrix") };
        let rows = dy.elements() / outputs.max(1);
        with_float!(dy.dtype(), T => {
            with_sum!(dw.dtype(), T, S => {
                let (from, mut dw) = lock::<T, S>(&[dy, x], &[dw]);
                let x = Matrix::row_major(&from[1], rows, inputs);
                grad_weight(&from[0], x, &mut dw[0], outputs)?;
            });
            if let Some(db) = db {
                with_sum!(db.dtype(), T, S => {
                    let (dy, mut db) = lock::<T, S>(&[dy], &[db]);
                    grad_bias(&dy[0], &mut db[0]);
                });
            }
        });
        Ok(())
    }

    fn matmul(&self, a: &Tensor, b: &Tensor, c: &Tensor) -> Result<()> {
        with_float!(c.dtype(), T => matmul::<T>(a, b, &mut write(c)))
    }
}
