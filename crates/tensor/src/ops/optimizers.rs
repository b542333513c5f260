//! Optimizer updates and the norm of the gradient, over flat buffers that hold many parameters.

use std::ops::Range;

use super::{expect_shape, expect_writable, same_device, same_float};
use crate::error::{Error, Result};
use crate::{DType, Shape, Tensor};

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

/// Elements of flat buffers that an optimizer treats in a way of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterGroup {
    /// Which elements.
    pub range: Range<usize>,
    /// Whether weight decay applies.
    pub decay: bool,
    /// The learning rate is multiplied by it, in AdamW's weight decay too.
    pub rate_scale: f64,
    /// Whether the elements, and the moments that belong to them, stay as they are.
    pub frozen: bool,
}

impl ParameterGroup {
    /// Elements that are treated as those of no group: with decay, at the plain learning rate.
    pub fn plain(range: Range<usize>) -> Self {
        Self { range, decay: true, rate_scale: 1.0, frozen: false }
    }

    /// For backends: the `groups` and those between them, in ascending order, so that all elements of a buffer are
    /// covered. None is empty, and neighbours differ; without weight decay, all have `decay`.
    pub fn covering(groups: &[Self], elements: usize, weight_decay: f64) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        let mut add = |mut group: Self| {
            group.decay |= weight_decay == 0.0;
            match all.last_mut() {
                _ if group.range.is_empty() => {}
                Some(last) if *last == (Self { range: last.range.clone(), ..group.clone() }) => {
                    last.range.end = group.range.end;
                }
                _ => all.push(group),
            }
        };
        let mut end = 0;
        for group in groups {
            add(Self::plain(end..group.range.start));
            add(group.clone());
            end = group.range.end;
        }
        add(Self::plain(end..elements));
        all
    }
}

/// Updates of flat buffers that hold many parameters.
pub trait Optimizers {
    /// Updates `parameters` (dense) in place; `velocity` is used with momentum only. The groups ascend and do not
    /// overlap.
    fn sgd(
        &self,
        parameters: &Tensor,
        grads: &Tensor,
        velocity: Option<&Tensor>,
        step: &SgdStep,
        groups: &[ParameterGroup],
    ) -> Result<()>;
    /// Updates `parameters` (dense) and both moments in place, with groups as for `sgd`.
    fn adamw(
        &self,
        parameters: &Tensor,
        grads: &Tensor,
        first_moment: &Tensor,
        second_moment: &Tensor,
        step: &AdamWStep,
        groups: &[ParameterGroup],
    ) -> Result<()>;
    /// The scalar `to` (`f64`) `= Σ x²`, squared and added in `f64`.
    fn sum_squares(&self, x: &Tensor, to: &Tensor) -> Result<()>;
    /// `x *= min(1, max_norm / (√sum_squares + 1e-6))`, as `torch.nn.utils.clip_grad_norm_` does.
    fn clip_norm(&self, x: &Tensor, sum_squares: &Tensor, max_norm: f64) -> Result<()>;
}

impl Tensor {
    /// One SGD step on these parameters. `velocity` is needed with momentum, and is updated. The groups must ascend,
    /// not overlap, and lie inside the parameters; elements of none are treated as [`ParameterGroup::plain`] ones.
    pub fn sgd_(
        &self,
        grads: &Self,
        velocity: Option<&Self>,
        step: &SgdStep,
        groups: &[ParameterGroup],
    ) -> Result<()> {
        const OP: &str = "sgd_";
        let mut others = vec![grads];
        others.extend(velocity);
        check(OP, self, &others, groups)?;
        if step.momentum != 0.0 && velocity.is_none() {
            return Err(Error::argument(OP, "velocity", "missing", "momentum needs one"));
        }
        self.written_by(|| self.device().backend().sgd(self, grads, velocity, step, groups))
    }

    /// One AdamW step on these parameters; both moments are updated. Groups are as for [`Tensor::sgd_`].
    pub fn adamw_(
        &self,
        grads: &Self,
        first_moment: &Self,
        second_moment: &Self,
        step: &AdamWStep,
        groups: &[ParameterGroup],
    ) -> Result<()> {
        check("adamw_", self, &[grads, first_moment, second_moment], groups)?;
        let backend = self.device().backend();
        self.written_by(|| backend.adamw(self, grads, first_moment, second_moment, step, groups))
    }

    /// `Σ x²`, a scalar of `f64`: the square of a large `f32` is none.
    pub fn sum_squares(&self) -> Result<Self> {
        let device = same_float("sum_squares", self, &[])?;
        let out = Self::uninitialised(Shape::from_valid(&[]), DType::F64, device)?;
        device.backend().sum_squares(&self.contiguous()?, &out)?;
        Ok(out)
    }

    /// Scales these gradients so that their norm is at most `max_norm`, `sum_squares` being theirs. The factor is
    /// `max_norm / (norm + 1e-6)`, as PyTorch's.
    pub fn clip_norm_(&self, sum_squares: &Self, max_norm: f64) -> Result<()> {
        const OP: &str = "clip_norm_";
        same_float(OP, self, &[])?;
        expect_shape(OP, sum_squares, &[], "the sum of squares must be a scalar")?;
        same_device(OP, self, &[sum_squares])?;
        if sum_squares.dtype() != DType::F64 {
            return Err(Error::DType { op: OP, dtype: sum_squares.dtype(), expected: "f64" });
        }
        expect_writable(OP, self, &[sum_squares])?;
        self.device().backend().clip_norm(self, sum_squares, max_norm)
    }
}

fn check(
    op: &'static str,
    parameters: &Tensor,
    others: &[&Tensor],
    groups: &[ParameterGroup],
) -> Result<()> {
    let mut from = 0;
    for group in groups {
        let Range { start, end } = group.range;
        let inside = from <= start && start <= end && end <= parameters.elements();
        if !inside || !(0.0..f64::INFINITY).contains(&group.rate_scale) {
            let rule = "ranges must ascend, not overlap, and lie inside the parameters; \
                        a scale must be finite and not negative";
            return Err(Error::argument(op, "parameter groups", format!("{group:?}"), rule));
        }
        from = end;
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
