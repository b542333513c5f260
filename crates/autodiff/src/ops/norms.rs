//! Layer norm and softmax over the last axis.

use vitrine_tensor::Tensor;

use super::Op;
use crate::Var;
use crate::backward::Flow;
use crate::error::Result;
use crate::tape::Inputs;

/// Saves the input, the scale, and each row's mean and reciprocal deviation.
pub(crate) struct LayerNorm {
    x: Tensor,
    scale: Tensor,
    statistics: Tensor,
}

impl Var {
    /// `(x − mean)/√(variance + ε)·scale + shift` over the last axis: x `[.., D]`, scale and shift `[D]`.
    pub fn layer_norm(&self, scale: &Self, shift: &Self, epsilon: f64) -> Result<Self> {
        let (value, statistics) = self.value().layer_norm(scale.value(), shift.value(), epsilon)?;
        Self::record("layer_norm", value, &[self, scale, shift], || {
            let (x, scale) = (self.value().clone(), scale.value().clone());
            Op::LayerNorm(LayerNorm { x, scale, statistics })
        })
    }
}

impl LayerNorm {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        let shape = self.scale.shape();
        let apart = || Tensor::zeros(shape, self.scale.dtype(), self.scale.device());
        // One variable as both scale and shift: its second gradient is added after the first is complete.
        let same = inputs[1].is_some() && inputs[1] == inputs[2];
        let into_shift = if same { None } else { inputs[2] };
        let dscale = flow.accumulator(inputs[1], shape, &self.scale)?.map_or_else(apart, Ok)?;
        let dshift = flow.accumulator(into_shift, shape, &self.scale)?.map_or_else(apart, Ok)?;
        let dx = self.x.layer_norm_grad(&self.scale, &self.statistics, &dy, &dscale, &dshift)?;
        drop(dscale);
        if same {
            flow.add(inputs[2], dshift)?;
        }
        flow.add(inputs[0], dx)
    }
}

/// Saves the result.
pub(crate) struct Softmax(Tensor);

impl Var {
    /// `exp(x) / Σ exp(x)` over the last axis.
    pub fn softmax(&self) -> Result<Self> {
        let value = self.value().softmax()?;
        Self::record("softmax", value.clone(), &[self], || Op::Softmax(Softmax(value)))
    }
}

impl Softmax {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        flow.add(inputs[0], self.0.softmax_grad(&dy)?)
    }
}
