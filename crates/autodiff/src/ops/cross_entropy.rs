//! Mean cross-entropy with integer labels.

use vitrine_tensor::Tensor;

use super::Op;
use crate::Var;
use crate::backward::Flow;
use crate::error::Result;
use crate::tape::Inputs;

/// Saves logits and labels.
pub(crate) struct CrossEntropy {
    logits: Tensor,
    labels: Tensor,
    smoothing: f64,
}

impl Var {
    /// The mean cross-entropy of `self [B, K]` with labels `[B]` of `i64`, a scalar. A share `smoothing` of each target
    /// is spread over all classes.
    pub fn cross_entropy(&self, labels: &Tensor, smoothing: f64) -> Result<Self> {
        let value = self.value().cross_entropy(labels, smoothing)?;
        Self::record("cross_entropy", value, &[self], || {
            let (logits, labels) = (self.value().clone(), labels.clone());
            Op::CrossEntropy(CrossEntropy { logits, labels, smoothing })
        })
    }
}

impl CrossEntropy {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        flow.add(inputs[0], self.logits.cross_entropy_grad(&self.labels, self.smoothing, &dy)?)
    }
}
