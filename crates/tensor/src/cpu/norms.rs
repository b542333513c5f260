//! Layer norm and softmax over the last axis, with their gradients; and the row of a masked softmax, for attention.

use num_traits::{Float, One, Zero};

use super::CpuBackend;
use super::arithmetic::{accumulate, sum_blocks};
use super::dispatch::{with_float, with_sum};
use super::memory::{read, write};
use super::number::{Acc, Number, Real, sum_of};
use super::parallel::each;
use crate::backend::{LayerNormGrads, Norms};
use crate::simd;
use crate::{Result, Tensor};

/// Rows that one task works on; the gradient's partial sums are added in the order of these blocks.
const ROWS: usize = 32;

simd! {
    fn layer_norm_rows<T: Number>(
        x: &[T],
        scale: &[T],
        shift: &[T],
        epsilon: T::Acc,
        y: &mut [T],
        statistics: &mut [T::Acc],
    ) {
        let width = scale.len();
        let share = T::Acc::of(1.0 / width as f64);
        for ((x, y), statistics) in
            x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(statistics.chunks_exact_mut(2))
        {
            let mean = sum_of([x], |[x]| x) * share;
            let variance = sum_of([x], |[x]| (x - mean) * (x - mean)) * share;
            let root = T::Acc::of(1.0) / Float::sqrt(variance + epsilon);
            for (((y, x), scale), shift) in y.iter_mut().zip(x).zip(scale).zip(shift) {
                *y = T::narrow((x.widen() - mean) * root * scale.widen() + shift.widen());
            }
            statistics[0] = mean;
            statistics[1] = root;
        }
    }
}

/// `y = (x − mean)/√(variance + ε)·scale + shift`; saves mean and reciprocal root of each row.
fn layer_norm<T: Number>(
    x: &[T],
    scale: &[T],
    shift: &[T],
    epsilon: f64,
    y: &mut [T],
    statistics: &mut [T::Acc],
) {
    if y.is_empty() {
        return;
    }
    let block = ROWS * scale.len();
    let blocks = y.chunks_mut(block).zip(x.chunks(block)).zip(statistics.chunks_mut(2 * ROWS));
    each(blocks, |((y, x), statistics)| {
        layer_norm_rows(x, scale, shift, T::Acc::of(epsilon), y, statistics);
    });
}

simd! {
    /// Adds the block's share of the gradients of scale and shift to `sums [2, D]`.
    fn layer_norm_grad_rows<T: Number>(
        x: &[T],
        scale: &[T],
        statistics: &[T::Acc],
        dy: &[T],
        dx: &mut [T],
        sums: &mut [T::Acc],
    ) {
        let width = scale.len();
        let share = T::Acc::of(1.0 / width as f64);
        let (dscale, dshift) = sums.split_at_mut(width);
        for (((x, dy), dx), statistics) in x
            .chunks_exact(width)
            .zip(dy.chunks_exact(width))
            .zip(dx.chunks_exact_mut(width))
            .zip(statistics.chunks_exact(2))
        {
            let (mean, root) = (statistics[0], statistics[1]);
            // With n = (x − mean)·root and g = dy·scale: dx = root·(g − mean(g) − n·mean(g·n)).
            let g_mean = sum_of([dy, scale], |[dy, scale]| dy * scale) * share;
            let gn_mean =
                sum_of([dy, scale, x], |[dy, scale, x]| dy * scale * ((x - mean) * root)) * share;
            for i in 0..width {
                let (d, n) = (dy[i].widen(), (x[i].widen() - mean) * root);
                dx[i] = T::narrow(root * (d * scale[i].widen() - g_mean - n * gn_mean));
                dscale[i] = dscale[i] + d * n;
                dshift[i] = dshift[i] + d;
            }
        }
    }
}

/// Writes dx; gives the gradients of scale and shift, `[2, D]`.
fn layer_norm_grad<T: Number>(
    x: &[T],
    scale: &[T],
    statistics: &[T::Acc],
    dy: &[T],
    dx: &mut [T],
) -> Vec<T::Acc> {
    let width = scale.len();
    if dx.is_empty() {
        return vec![T::Acc::zero(); 2 * width];
    }
    let block = ROWS * width;
    let inputs = x.chunks(block).zip(dy.chunks(block)).zip(statistics.chunks(2 * ROWS));
    sum_blocks(dx.chunks_mut(block).zip(inputs), 2 * width, |(dx, ((x, dy), statistics)), sums| {
        layer_norm_grad_rows(x, scale, statistics, dy, dx, sums);
    })
}

#[inline(always)]
fn largest<A: Real>(values: &[A]) -> A {
    // Lanes of maxima vectorise; a NaN must not be lost, as `max` would.
    let mut lanes = [A::neg_infinity(); 16];
    for chunk in values.chunks(16) {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane = if v > *lane || v.is_nan() { v } else { *lane };
        }
    }
    lanes.into_iter().fold(A::neg_infinity(), |a, b| if b > a || b.is_nan() { b } else { a })
}

simd! {
    /// Turns scores, times a positive `scale`, into softmax weights, in place; gives the logarithm of the denominator
    /// (−∞ for no scores).
    pub(crate) fn softmax_row<A: Real>(scores: &mut [A], scale: A) -> A {
        let top = largest(scores) * scale;
        for score in scores.iter_mut() {
            *score = (*score * scale - top).exponential();
        }
        let sum = sum_of([scores], |[score]| score);
        let factor = A::one() / sum;
        for score in scores.iter_mut() {
            *score = *score * factor;
        }
        top + Float::ln(sum)
    }
}

/// As [`softmax_row`] for the first `valid` scores of a row; the others get the weight 0. The whole row is worked on,
/// which ends on a full register.
pub(crate) fn masked_softmax<A: Real>(row: &mut [A], scale: A, valid: usize) -> A {
    row[valid..].fill(A::neg_infinity());
    if valid == 0 {
        row.fill(A::zero());
        return A::neg_infinity();
    }
    softmax_row(row, scale)
}

simd! {
    /// The weights of [`masked_softmax`] again, in place of the scores, given the logarithm of the denominator.
    pub(crate) fn masked_softmax_again<A: Real>(row: &mut [A], scale: A, valid: usize, log_sum: A) {
        for score in row.iter_mut() {
            *score = (*score * scale - log_sum).exponential();
        }
        row[valid..].fill(A::zero());
    }
}

/// Softmax of each row of `width` elements.
fn softmax_rows<T: Number>(x: &[T], width: usize, y: &mut [T]) {
    if y.is_empty() {
        return;
    }
    each(y.chunks_mut(ROWS * width).zip(x.chunks(ROWS * width)), |(y, x)| {
        let mut row = vec![T::Acc::zero(); width];
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            row.iter_mut().zip(x).for_each(|(row, x)| *row = x.widen());
            softmax_row(&mut row, T::Acc::one());
            y.iter_mut().zip(&row).for_each(|(y, &row)| *y = T::narrow(row));
        }
    });
}

/// `dx = y·(dy − Σ dy·y)` for each row.
fn softmax_grad_rows<T: Number>(y: &[T], dy: &[T], width: usize, dx: &mut [T]) {
    if dx.is_empty() {
        return;
    }
    let block = ROWS * width;
    each(dx.chunks_mut(block).zip(y.chunks(block)).zip(dy.chunks(block)), |((dx, y), dy)| {
        let rows = dx.chunks_exact_mut(width).zip(y.chunks_exact(width));
        for ((dx, y), dy) in rows.zip(dy.chunks_exact(width)) {
            softmax_grad_row(y, dy, dx);
        }
    });
}

simd! {
    fn softmax_grad_row<T: Number>(y: &[T], dy: &[T], dx: &mut [T]) {
        let dot = sum_of([dy, y], |[dy, y]| dy * y);
        for ((dx, y), dy) in dx.iter_mut().zip(y).zip(dy) {
            *dx = T::narrow(y.widen() * (dy.widen() - dot));
        }
    }
}

impl Norms for CpuBackend {
    fn layer_norm(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        epsilon: f64,
        y: &Tensor,
        statistics: &Tensor,
    ) -> Result<()> {
        with_float!(y.dtype(), T => {
            let mut statistics = write::<Acc<T>>(statistics);
            let (scale, shift) = (read::<T>(scale), read::<T>(shift));
            layer_norm::<T>(
                &read(x), &scale, &shift, epsilon, &mut write(y), &mut statistics,
            );
        });
        Ok(())
    }

    fn layer_norm_grad(
        &self,
        x: &Tensor,
        scale: &Tensor,
        statistics: &Tensor,
        dy: &Tensor,
        grads: &LayerNormGrads<'_>,
    ) -> Result<()> {
        with_float!(x.dtype(), T => {
            let sums = layer_norm_grad::<T>(
                &read(x), &read(scale), &read(statistics), &read(dy), &mut write(grads.input),
            );
            let (scale, shift) = sums.split_at(scale.elements());
            for (to, sums) in [(grads.scale, scale), (grads.shift, shift)] {
                with_sum!(to.dtype(), T, S => accumulate::<S>(&mut write(to), sums));
            }
        });
        Ok(())
    }

    fn softmax(&self, x: &Tensor, y: &Tensor) -> Result<()> {
        with_float!(y.dtype(), T => {
            softmax_rows::<T>(&read(x), x.dims().last(), &mut write(y));
        });
        Ok(())
    }

    fn softmax_grad(&self, y: &Tensor, dy: &Tensor, dx: &Tensor) -> Result<()> {
        with_float!(dx.dtype(), T => {
            softmax_grad_rows::<T>(&read(y), &read(dy), y.dims().last(), &mut write(dx));
        });
        Ok(())
    }
}
