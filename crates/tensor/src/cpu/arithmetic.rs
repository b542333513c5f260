//! Element-wise arithmetic and sums, for tensors with and without gaps.

use num_traits::Zero;

use super::CpuBackend;
use super::dispatch::{with_float, with_sum};
use super::memory::{lock, read, write};
use super::number::{Number, Real, sum_of};
use super::parallel::{each, map};
use crate::backend::{Arithmetic, Binary};
use crate::simd;
use crate::{Result, Tensor};

/// Elements that one task works on.
const BLOCK: usize = 16 * 1024;

/// Where row `row` (an index over all axes but the last) starts.
fn row_offset(mut row: usize, shape: &[usize], strides: &[usize]) -> usize {
    let mut offset = 0;
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        offset += row % shape[axis] * strides[axis];
        row /= shape[axis];
    }
    offset
}

simd! {
    fn add_scaled_block<T: Number>(from: &[T], factor: T::Acc, to: &mut [T]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = T::narrow(to.widen() + factor * from.widen());
        }
    }
}

/// `to += factor · from`
fn add_scaled<T: Number>(from: &[T], factor: f64, to: &mut [T]) {
    each(to.chunks_mut(BLOCK).zip(from.chunks(BLOCK)), |(to, from)| {
        add_scaled_block(from, T::Acc::of(factor), to);
    });
}

simd! {
    /// `to += sums`, for sums kept in the arithmetic type.
    pub(crate) fn accumulate<T: Number>(to: &mut [T], sums: &[T::Acc]) {
        for (to, &sum) in to.iter_mut().zip(sums) {
            *to = T::narrow(to.widen() + sum);
        }
    }

    /// `values = values · factors`, for values kept in the arithmetic type.
    pub(crate) fn multiply_by<T: Number>(values: &mut [T::Acc], factors: &[T]) {
        for (value, factor) in values.iter_mut().zip(factors) {
            *value = *value * factor.widen();
        }
    }

    /// `to = values`, for values kept in the arithmetic type.
    pub(crate) fn store<T: Number>(values: &[T::Acc], to: &mut [T]) {
        for (to, &value) in to.iter_mut().zip(values) {
            *to = T::narrow(value);
        }
    }

    /// `to = values`, in the arithmetic type.
    pub(crate) fn load<T: Number>(values: &[T], to: &mut [T::Acc]) {
        for (to, value) in to.iter_mut().zip(values) {
            *to = value.widen();
        }
    }
}

#[inline(always)]
fn apply<A: Real>(op: Binary, a: A, b: A) -> A {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
    }
}

simd! {
    fn binary_row<T: Number>(op: Binary, a: (&[T], usize), b: (&[T], usize), to: &mut [T]) {
        let n = to.len();
        match (a, b) {
            ((a, 1), (b, 1)) => {
                for ((to, &a), &b) in to.iter_mut().zip(&a[..n]).zip(&b[..n]) {
                    *to = T::narrow(apply(op, a.widen(), b.widen()));
                }
            }
            ((a, a_step), (b, b_step)) => {
                for (i, to) in to.iter_mut().enumerate() {
                    *to = T::narrow(apply(op, a[i * a_step].widen(), b[i * b_step].widen()));
                }
            }
        }
    }
}

/// `to = op(a, b)` for operands with any strides, also 0; `to` is dense, of the same shape.
fn binary<T: Number>(op: Binary, [a, b]: [&Tensor; 2], to: &mut [T]) {
    if to.is_empty() {
        return;
    }
    let (a_values, b_values) = (read::<T>(a), read::<T>(b));
    if a.is_contiguous() && b.is_contiguous() {
        each(to.chunks_mut(BLOCK).enumerate(), |(block, to)| {
            let start = block * BLOCK;
            binary_row(op, (&a_values[start..], 1), (&b_values[start..], 1), to);
        });
        return;
    }
    let columns = a.dims().last();
    let rows = (BLOCK / columns).max(1);
    each(to.chunks_mut(rows * columns).enumerate(), |(block, to)| {
        for (i, to) in to.chunks_exact_mut(columns).enumerate() {
            let start = |of: &Tensor| row_offset(block * rows + i, of.shape(), of.strides());
            let step = |of: &Tensor| of.strides().last().copied().unwrap_or(1);
            let (a_row, b_row) = (&a_values[start(a)..], &b_values[start(b)..]);
            binary_row(op, (a_row, step(a)), (b_row, step(b)), to);
        }
    });
}

simd! {
    fn sum_run<T: Number>(values: &[T]) -> T::Acc {
        sum_of([values], |[value]| value)
    }

    /// `sums += row`, for sums kept in the arithmetic type.
    pub(crate) fn add_row<T: Number>(sums: &mut [T::Acc], row: &[T]) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum = *sum + value.widen();
        }
    }
}

/// Sums `[outer, reduced, inner]` over its middle axis.
fn sum<T: Number, S: Number<Acc = T::Acc>>(from: &[T], reduced: usize, inner: usize, to: &mut [S]) {
    if reduced == 0 {
        to.fill(S::narrow(T::Acc::zero()));
        return;
    }
    if inner == 1 {
        each(to.iter_mut().zip(from.chunks(reduced)), |(to, run)| {
            *to = S::narrow(map(run.chunks(BLOCK), sum_run).into_iter().sum());
        });
        return;
    }
    // Columns in blocks, so that a sum over the batch of one long row is parallel too.
    const COLUMNS: usize = 1024;
    let outer = to.chunks_mut(inner.max(1)).zip(from.chunks((reduced * inner).max(1)));
    each(outer, |(to, from)| {
        each(to.chunks_mut(COLUMNS).enumerate(), |(block, to)| {
            let mut sums = [T::Acc::zero(); COLUMNS];
            let (first, width) = (block * COLUMNS, to.len());
            for row in from.chunks_exact(inner) {
                add_row(&mut sums[..width], &row[first..first + width]);
            }
            store::<S>(&sums[..width], to);
        });
    });
}

/// What `add` adds, for all blocks, to a row of sums: each block has sums of its own, which are added in order.
pub(crate) fn sum_blocks<B: Send, A: Real>(
    blocks: impl IntoIterator<Item = B, IntoIter: ExactSizeIterator + Send>,
    columns: usize,
    add: impl Fn(B, &mut [A]) + Sync,
) -> Vec<A> {
    let partial = map(blocks, |block| {
        let mut sums = vec![A::zero(); columns];
        add(block, &mut sums);
        sums
    });
    let mut total = vec![A::zero(); columns];
    for part in partial {
        for (sum, value) in total.iter_mut().zip(part) {
            *sum = *sum + value;
        }
    }
    total
}

/// Sums over the rows of `[rows, columns]`.
pub(crate) fn sum_rows<T: Number>(from: &[T], columns: usize) -> Vec<T::Acc> {
    const ROWS: usize = 64;
    if columns == 0 {
        return Vec::new();
    }
    sum_blocks(from.chunks(ROWS * columns), columns, |block, sums| {
        for row in block.chunks_exact(columns) {
            add_row(sums, row);
        }
    })
}

impl Arithmetic for CpuBackend {
    fn add_scaled(&self, from: &Tensor, factor: f64, to: &Tensor) -> Result<()> {
        with_float!(to.dtype(), T => {
            let (from, mut to) = lock::<T, T>(&[from], &[to]);
            add_scaled(&from[0], factor, &mut to[0]);
        });
        Ok(())
    }

    fn binary(&self, op: Binary, a: &Tensor, b: &Tensor, to: &Tensor) -> Result<()> {
        with_float!(to.dtype(), T => binary::<T>(op, [a, b], &mut write(to)));
        Ok(())
    }

    fn sum(&self, from: &Tensor, to: &Tensor) -> Result<()> {
        let &[_, reduced, inner] = from.shape() else { unreachable!("`ops` gives three axes") };
        with_float!(from.dtype(), T => {
            with_sum!(to.dtype(), T, S => {
                sum::<T, S>(&read(from), reduced, inner, &mut write(to));
            });
        });
        Ok(())
    }
}
