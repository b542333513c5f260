//! Optimizer updates and the norm of the gradient, over flat buffers that hold many parameters.

use std::ops::Range;

use super::{expect_accumulator, expect_shape, expect_writable, same_float};
use crate::error::{Error, Result};
use crate::{DType, Shape, Tensor};

/// A range of flat parameters that an optimizer treats alike.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterGroup {
    /// Which elements.
    pub range: Range<usize>,
    /// Whether weight decay applies.
    pub decay: bool,
    /// A factor on the learning rate.
    pub rate_scale: f64,
    /// Whether nothing is updated.
    pub frozen: bool,
}

/// One step of stochastic gradient descent, as PyTorch's `torch.optim.SGD` defines it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// The learning rate.
    pub learning_rate: f64,
    /// μ in `v = μv + g`. The velocity is used when this is not 0.
    pub momentum: f64,
    /// Use `g + μv` in place of `v`.
    pub nesterov: bool,
    /// λ in `g + λw`.
    pub weight_decay: f64,
}

/// One step of AdamW (Loshchilov and Hutter 2019, algorithm 2), as `torch.optim.AdamW` defines it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// The learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// λ in `w − learning_rate·λ·w`.
    pub weight_decay: f64,
    /// The number of this step, from 1: the moments' bias is corrected with it.
    pub step: u64,
}

/// Updates of flat buffers that hold many parameters.
pub trait Optimizers {
    /// Updates `parameters` (dense) in place; `velocity` is used with momentum only. Weight decay leaves out the
    /// elements of `undecayed`, ranges in ascending order.
    fn sgd(
        &self,
        parameters: &Tensor,
        grads: &Tensor,
        velocity: Option<&Tensor>,
        step: &SgdStep,
        undecayed: &[Range<usize>],
    ) -> Result<()>;
    /// Updates `parameters` (dense) and both moments in place. Weight decay leaves out the elements of `undecayed`,
    /// ranges in ascending order.
    fn adamw(
        &self,
        parameters: &Tensor,
        grads: &Tensor,
        first_moment: &Tensor,
        second_moment: &Tensor,
        step: &AdamWStep,
        undecayed: &[Range<usize>],
    ) -> Result<()>;
    /// The scalar `to` (`f64` if x is, else `f32`) `= Σ x²`.
    fn sum_squares(&self, x: &Tensor, to: &Tensor) -> Result<()>;
    /// `x *= min(1, max_norm / (√sum_squares + 1e-6))`, as `torch.nn.utils.clip_grad_norm_` does.
    fn clip_norm(&self, x: &Tensor, sum_squares: &Tensor, max_norm: f64) -> Result<()>;
}

impl Tensor {
    /// One SGD step on these parameters. `velocity` is needed with momentum, and is updated. Weight decay leaves out
    /// the elements of `undecayed`, ranges in ascending order that do not overlap.
    pub fn sgd_(
        &self,
        grads: &Self,
        velocity: Option<&Self>,
        step: &SgdStep,
        undecayed: &[Range<usize>],
    ) -> Result<()> {
        const OP: &str = "sgd_";
        let mut others = vec![grads];
        others.extend(velocity);
        check(OP, self, &others, undecayed)?;
        if step.momentum != 0.0 && velocity.is_none() {
            return Err(Error::Argument {
                op: OP,
                name: "velocity",
                value: "missing".into(),
                rule: "momentum needs one",
            });
        }
        self.device().backend().sgd(self, grads, velocity, step, undecayed)
    }

    /// One AdamW step on these parameters; both moments are updated. Weight decay leaves out the elements of
    /// `undecayed`, ranges in ascending order that do not overlap.
    pub fn adamw_(
        &self,
        grads: &Self,
        first_moment: &Self,
        second_moment: &Self,
        step: &AdamWStep,
        undecayed: &[Range<usize>],
    ) -> Result<()> {
        check("adamw_", self, &[grads, first_moment, second_moment], undecayed)?;
        let backend = self.device().backend();
        backend.adamw(self, grads, first_moment, second_moment, step, undecayed)
    }

    /// `Σ x²`, a scalar of `f64` if x is, else of `f32`.
    pub fn sum_squares(&self) -> Result<Self> {
        let device = same_float("sum_squares", self, &[])?;
        let dtype = if self.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        let out = Self::uninitialised(Shape::from_valid(&[]), dtype, device)?;
        device.backend().sum_squares(&self.contiguous()?, &out)?;
        Ok(out)
    }

    /// Scales these gradients so that their norm is at most `max_norm`, `sum_squares` being theirs. The factor is
    /// `max_norm / (norm + 1e-6)`, as PyTorch's.
    pub fn clip_norm_(&self, sum_squares: &Self, max_norm: f64) -> Result<()> {
        const OP: &str = "clip_norm_";
        same_float(OP, self, &[])?;
        expect_shape(OP, sum_squares, &[], "the sum of squares must be a scalar")?;
        expect_accumulator(OP, sum_squares, self)?;
        expect_writable(OP, self, &[sum_squares])?;
        self.device().backend().clip_norm(self, sum_squares, max_norm)
    }
}

fn check(
    op: &'static str,
    parameters: &Tensor,
    others: &[&Tensor],
    undecayed: &[Range<usize>],
) -> Result<()> {
    let mut from = 0;
    for range in undecayed {
        if range.start < from || range.end < range.start || range.end > parameters.elements() {
            return Err(Error::Argument {
                op,
                name: "undecayed",
                value: format!("{range:?}"),
                rule: "ranges must ascend, not overlap, and lie inside the parameters",
            });
        }
        from = range.end;
    }
    same_float(op, parameters, others)?;
    for other in others {
        expect_shape(op, other, parameters.shape(), "all buffers must have one shape")?;
    }
    let buffers = [&[parameters], others].concat();
    for (i, buffer) in buffers.iter().enumerate() {
        expect_writable(op, buffer, &buffers[i + 1..])?;
    }
    Ok(())
}
