//! Mean cross-entropy with integer labels, or with shares of classes.

use vitrine_tensor::Tensor;

use crate::Var;
use crate::error::Result;

impl Var {
    /// The mean cross-entropy of `self [B, K]` with labels `[B]` of `i64`, a scalar. A share `smoothing` of each target
    /// is spread over all classes.
    pub fn cross_entropy(&self, labels: &Tensor, smoothing: f64) -> Result<Self> {
        let value = self.value().cross_entropy(labels, smoothing)?;
        let saved = [self.value(), labels];
        let (logits, labels) = (self.value().clone(), labels.clone());
        self.record_one("cross_entropy", value, &saved, move |dy| {
            logits.cross_entropy_grad(&labels, smoothing, &dy)
        })
    }

    /// The mean cross-entropy of `self [B, K]` with shares of classes `[B, K]` of the accumulator's type, a scalar; see
    /// [`Tensor::soft_target_cross_entropy`].
    pub fn soft_target_cross_entropy(&self, targets: &Tensor) -> Result<Self> {
        let value = self.value().soft_target_cross_entropy(targets)?;
        let saved = [self.value(), targets];
        let (logits, targets) = (self.value().clone(), targets.clone());
        self.record_one("soft_target_cross_entropy", value, &saved, move |dy| {
            logits.soft_target_cross_entropy_grad(&targets, &dy)
        })
    }
}
