//! Layer norm and softmax over the last axis, and batch norm over all others.

use vitrine_tensor::{BatchNorm, Tensor};

use crate::Var;
use crate::backward::Flow;
use crate::error::Result;
use crate::tape::{Inputs, NodeId};

/// Calls `add` with the tensors that the gradients of a norm's scale and shift, of the shape of `like`, are added to.
fn add_to_scale_and_shift<R>(
    flow: &mut Flow,
    [scale, shift]: [Option<NodeId>; 2],
    like: &Tensor,
    add: impl FnOnce(&Tensor, &Tensor) -> vitrine_tensor::Result<R>,
) -> Result<R> {
    let apart = || Tensor::zeros(like.shape(), like.dtype(), like.device());
    // One variable as both scale and shift: its second gradient is added after the first is complete.
    let same = scale.is_some() && scale == shift;
    let into_shift = if same { None } else { shift };
    let dscale = flow.accumulator(scale, like.shape(), like)?.map_or_else(apart, Ok)?;
    let dshift = flow.accumulator(into_shift, like.shape(), like)?.map_or_else(apart, Ok)?;
    let result = add(&dscale, &dshift)?;
    drop(dscale);
    if same {
        flow.add(shift, dshift)?;
    }
    Ok(result)
}

impl Var {
    /// `(x − mean)/√(variance + ε)·scale + shift` over the last axis: x `[.., D]`, scale and shift `[D]`. Saves each
    /// row's mean and reciprocal deviation.
    pub fn layer_norm(&self, scale: &Self, shift: &Self, epsilon: f64) -> Result<Self> {
        let (value, statistics) = self.value().layer_norm(scale.value(), shift.value(), epsilon)?;
        let (inputs, x, w) = ([self, scale, shift], self.value().clone(), scale.value().clone());
        let saved = [self.value(), scale.value(), &statistics.clone()];
        Self::record("layer_norm", value, &inputs, &saved, move |dy, inputs, flow| {
            let dx = add_to_scale_and_shift(flow, [inputs[1], inputs[2]], &w, |dscale, dshift| {
                x.layer_norm_grad(&w, &statistics, &dy, dscale, dshift)
            })?;
            flow.add(inputs[0], dx)
        })
    }

    /// `exp(x) / Σ exp(x)` over the last axis. Saves the result.
    pub fn softmax(&self) -> Result<Self> {
        let y = self.value().softmax()?;
        Self::record("softmax", y.clone(), &[self], &[&y.clone()], move |dy, inputs, flow| {
            flow.add(inputs[0], y.softmax_grad(&dy)?)
        })
    }

    /// `activation((x − mean)/√(variance + ε)·scale + shift + residual)` for each channel of x `[.., C]`: with given
    /// statistics `[2, C]`, which are constants, or else with those of x itself; gives them too. Saves what it takes.
    pub fn batch_norm(
        &self,
        statistics: Option<&Tensor>,
        norm: &BatchNorm<'_, Self>,
    ) -> Result<(Self, Tensor)> {
        let fixed = statistics.is_some();
        let statistics = statistics.cloned().map_or_else(|| self.value().batch_statistics(), Ok)?;
        let value = self.value().batch_norm(&statistics, &norm.map(Self::value))?;
        let mut inputs = vec![self, norm.scale, norm.shift];
        inputs.extend(norm.residual);
        let mut saved: Vec<&Tensor> = inputs.iter().map(|input| input.value()).collect();
        saved.push(&statistics);
        let [x, scale, shift] = [self, norm.scale, norm.shift].map(|v| v.value().clone());
        let residual = norm.residual.map(|v| v.value().clone());
        let (epsilon, activation, of) = (norm.epsilon, norm.activation, statistics.clone());
        let rule = move |dy: Tensor, inputs: &Inputs, flow: &mut Flow| {
            let residual = residual.as_ref();
            let norm = BatchNorm { scale: &scale, shift: &shift, epsilon, residual, activation };
            let params = [inputs[1], inputs[2]];
            let (dx, dresidual) =
                add_to_scale_and_shift(flow, params, &scale, |dscale, dshift| {
                    x.batch_norm_grad(&of, &norm, fixed, &dy, dscale, dshift)
                })?;
            if let Some(dresidual) = dresidual {
                flow.add(inputs[3], dresidual)?;
            }
            flow.add(inputs[0], dx)
        };
        Ok((Self::record("batch_norm", value, &inputs, &saved, rule)?, statistics))
    }
}
