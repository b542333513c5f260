//! Softmax over the last axis.

use vitrine_tensor::Tensor;

use super::Op;
use crate::Var;
use crate::backward::Flow;
use crate::error::Result;
use crate::tape::Inputs;

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
