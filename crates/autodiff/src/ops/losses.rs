//! Mean cross-entropy with integer labels, or with shares of classes.

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

/// Saves logits and targets.
pub(crate) struct SoftTargetCrossEntropy {
    logits: Tensor,
    targets: Tensor,
}

impl Var {
    /// The mean cross-entropy of `self [B, K]` with shares of classes `[B, K]` of the accumulator's type, a scalar; see
    /// [`Tensor::soft_target_cross_entropy`].
    pub fn soft_target_cross_entropy(&self, targets: &Tensor) -> Result<Self> {
        let value = self.value().soft_target_cross_entropy(targets)?;
        Self::record("soft_target_cross_entropy", value, &[self], || {
            let (logits, targets) = (self.value().clone(), targets.clone());
            Op::SoftTargetCrossEntropy(SoftTargetCrossEntropy { logits, targets })
        })
    }
}

impl SoftTargetCrossEntropy {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        flow.add(inputs[0], self.logits.soft_target_cross_entropy_grad(&self.targets, &dy)?)
    }
}
