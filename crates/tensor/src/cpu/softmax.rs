//! Softmax over the last axis, with its gradient; and the row of a masked softmax that attention uses.

use num_traits::{Float, One, Zero};
use rayon::prelude::*;

use super::number::{Number, Real, sum_of};
use super::simd::simd;

/// Rows that one task works on.
const ROWS: usize = 32;

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
pub(crate) fn forward<T: Number>(x: &[T], width: usize, y: &mut [T]) {
    if y.is_empty() {
        return;
    }
    y.par_chunks_mut(ROWS * width).zip(x.par_chunks(ROWS * width)).for_each(|(y, x)| {
        let mut row = vec![T::Acc::zero(); width];
        for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            row.iter_mut().zip(x).for_each(|(row, x)| *row = x.widen());
            softmax_row(&mut row, T::Acc::one());
            y.iter_mut().zip(&row).for_each(|(y, &row)| *y = T::narrow(row));
        }
    });
}

/// `dx = y·(dy − Σ dy·y)` for each row.
pub(crate) fn grad<T: Number>(y: &[T], dy: &[T], width: usize, dx: &mut [T]) {
    if dx.is_empty() {
        return;
    }
    let block = ROWS * width;
    dx.par_chunks_mut(block).zip(y.par_chunks(block)).zip(dy.par_chunks(block)).for_each(
        |((dx, y), dy)| {
            let rows = dx.chunks_exact_mut(width).zip(y.chunks_exact(width));
            for ((dx, y), dy) in rows.zip(dy.chunks_exact(width)) {
                grad_row(y, dy, dx);
            }
        },
    );
}

simd! {
    fn grad_row<T: Number>(y: &[T], dy: &[T], dx: &mut [T]) {
        let dot = sum_of([dy, y], |[dy, y]| dy * y);
        for ((dx, y), dy) in dx.iter_mut().zip(y).zip(dy) {
            *dx = T::narrow(y.widen() * (dy.widen() - dot));
        }
    }
}
