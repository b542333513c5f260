//! Activation functions and dropout over dense tensors, with their gradients.

use num_traits::{One, Zero};
use rayon::prelude::*;

use super::number::{Number, Real};
use super::simd::simd;
use crate::{Activation, Dropout, Tensor};

/// Elements that one task works on at the least.
const BLOCK: usize = 16 * 1024;

/// A dropout mask laid over a tensor's samples.
pub(crate) struct Mask {
    dropout: Dropout,
    sample: usize,
}

impl Mask {
    /// The mask of a tensor whose first axis counts samples. A tensor of one axis is one sample.
    pub(crate) fn new(dropout: Dropout, tensor: &Tensor) -> Self {
        let samples = if tensor.rank() < 2 { 1 } else { tensor.shape()[0] };
        Self { dropout, sample: tensor.elements().checked_div(samples).unwrap_or(0).max(1) }
    }

    /// Cuts elements `first..first + len` at the borders of samples: gives `each` the position of a run, its length,
    /// and the index of its mask.
    fn runs(&self, first: usize, len: usize, mut each: impl FnMut(usize, usize, u64)) {
        let mut done = 0;
        while done < len {
            let at = first + done;
            let run = match self.dropout.sample_stride {
                None => len,
                Some(_) => (self.sample - at % self.sample).min(len - done),
            };
            let (sample, inside) = (at / self.sample, at % self.sample);
            let stride = self.dropout.sample_stride.unwrap_or(self.sample);
            each(done, run, (sample * stride + inside) as u64);
            done += run;
        }
    }

    /// Multiplies elements `first..` by their mask.
    pub(crate) fn apply<A: Real>(&self, values: &mut [A], first: usize) {
        self.runs(first, values.len(), |start, len, index| {
            dropout_row(&mut values[start..start + len], &self.dropout, index);
        });
    }
}

simd! {
    /// Multiplies a run of elements by their mask, the first element having the given index.
    pub(crate) fn dropout_row<A: Real>(values: &mut [A], dropout: &Dropout, index: u64) {
        let (threshold, scale) = (dropout.threshold(), A::of(dropout.scale()));
        dropout.for_each_run(index, values.len(), |start, words| {
            let values = &mut values[start..start + words.len()];
            for (value, &word) in values.iter_mut().zip(words) {
                *value = if word >= threshold { *value * scale } else { A::zero() };
            }
        });
    }
}

simd! {
    /// Draws the factors of a run of elements, the first having the given index.
    pub(crate) fn dropout_factors<A: Real>(factors: &mut [A], dropout: &Dropout, index: u64) {
        let (threshold, scale) = (dropout.threshold(), A::of(dropout.scale()));
        dropout.for_each_run(index, factors.len(), |start, words| {
            for (factor, &word) in factors[start..start + words.len()].iter_mut().zip(words) {
                *factor = if word >= threshold { scale } else { A::zero() };
            }
        });
    }
}

simd! {
    fn activate_block<T: Number>(x: &[T], activation: Activation, y: &mut [T]) {
        match activation {
            Activation::GeluErf => map(x, y, |v| Activation::GeluErf.value(v)),
            Activation::GeluTanh => map(x, y, |v| Activation::GeluTanh.value(v)),
            Activation::Relu => map(x, y, |v| Activation::Relu.value(v)),
        }
    }
}

#[inline(always)]
fn map<T: Number>(x: &[T], y: &mut [T], f: impl Fn(T::Acc) -> T::Acc) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = T::narrow(f(x.widen()));
    }
}

simd! {
    fn derivative_block<T: Number>(x: &[T], activation: Activation, d: &mut [T::Acc]) {
        match activation {
            Activation::GeluErf => derive(x, d, |v| Activation::GeluErf.derivative(v)),
            Activation::GeluTanh => derive(x, d, |v| Activation::GeluTanh.derivative(v)),
            Activation::Relu => derive(x, d, |v| Activation::Relu.derivative(v)),
        }
    }
}

#[inline(always)]
fn derive<T: Number>(x: &[T], d: &mut [T::Acc], f: impl Fn(T::Acc) -> T::Acc) {
    for (d, x) in d.iter_mut().zip(x) {
        *d = f(x.widen());
    }
}

simd! {
    fn multiply<T: Number>(factors: &[T::Acc], dy: &[T], dx: &mut [T]) {
        for ((dx, dy), &factor) in dx.iter_mut().zip(dy).zip(factors) {
            *dx = T::narrow(dy.widen() * factor);
        }
    }
}

simd! {
    fn multiply_by<A: Real>(values: &mut [A], factors: &[A]) {
        for (value, &factor) in values.iter_mut().zip(factors) {
            *value = *value * factor;
        }
    }
}

/// Elements whose factors are at hand at a time: few enough for the first-level cache.
const RUN: usize = 1024;

/// The derivative of `dropout(activation(x))`: `mask · activation′(x)`.
pub(crate) struct Derivative<'a, T> {
    pub(crate) x: &'a [T],
    pub(crate) activation: Activation,
    pub(crate) mask: Option<&'a Mask>,
}

impl<T: Number> Derivative<'_, T> {
    /// The derivative at the elements from `first` on.
    fn factors(&self, first: usize, factors: &mut [T::Acc]) {
        derivative_block(&self.x[first..first + factors.len()], self.activation, factors);
        if let Some(mask) = self.mask {
            mask.apply(factors, first);
        }
    }

    /// Multiplies the elements from `first` on by the derivative.
    pub(crate) fn apply(&self, values: &mut [T::Acc], first: usize) {
        let mut factors = [T::Acc::zero(); RUN];
        for (run, values) in values.chunks_mut(RUN).enumerate() {
            let factors = &mut factors[..values.len()];
            self.factors(first + run * RUN, factors);
            multiply_by(values, factors);
        }
    }
}

/// `y = activation(x)`
pub(crate) fn forward<T: Number>(x: &[T], activation: Activation, y: &mut [T]) {
    y.par_chunks_mut(BLOCK)
        .zip(x.par_chunks(BLOCK))
        .for_each(|(y, x)| activate_block(x, activation, y));
}

/// `dx = dy · mask · activation′(x)`
pub(crate) fn grad<T: Number>(input: &Derivative<'_, T>, dy: &[T], dx: &mut [T]) {
    dx.par_chunks_mut(BLOCK).enumerate().for_each(|(block, dx)| {
        let mut factors = [T::Acc::zero(); RUN];
        for (run, dx) in dx.chunks_mut(RUN).enumerate() {
            let first = block * BLOCK + run * RUN;
            let factors = &mut factors[..dx.len()];
            input.factors(first, factors);
            multiply(factors, &dy[first..first + dx.len()], dx);
        }
    });
}

/// `y = x · mask`
pub(crate) fn dropout<T: Number>(x: &[T], mask: &Mask, y: &mut [T]) {
    y.par_chunks_mut(BLOCK).enumerate().for_each(|(block, y)| {
        let mut factors = [T::Acc::zero(); RUN];
        for (run, y) in y.chunks_mut(RUN).enumerate() {
            let first = block * BLOCK + run * RUN;
            let factors = &mut factors[..y.len()];
            factors.fill(T::Acc::one());
            mask.apply(factors, first);
            multiply(factors, &x[first..first + y.len()], y);
        }
    });
}
