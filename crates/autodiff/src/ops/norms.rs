//! Layer norm and softmax over the last axis.

use vitrine_tensor::Tensor;

use crate::Var;
use crate::error::Result;

impl Var {
    /// `(x − mean)/√(variance + ε)·scale + shift` over the last axis: x `[.., D]`, scale and shift `[D]`. Saves each
    /// row's mean and reciprocal deviation.
    pub fn layer_norm(&self, scale: &Self, shift: &Self, epsilon: f64) -> Result<Self> {
        let (value, statistics) = self.value().layer_norm(scale.value(), shift.value(), epsilon)?;
        let (inputs, x, w) = ([self, scale, shift], self.value().clone(), scale.value().clone());
        let saved = [self.value(), scale.value(), &statistics.clone()];
        Self::record("layer_norm", value, &inputs, &saved, move |dy, inputs, flow| {
            let apart = || Tensor::zeros(w.shape(), w.dtype(), w.device());
            // One variable as both scale and shift: its second gradient is added after the first is complete.
            let same = inputs[1].is_some() && inputs[1] == inputs[2];
            let into_shift = if same { None } else { inputs[2] };
            let dscale = flow.accumulator(inputs[1], w.shape(), &w)?.map_or_else(apart, Ok)?;
            let dshift = flow.accumulator(into_shift, w.shape(), &w)?.map_or_else(apart, Ok)?;
            let dx = x.layer_norm_grad(&w, &statistics, &dy, &dscale, &dshift)?;
            drop(dscale);
            if same {
                flow.add(inputs[2], dshift)?;
            }
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
}
