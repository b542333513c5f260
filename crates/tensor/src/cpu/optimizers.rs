//! Optimizer updates over flat buffers, and the norm of the gradient.

use std::ops::Range;

use num_traits::Float;

use super::CpuBackend;
use super::dispatch::with_float;
use super::memory::{lock, read, write};
use super::number::{Number, Real, sum_of};
use super::parallel::{each, map};
use crate::backend::{AdamWStep, Optimizers, ParameterGroup, SgdStep};
use crate::simd;
use crate::{Result, Tensor};

/// Elements that one task works on.
const BLOCK: usize = 16 * 1024;

simd! {
    fn sgd_block<T: Number>(w: &mut [T], g: &[T], velocity: Option<&mut [T]>, step: &SgdStep) {
        let rate = T::Acc::of(step.learning_rate);
        let decay = T::Acc::of(step.weight_decay);
        let momentum = T::Acc::of(step.momentum);
        match velocity {
            None => {
                for (w, g) in w.iter_mut().zip(g) {
                    let weight = w.widen();
                    *w = T::narrow(weight - rate * (g.widen() + decay * weight));
                }
            }
            Some(velocity) => {
                for ((w, g), v) in w.iter_mut().zip(g).zip(velocity) {
                    let weight = w.widen();
                    let g = g.widen() + decay * weight;
                    let new = momentum * v.widen() + g;
                    *v = T::narrow(new);
                    let direction = if step.nesterov { g + momentum * new } else { new };
                    *w = T::narrow(weight - rate * direction);
                }
            }
        }
    }
}

/// `w −= rate·direction`, with the direction of [`SgdStep`].
fn sgd<T: Number>(w: &mut [T], g: &[T], velocity: Option<&mut [T]>, step: &SgdStep) {
    let blocks = w.chunks_mut(BLOCK).zip(g.chunks(BLOCK));
    match velocity.filter(|_| step.momentum != 0.0) {
        None => each(blocks, |(w, g)| sgd_block(w, g, None, step)),
        Some(v) => {
            each(blocks.zip(v.chunks_mut(BLOCK)), |((w, g), v)| sgd_block(w, g, Some(v), step));
        }
    }
}

simd! {
    fn adamw_block<T: Number>(w: &mut [T], g: &[T], m: &mut [T], v: &mut [T], step: &AdamWStep) {
        let exponent = step.step.min(i32::MAX as u64) as i32;
        let correction1 = 1.0 - step.beta1.powi(exponent);
        let correction2 = 1.0 - step.beta2.powi(exponent);
        let rate = T::Acc::of(step.learning_rate / correction1);
        let root = T::Acc::of(1.0 / correction2.sqrt());
        let keep = T::Acc::of(1.0 - step.learning_rate * step.weight_decay);
        let (beta1, beta2) = (T::Acc::of(step.beta1), T::Acc::of(step.beta2));
        let (rest1, rest2) = (T::Acc::of(1.0 - step.beta1), T::Acc::of(1.0 - step.beta2));
        let epsilon = T::Acc::of(step.epsilon);
        for (((w, g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
            let g = g.widen();
            let first = beta1 * m.widen() + rest1 * g;
            let second = beta2 * v.widen() + rest2 * g * g;
            *m = T::narrow(first);
            *v = T::narrow(second);
            *w = T::narrow(keep * w.widen() - rate * first / (second.sqrt() * root + epsilon));
        }
    }
}

/// One step of AdamW; `moments` are the first and the second.
fn adamw<T: Number>(w: &mut [T], g: &[T], moments: (&mut [T], &mut [T]), step: &AdamWStep) {
    let moments = moments.0.chunks_mut(BLOCK).zip(moments.1.chunks_mut(BLOCK));
    let blocks = w.chunks_mut(BLOCK).zip(g.chunks(BLOCK)).zip(moments);
    each(blocks, |((w, g), (m, v))| adamw_block(w, g, m, v, step));
}

simd! {
    fn squares_of<T: Number>(x: &[T]) -> f64 {
        sum_of([x], |[x]| {
            let x = crate::Element::to_f64(x);
            x * x
        })
    }
}

/// `Σ x²`: sums of blocks, added in their order.
fn sum_squares<T: Number>(x: &[T]) -> f64 {
    map(x.chunks(BLOCK), squares_of).into_iter().sum()
}

/// `x *= min(1, max_norm/(norm + 1e-6))`
fn clip<T: Number>(x: &mut [T], norm: f64, max_norm: f64) {
    let factor = max_norm / (norm + 1e-6);
    // A NaN norm leaves the gradients as they are: the caller sees it in the loss.
    if factor < 1.0 {
        let factor = T::Acc::of(factor);
        each(x.chunks_mut(BLOCK), |block| {
            for value in block {
                *value = T::narrow(value.widen() * factor);
            }
        });
    }
}

/// The runs of elements that are updated, each with its learning rate and weight decay.
fn runs(
    groups: &[ParameterGroup],
    elements: usize,
    learning_rate: f64,
    weight_decay: f64,
) -> impl Iterator<Item = (Range<usize>, f64, f64)> {
    let groups = ParameterGroup::covering(groups, elements, weight_decay).into_iter();
    groups.filter(|group| !group.frozen).map(move |group| {
        let weight_decay = if group.decay { weight_decay } else { 0.0 };
        (group.range, learning_rate * group.rate_scale, weight_decay)
    })
}

impl Optimizers for CpuBackend {
    fn sgd(
        &self,
        parameters: &Tensor,
        grads: &Tensor,
        velocity: Option<&Tensor>,
        step: &SgdStep,
        groups: &[ParameterGroup],
    ) -> Result<()> {
        with_float!(parameters.dtype(), T => {
            let written: Vec<&Tensor> = [parameters].into_iter().chain(velocity).collect();
            let (grads, mut written) = lock::<T, T>(&[grads], &written);
            let [parameters, velocity @ ..] = &mut written[..] else { unreachable!() };
            for (run, learning_rate, weight_decay) in
                runs(groups, parameters.len(), step.learning_rate, step.weight_decay)
            {
                let step = SgdStep { learning_rate, weight_decay, ..*step };
                let velocity = velocity.first_mut().map(|velocity| &mut velocity[run.clone()]);
                sgd::<T>(&mut parameters[run.clone()], &grads[0][run], velocity, &step);
            }
        });
        Ok(())
    }

    fn adamw(
        &self,
        parameters: &Tensor,
        grads: &Tensor,
        first_moment: &Tensor,
        second_moment: &Tensor,
        step: &AdamWStep,
        groups: &[ParameterGroup],
    ) -> Result<()> {
        with_float!(parameters.dtype(), T => {
            let (grads, mut written) =
                lock::<T, T>(&[grads], &[parameters, first_moment, second_moment]);
            let [parameters, first, second] = &mut written[..] else { unreachable!() };
            for (run, learning_rate, weight_decay) in
                runs(groups, parameters.len(), step.learning_rate, step.weight_decay)
            {
                let step = AdamWStep { learning_rate, weight_decay, ..*step };
                let moments = (&mut first[run.clone()], &mut second[run.clone()]);
                adamw::<T>(&mut parameters[run.clone()], &grads[0][run], moments, &step);
            }
        });
        Ok(())
    }

    fn sum_squares(&self, x: &Tensor, to: &Tensor) -> Result<()> {
        with_float!(x.dtype(), T => {
            let sum = sum_squares::<T>(&read(x));
            write::<f64>(to)[0] = sum;
        });
        Ok(())
    }

    fn clip_norm(&self, x: &Tensor, sum_squares: &Tensor, max_norm: f64) -> Result<()> {
        with_float!(x.dtype(), T => {
            let norm = read::<f64>(sum_squares)[0].sqrt();
            clip::<T>(&mut write(x), norm, max_norm);
        });
        Ok(())
    }
}
