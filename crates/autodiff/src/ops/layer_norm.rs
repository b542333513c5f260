//! Layer norm over the last axis.

use vitrine_tensor::Tensor;

use super::Op;
use crate::Var;
use crate::backward::Flow;
use crate::error::Result;
use crate::tape::NodeId;

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
    pub(crate) fn backward(
        self,
        dy: Tensor,
        inputs: &[Option<NodeId>],
        flow: &mut Flow,
    ) -> Result<()> {
        let unwanted = || self.scale.scale(0.0);
        let dscale = match flow.accumulator(inputs[1], &self.scale)? {
            Some(sum) => sum,
            None => unwanted()?,
        };
        let dshift = match flow.accumulator(inputs[2], &self.scale)? {
            Some(sum) => sum,
            None => unwanted()?,
        };
        let dx = self.x.layer_norm_grad(&self.scale, &self.statistics, &dy, &dscale, &dshift)?;
        flow.add(inputs[0], dx)
    }
}
