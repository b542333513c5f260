//! Batch norm over rows of channels, with residual and activation, and its gradients: one pass for the statistics, one
//! for the result; one for the sums of the gradients, one for the input's.

use std::ops::Range;

use num_traits::{Float, Zero};

use super::CpuBackend;
use super::activation::{activate_both, activate_row};
use super::arithmetic::{accumulate, load, multiply_by, store, sum_blocks};
use super::dispatch::{with_float, with_sum};
use super::memory::{read, write};
use super::number::{Acc, Number, Real};
use super::parallel::{each, map};
use crate::backend::{Activation, BatchNorm, BatchNormGrads, BatchNorms};
use crate::simd;
use crate::{Element, Result, Tensor};

/// Elements that one task works on, if rows are not longer: two passes over them read memory once.
const BLOCK: usize = 16 * 1024;
/// Elements that are at hand in the arithmetic type at a time, if rows are not longer.
const RUN: usize = 1024;

/// The elements of the rows of a task.
fn block(channels: usize) -> usize {
    (BLOCK / channels).max(1) * channels
}

simd! {
    /// Each channel's mean over the rows, and the sum of the squares of the distances from it.
    fn moments<T: Number>(x: &[T], mean: &mut [T::Acc], squares: &mut [T::Acc]) {
        let channels = mean.len();
        for row in x.chunks_exact(channels) {
            for (sum, x) in mean.iter_mut().zip(row) {
                *sum = *sum + x.widen();
            }
        }
        let share = T::Acc::of(channels as f64 / x.len() as f64);
        for mean in mean.iter_mut() {
            *mean = *mean * share;
        }
        for row in x.chunks_exact(channels) {
            for ((sum, mean), x) in squares.iter_mut().zip(mean.iter()).zip(row) {
                let distance = x.widen() - *mean;
                *sum = *sum + distance * distance;
            }
        }
    }
}

/// Mean and variance `[2, C]`: those of blocks, joined in order (Chan, Golub and LeVeque 1983, equation 1.5).
fn moments_of<T: Number>(x: &[T], statistics: &mut [T::Acc]) {
    let channels = statistics.len() / 2;
    if channels == 0 {
        return;
    }
    let parts = map(x.chunks(block(channels)), |x| {
        let mut sums = vec![T::Acc::zero(); 2 * channels];
        let (mean, squares) = sums.split_at_mut(channels);
        moments(x, mean, squares);
        (x.len() / channels, sums)
    });
    let (means, variances) = statistics.split_at_mut(channels);
    for channel in 0..channels {
        let (mut rows, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for (more, sums) in &parts {
            let [part, of] = [sums[channel], sums[channels + channel]].map(Element::to_f64);
            let (more, distance) = (*more as f64, part - mean);
            squares += of + distance * distance * rows * more / (rows + more);
            rows += more;
            mean += distance * more / rows;
        }
        means[channel] = T::Acc::of(mean);
        variances[channel] = T::Acc::of(squares / rows);
    }
}

/// What normalises the channels, in the arithmetic type, each `[C]`.
pub(super) struct Channels<A> {
    mean: Vec<A>,
    /// 1/√(variance + ε)
    root: Vec<A>,
    scale: Vec<A>,
    shift: Vec<A>,
}

impl<A: Real> Channels<A> {
    /// Factors and summands, each `[C]`, that do the same to what a bias is still to be added to.
    pub(super) fn folded<T: Number<Acc = A>>(&self, bias: Option<&[T]>) -> [Vec<A>; 2] {
        let factors: Vec<A> = self.root.iter().zip(&self.scale).map(|(&r, &s)| r * s).collect();
        let summand = |(i, &factor): (usize, &A)| {
            let bias = bias.map_or(A::zero(), |bias| bias[i].widen());
            (bias - self.mean[i]) * factor + self.shift[i]
        };
        let summands = factors.iter().enumerate().map(summand).collect();
        [factors, summands]
    }

    pub(super) fn new<T: Number<Acc = A>>(statistics: &[A], norm: &BatchNorm<'_>) -> Self {
        let (mean, variance) = statistics.split_at(norm.scale.elements());
        let root = |&variance: &A| A::of(1.0) / Float::sqrt(variance + A::of(norm.epsilon));
        let wide = |values: &Tensor| read::<T>(values).iter().map(|v| v.widen()).collect();
        Self {
            mean: mean.to_vec(),
            root: variance.iter().map(root).collect(),
            scale: wide(norm.scale),
            shift: wide(norm.shift),
        }
    }
}

simd! {
    /// What comes before the activation, for rows of x and of the residual, which may be empty.
    fn normalise<T: Number>(
        x: &[T],
        residual: &[T],
        channels: &Channels<T::Acc>,
        to: &mut [T::Acc],
    ) {
        let Channels { mean, root, scale, shift } = channels;
        let n = mean.len();
        let (root, scale, shift) = (&root[..n], &scale[..n], &shift[..n]);
        for (to, x) in to.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
            for i in 0..n {
                to[i] = (x[i].widen() - mean[i]) * root[i] * scale[i] + shift[i];
            }
        }
        for (to, residual) in to.iter_mut().zip(residual) {
            *to = *to + residual.widen();
        }
    }
}

/// Cuts a task's elements into runs of whole rows: the range of each in the whole, and its part of `to`.
fn runs<T>(
    channels: usize,
    task: usize,
    to: &mut [T],
) -> impl Iterator<Item = (Range<usize>, &mut [T])> {
    let (start, run) = (task * block(channels), (RUN / channels).max(1) * channels);
    to.chunks_mut(run).enumerate().map(move |(i, to)| {
        let first = start + i * run;
        (first..first + to.len(), to)
    })
}

/// `y = activation(normalised + residual)`
fn forward<T: Number>(
    x: &[T],
    residual: &[T],
    channels: &Channels<T::Acc>,
    activation: Option<Activation>,
    y: &mut [T],
) {
    let width = channels.mean.len();
    each(y.chunks_mut(block(width)).enumerate(), |(task, y)| {
        let mut values = vec![T::Acc::zero(); RUN.max(width)];
        for (at, y) in runs(width, task, y) {
            let values = &mut values[..y.len()];
            normalise(&x[at.clone()], residual.get(at).unwrap_or(&[]), channels, values);
            if let Some(activation) = activation {
                activate_row(values, activation);
            }
            store(values, y);
        }
    });
}

simd! {
    /// Adds, for rows of gradients before the activation, those of shift and scale to `sums [2, C]`.
    fn add_sums<T: Number>(
        x: &[T],
        g: &[T::Acc],
        channels: &Channels<T::Acc>,
        sums: &mut [T::Acc],
    ) {
        let n = channels.mean.len();
        let (mean, root) = (&channels.mean[..n], &channels.root[..n]);
        let (shift, scale) = sums.split_at_mut(n);
        for (x, g) in x.chunks_exact(n).zip(g.chunks_exact(n)) {
            for i in 0..n {
                shift[i] = shift[i] + g[i];
                scale[i] = scale[i] + g[i] * ((x[i].widen() - mean[i]) * root[i]);
            }
        }
    }
}

simd! {
    /// `dx = root·scale·(g − mean(g) − n·mean(g·n))`, in place of g, with n the normalised x; `means [2, C]` has the
    /// two means, and is empty where the statistics are constants.
    fn finish<T: Number>(x: &[T], channels: &Channels<T::Acc>, means: &[T::Acc], dx: &mut [T]) {
        let Channels { mean, root, scale, .. } = channels;
        let n = mean.len();
        let (root, scale) = (&root[..n], &scale[..n]);
        for (dx, x) in dx.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
            if means.is_empty() {
                for i in 0..n {
                    dx[i] = T::narrow(root[i] * scale[i] * dx[i].widen());
                }
                continue;
            }
            let (of_g, of_gn) = means.split_at(n);
            for i in 0..n {
                let normalised = (x[i].widen() - mean[i]) * root[i];
                let centred = dx[i].widen() - of_g[i] - normalised * of_gn[i];
                dx[i] = T::narrow(root[i] * scale[i] * centred);
            }
        }
    }
}

/// Writes `g = dy·activation′`, the gradient before the activation; gives those of shift and scale, `[2, C]`.
fn grad_before<T: Number>(
    [x, residual, dy]: [&[T]; 3],
    channels: &Channels<T::Acc>,
    activation: Option<Activation>,
    g: &mut [T],
) -> Vec<T::Acc> {
    let width = channels.mean.len();
    sum_blocks(g.chunks_mut(block(width)).enumerate(), 2 * width, |(task, g), sums| {
        let mut buffers = [(); 2].map(|()| vec![T::Acc::zero(); RUN.max(width)]);
        for (at, g) in runs(width, task, g) {
            let [values, slopes] = buffers.each_mut().map(|buffer| &mut buffer[..g.len()]);
            let (x, dy) = (&x[at.clone()], &dy[at.clone()]);
            match activation {
                None => load(dy, slopes),
                Some(activation) => {
                    normalise(x, residual.get(at).unwrap_or(&[]), channels, values);
                    activate_both(values, slopes, activation);
                    multiply_by(slopes, dy);
                }
            }
            add_sums(x, slopes, channels, sums);
            store(slopes, g);
        }
    })
}

impl BatchNorms for CpuBackend {
    fn batch_statistics(&self, x: &Tensor, statistics: &Tensor) -> Result<()> {
        with_float!(x.dtype(), T => moments_of::<T>(&read(x), &mut write(statistics)));
        Ok(())
    }

    fn batch_norm(
        &self,
        x: &Tensor,
        statistics: &Tensor,
        norm: &BatchNorm<'_>,
        y: &Tensor,
    ) -> Result<()> {
        if y.elements() == 0 {
            return Ok(());
        }
        with_float!(y.dtype(), T => {
            let channels = Channels::new::<T>(&read(statistics), norm);
            let residual = norm.residual.map(read::<T>);
            let residual = residual.as_deref().unwrap_or(&[]);
            forward::<T>(&read(x), residual, &channels, norm.activation, &mut write(y));
        });
        Ok(())
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
        if x.elements() == 0 {
            return Ok(());
        }
        with_float!(x.dtype(), T => {
            let channels = Channels::new::<T>(&read(statistics), norm);
            let width = channels.mean.len();
            let residual = norm.residual.map(read::<T>);
            let (x, mut dx) = (read::<T>(x), write::<T>(grads.input));
            let inputs = [&*x, residual.as_deref().unwrap_or(&[]), &*read(dy)];
            let mut means = grad_before(inputs, &channels, norm.activation, &mut dx);
            if let Some(residual) = grads.residual {
                write::<T>(residual).copy_from_slice(&dx);
            }
            for (to, sums) in [grads.shift, grads.scale].into_iter().zip(means.chunks(width)) {
                with_sum!(to.dtype(), T, S => accumulate::<S>(&mut write(to), sums));
            }
            let share = Acc::<T>::of(width as f64 / x.len() as f64);
            multiply_by::<Acc<T>>(&mut means, &vec![share; 2 * width]);
            means.truncate(if fixed { 0 } else { 2 * width });
            let tasks = dx.chunks_mut(block(width)).zip(x.chunks(block(width)));
            each(tasks, |(dx, x)| finish(x, &channels, &means, dx));
        });
        Ok(())
    }
}
