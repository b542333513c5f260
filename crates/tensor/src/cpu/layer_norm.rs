//! Layer norm over the last axis, with its gradients.

use num_traits::Zero;
use rayon::prelude::*;

use super::number::{Number, Real, sum_of};
use super::simd::simd;

/// Rows that one task works on; the gradient's partial sums are added in the order of these blocks.
const ROWS: usize = 32;

simd! {
    fn forward_rows<T: Number>(
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
            let root = T::Acc::of(1.0) / num_traits::Float::sqrt(variance + epsilon);
            for (((y, x), scale), shift) in y.iter_mut().zip(x).zip(scale).zip(shift) {
                *y = T::narrow((x.widen() - mean) * root * scale.widen() + shift.widen());
            }
            statistics[0] = mean;
            statistics[1] = root;
        }
    }
}

/// `y = (x − mean)/√(variance + ε)·scale + shift`; saves mean and reciprocal root of each row.
pub(crate) fn forward<T: Number>(
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
    y.par_chunks_mut(block)
        .zip(x.par_chunks(block))
        .zip(statistics.par_chunks_mut(2 * ROWS))
        .with_min_len(2) // Another thread takes longer to wake than a block takes.
        .for_each(|((y, x), statistics)| {
            forward_rows(x, scale, shift, T::Acc::of(epsilon), y, statistics);
        });
}

simd! {
    /// Adds the block's share of the gradients of scale and shift to `sums [2, D]`.
    fn grad_rows<T: Number>(
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
pub(crate) fn grad<T: Number>(
    x: &[T],
    scale: &[T],
    statistics: &[T::Acc],
    dy: &[T],
    dx: &mut [T],
) -> Vec<T::Acc> {
    let width = scale.len();
    let mut total = vec![T::Acc::zero(); 2 * width];
    if dx.is_empty() {
        return total;
    }
    let block = ROWS * width;
    let partial: Vec<Vec<T::Acc>> = dx
        .par_chunks_mut(block)
        .zip(x.par_chunks(block))
        .zip(dy.par_chunks(block))
        .zip(statistics.par_chunks(2 * ROWS))
        .map(|(((dx, x), dy), statistics)| {
            let mut sums = vec![T::Acc::zero(); 2 * width];
            grad_rows(x, scale, statistics, dy, dx, &mut sums);
            sums
        })
        .collect();
    for part in partial {
        for (sum, value) in total.iter_mut().zip(part) {
            *sum = *sum + value;
        }
    }
    total
}
