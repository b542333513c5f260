//! Optimizer updates over flat buffers, and the norm of the gradient.

use bytemuck::NoUninit;
use vitrine_tensor::backend::{Optimizers, ParameterGroup};
use vitrine_tensor::{AdamWStep, Result, SgdStep, Tensor};

use super::arithmetic::blocks;
use crate::backend::CudaBackend;

/// Elements of which a block of threads sums the squares, as in `kernels/optimizer.cu`.
const SQUARES_BLOCK: usize = 16 * 1024;

/// The numbers of a step, as `AdamW` in `kernels/optimizer.cu`.
#[derive(Clone, Copy, NoUninit)]
#[repr(C)]
struct AdamW {
    rate: f32,
    root: f32,
    keep: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    epsilon: f32,
}

impl AdamW {
    fn new(step: &AdamWStep) -> Self {
        let exponent = step.step.min(i32::MAX as u64) as i32;
        Self {
            rate: (step.learning_rate / (1.0 - step.beta1.powi(exponent))) as f32,
            root: (1.0 / (1.0 - step.beta2.powi(exponent)).sqrt()) as f32,
            keep: (1.0 - step.learning_rate * step.weight_decay) as f32,
            beta1: step.beta1 as f32,
            rest1: (1.0 - step.beta1) as f32,
            beta2: step.beta2 as f32,
            rest2: (1.0 - step.beta2) as f32,
            epsilon: step.epsilon as f32,
        }
    }
}

/// Runs of elements on the device, as `Run` in `kernels/optimizer.cu`: their address and their number, 0 if all
/// elements are plain.
fn runs(
    backend: &CudaBackend,
    groups: &[ParameterGroup],
    elements: usize,
    weight_decay: f64,
) -> Result<(u64, u32)> {
    const DECAYS: u64 = 1;
    const FROZEN: u64 = 2;
    let groups = ParameterGroup::covering(groups, elements, weight_decay);
    if groups.iter().all(|group| *group == ParameterGroup::plain(group.range.clone())) {
        return Ok((0, 0));
    }
    let numbers = groups.iter().flat_map(|group| {
        let flags = DECAYS * u64::from(group.decay) + FROZEN * u64::from(group.frozen);
        let scale = u64::from((group.rate_scale as f32).to_bits());
        [group.range.end as u64, flags << 32 | scale]
    });
    Ok((backend.table(numbers.collect())?, groups.len() as u32))
}

impl Optimizers for CudaBackend {
    fn sgd(
        &self,
        parameters: &Tensor,
        grads: &Tensor,
        velocity: Option<&Tensor>,
        step: &SgdStep,
        groups: &[ParameterGroup],
    ) -> Result<()> {
        let (runs, count) = runs(self, groups, parameters.elements(), step.weight_decay)?;
        let elements = parameters.elements() as u64;
        self.launch_for("sgd", parameters.dtype())?
            .moves(&[parameters, grads, parameters])
            .moves(velocity.map(|v| [v, v]).as_ref().map_or(&[], |v| v))
            .over(elements)
            .tensor(parameters)
            .tensor(grads)
            .optional(velocity)
            .value(step.learning_rate as f32)
            .value(step.momentum as f32)
            .value(u32::from(step.nesterov))
            .value(step.weight_decay as f32)
            .value(runs)
            .value(count)
            .value(elements)
            .launch()
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
        let (runs, count) = runs(self, groups, parameters.elements(), step.weight_decay)?;
        let elements = parameters.elements() as u64;
        self.launch_for("adamw", parameters.dtype())?
            .moves(&[parameters, grads, parameters])
            .moves(&[first_moment, first_moment, second_moment, second_moment])
            .over(elements)
            .tensor(parameters)
            .tensor(grads)
            .tensor(first_moment)
            .tensor(second_moment)
            .value(AdamW::new(step))
            .value(runs)
            .value(count)
            .value(elements)
            .launch()
    }

    fn sum_squares(&self, x: &Tensor, to: &Tensor) -> Result<()> {
        const OP: &str = "sum_squares";
        let parts = x.elements().div_ceil(SQUARES_BLOCK);
        let partial = self.scratch(parts * size_of::<f64>())?;
        self.launch_for(OP, x.dtype())?
            .moves(&[x])
            .grid([blocks(self, parts)?, 1, 1])
            .tensor(x)
            .value(partial.address())
            .value(x.elements() as u64)
            .launch()?;
        self.launch(OP, "sum_squares_total")?
            .grid([1; 3])
            .value(partial.address())
            .value(parts as u32)
            .tensor(to)
            .launch()
    }

    fn clip_norm(&self, x: &Tensor, sum_squares: &Tensor, max_norm: f64) -> Result<()> {
        let elements = x.elements() as u64;
        self.launch_for("clip_norm", x.dtype())?
            .moves(&[x, x])
            .over(elements)
            .tensor(x)
            .tensor(sum_squares)
            .value(max_norm as f32)
            .value(elements)
            .launch()
    }
}
