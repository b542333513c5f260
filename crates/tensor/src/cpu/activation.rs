//! Activation functions and dropout over dense tensors, with their gradients.

use num_traits::Zero;

use super::CpuBackend;
use super::arithmetic::{load, store};
use super::dispatch::with_float;
use super::memory::{read, write};
use super::number::{Number, Real};
use super::parallel::each;
use crate::backend::{Activation, Activations};
use crate::simd;
use crate::{Dropout, Result, Tensor};

/// Elements that one task works on at the least.
const BLOCK: usize = 16 * 1024;

/// A dropout mask laid over a tensor's samples.
pub(crate) struct Mask {
    pub(crate) dropout: Dropout,
    /// Elements whose indices follow each other.
    sample: usize,
}

impl Mask {
    /// The mask of a tensor whose first axis counts samples. A tensor of one axis is one sample.
    pub(crate) fn new(dropout: Dropout, tensor: &Tensor) -> Self {
        let sample = match (tensor.shape(), dropout.sample_stride) {
            ([_, rest @ ..], Some(_)) if !rest.is_empty() => rest.iter().product(),
            _ => usize::MAX,
        };
        Self { dropout, sample: sample.max(1) }
    }

    /// The index of an element's mask.
    pub(crate) fn index(&self, element: usize) -> u64 {
        let stride = self.dropout.sample_stride.unwrap_or(0);
        (element / self.sample * stride + element % self.sample) as u64
    }

    /// Multiplies elements `first..` by their mask.
    pub(crate) fn apply<A: Real>(&self, mut values: &mut [A], mut first: usize) {
        while !values.is_empty() {
            let in_sample = self.sample - first % self.sample;
            let (run, rest) = values.split_at_mut(in_sample.min(values.len()));
            dropout_row(run, &self.dropout, self.index(first));
            first += run.len();
            values = rest;
        }
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

    /// Draws the factors of a run of elements, the first having the given index.
    pub(crate) fn dropout_factors<A: Real>(factors: &mut [A], dropout: &Dropout, index: u64) {
        let (threshold, scale) = (dropout.threshold(), A::of(dropout.scale()));
        dropout.for_each_run(index, factors.len(), |start, words| {
            for (factor, &word) in factors[start..start + words.len()].iter_mut().zip(words) {
                *factor = if word >= threshold { scale } else { A::zero() };
            }
        });
    }

    /// Multiplies two runs of elements by the same mask.
    fn dropout_rows<A: Real>(rows: [&mut [A]; 2], dropout: &Dropout, index: u64) {
        let (threshold, scale) = (dropout.threshold(), A::of(dropout.scale()));
        let [first, second] = rows;
        dropout.for_each_run(index, first.len(), |start, words| {
            let first = &mut first[start..start + words.len()];
            let second = &mut second[start..start + words.len()];
            for ((first, second), &word) in first.iter_mut().zip(second).zip(words) {
                let kept = word >= threshold;
                *first = if kept { *first * scale } else { A::zero() };
                *second = if kept { *second * scale } else { A::zero() };
            }
        });
    }
}

// Below, each activation has a loop of its own: the choice must not be inside.

simd! {
    /// `activation(values)`, in place.
    pub(crate) fn activate_row<A: Real>(values: &mut [A], activation: Activation) {
        match activation {
            Activation::GeluErf => apply(values, |v| Activation::GeluErf.at(v).0),
            Activation::GeluTanh => apply(values, |v| Activation::GeluTanh.at(v).0),
            Activation::Relu => apply(values, |v| Activation::Relu.at(v).0),
            Activation::Silu => apply(values, |v| Activation::Silu.at(v).0),
        }
    }
}

/// Written as a loop: a closure that `for_each` takes may be compiled apart, without the caller's instruction set.
#[inline(always)]
fn apply<A: Real>(values: &mut [A], f: impl Fn(A) -> A) {
    for value in values {
        *value = f(*value);
    }
}

simd! {
    /// As [`activate_row`], with the derivative at each element.
    pub(crate) fn activate_both<A: Real>(values: &mut [A], derivative: &mut [A], activation: Activation) {
        match activation {
            Activation::GeluErf => both(values, derivative, |v| Activation::GeluErf.at(v)),
            Activation::GeluTanh => both(values, derivative, |v| Activation::GeluTanh.at(v)),
            Activation::Relu => both(values, derivative, |v| Activation::Relu.at(v)),
            Activation::Silu => both(values, derivative, |v| Activation::Silu.at(v)),
        }
    }
}

#[inline(always)]
fn both<A: Real>(values: &mut [A], derivative: &mut [A], f: impl Fn(A) -> (A, A)) {
    for (value, derivative) in values.iter_mut().zip(derivative) {
        (*value, *derivative) = f(*value);
    }
}

simd! {
    fn activate_block<T: Number>(x: &[T], activation: Activation, y: &mut [T]) {
        match activation {
            Activation::GeluErf => map(x, y, |v| Activation::GeluErf.at(v).0),
            Activation::GeluTanh => map(x, y, |v| Activation::GeluTanh.at(v).0),
            Activation::Relu => map(x, y, |v| Activation::Relu.at(v).0),
            Activation::Silu => map(x, y, |v| Activation::Silu.at(v).0),
        }
    }

    fn grad_block<T: Number>(x: &[T], activation: Activation, dy: &[T], dx: &mut [T]) {
        match activation {
            Activation::GeluErf => chain(x, dy, dx, |v| Activation::GeluErf.at(v).1),
            Activation::GeluTanh => chain(x, dy, dx, |v| Activation::GeluTanh.at(v).1),
            Activation::Relu => chain(x, dy, dx, |v| Activation::Relu.at(v).1),
            Activation::Silu => chain(x, dy, dx, |v| Activation::Silu.at(v).1),
        }
    }
}

#[inline(always)]
fn map<T: Number>(x: &[T], y: &mut [T], f: impl Fn(T::Acc) -> T::Acc) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = T::narrow(f(x.widen()));
    }
}

#[inline(always)]
fn chain<T: Number>(x: &[T], dy: &[T], dx: &mut [T], f: impl Fn(T::Acc) -> T::Acc) {
    for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
        *dx = T::narrow(dy.widen() * f(x.widen()));
    }
}

/// Elements that are at hand in the arithmetic type at a time: few enough for the first-level cache.
const RUN: usize = 1024;

/// `dropout(activation(values))`, in place, and the derivative of that: `mask · activation′(values)`. The mask is given
/// with the index of the first element.
pub(crate) fn activate_row_with_derivative<T: Number>(
    values: &mut [T::Acc],
    activation: Activation,
    mask: Option<(&Dropout, u64)>,
    derivative: &mut [T],
) {
    let mut slopes = [T::Acc::zero(); RUN];
    for (run, derivative) in derivative.chunks_mut(RUN).enumerate() {
        let values = &mut values[run * RUN..][..derivative.len()];
        let slopes = &mut slopes[..derivative.len()];
        activate_both(values, slopes, activation);
        if let Some((dropout, index)) = mask {
            dropout_rows([values, slopes], dropout, index + (run * RUN) as u64);
        }
        store::<T>(slopes, derivative);
    }
}

/// `y = activation(x)`
fn forward<T: Number>(x: &[T], activation: Activation, y: &mut [T]) {
    each(y.chunks_mut(BLOCK).zip(x.chunks(BLOCK)), |(y, x)| activate_block(x, activation, y));
}

/// `dx = dy · activation′(x)`
fn grad<T: Number>(x: &[T], activation: Activation, dy: &[T], dx: &mut [T]) {
    let blocks = dx.chunks_mut(BLOCK).zip(x.chunks(BLOCK)).zip(dy.chunks(BLOCK));
    each(blocks, |((dx, x), dy)| grad_block(x, activation, dy, dx));
}

/// `y = x · mask`, where a dropped element is 0 whatever it was.
fn multiply_by_mask<T: Number>(x: &[T], mask: &Mask, y: &mut [T]) {
    each(y.chunks_mut(BLOCK).enumerate(), |(block, y)| {
        let mut values = [T::Acc::zero(); RUN];
        for (run, y) in y.chunks_mut(RUN).enumerate() {
            let first = block * BLOCK + run * RUN;
            let values = &mut values[..y.len()];
            load(&x[first..first + y.len()], values);
            mask.apply(values, first);
            store(values, y);
        }
    });
}

impl Activations for CpuBackend {
    fn activate(&self, x: &Tensor, activation: Activation, y: &Tensor) -> Result<()> {
        with_float!(y.dtype(), T => forward::<T>(&read(x), activation, &mut write(y)));
        Ok(())
    }

    fn activate_grad(
        &self,
        x: &Tensor,
        activation: Activation,
        dy: &Tensor,
        dx: &Tensor,
    ) -> Result<()> {
        with_float!(dx.dtype(), T => {
            grad::<T>(&read(x), activation, &read(dy), &mut write(dx));
        });
        Ok(())
    }

    fn dropout(&self, x: &Tensor, dropout: Dropout, y: &Tensor) -> Result<()> {
        let mask = Mask::new(dropout, x);
        with_float!(y.dtype(), T => multiply_by_mask::<T>(&read(x), &mask, &mut write(y)));
        Ok(())
    }
}
