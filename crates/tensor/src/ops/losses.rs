//! Mean cross-entropy, with integer labels and label smoothing or with shares of classes, with its gradient.

use super::{expect_accumulator, expect_shape, same_device, same_float};
use crate::error::{Error, Result};
use crate::{DType, Shape, Tensor};

/// Losses: means over a batch.
pub trait Losses {
    /// The mean cross-entropy of `logits [B, K]` with `labels [B]` (`i64`) into the scalar `loss` of the
    /// accumulator's type. A share `smoothing` of each target is spread over all classes.
    fn cross_entropy(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        smoothing: f64,
        loss: &Tensor,
    ) -> Result<()>;
    /// `dlogits` for the gradient `dloss` of the mean.
    fn cross_entropy_grad(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        smoothing: f64,
        dloss: &Tensor,
        dlogits: &Tensor,
    ) -> Result<()>;
    /// The mean cross-entropy of `logits [B, K]` with `targets [B, K]` of the accumulator's type into the scalar `loss`
    /// of that type.
    fn soft_target_cross_entropy(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        loss: &Tensor,
    ) -> Result<()>;
    /// `dlogits` for the gradient `dloss` of the mean.
    fn soft_target_cross_entropy_grad(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        dloss: &Tensor,
        dlogits: &Tensor,
    ) -> Result<()>;
}

impl Tensor {
    /// The mean over the batch of `−Σ_k t_k·log softmax(logits)_k`: logits `[B, K]`, labels `[B]` of `i64`.
    ///
    /// The target t is 1 at the label, smoothed: `t = (1 − s)·onehot + s/K` (Szegedy et al. 2016, section 7).
    pub fn cross_entropy(&self, labels: &Self, smoothing: f64) -> Result<Self> {
        const OP: &str = "cross_entropy";
        check(OP, self, labels, smoothing)?;
        let dtype = self.dtype().accumulator();
        let loss = Self::uninitialised(Shape::from_valid(&[]), dtype, self.device())?;
        let (logits, labels) = (self.contiguous()?, labels.contiguous()?);
        self.device().backend().cross_entropy(&logits, &labels, smoothing, &loss)?;
        Ok(loss)
    }

    /// The gradient of [`Tensor::cross_entropy`] for `self` as logits, `dloss` being the scalar's gradient.
    pub fn cross_entropy_grad(&self, labels: &Self, smoothing: f64, dloss: &Self) -> Result<Self> {
        const OP: &str = "cross_entropy_grad";
        check(OP, self, labels, smoothing)?;
        check_loss_grad(OP, self, dloss)?;
        let dlogits = Self::uninitialised(self.dims(), self.dtype(), self.device())?;
        let (logits, labels) = (self.contiguous()?, labels.contiguous()?);
        let backend = self.device().backend();
        backend.cross_entropy_grad(&logits, &labels, smoothing, dloss, &dlogits)?;
        Ok(dlogits)
    }

    /// The mean over the batch of `−Σ_k t_k·log softmax(logits)_k`: logits `[B, K]`, targets t `[B, K]` of the
    /// accumulator's type, not negative, of any sum (timm's `SoftTargetCrossEntropy`).
    pub fn soft_target_cross_entropy(&self, targets: &Self) -> Result<Self> {
        const OP: &str = "soft_target_cross_entropy";
        check_targets(OP, self, targets)?;
        let dtype = self.dtype().accumulator();
        let loss = Self::uninitialised(Shape::from_valid(&[]), dtype, self.device())?;
        let (logits, targets) = (self.contiguous()?, targets.contiguous()?);
        self.device().backend().soft_target_cross_entropy(&logits, &targets, &loss)?;
        Ok(loss)
    }

    /// The gradient of [`Tensor::soft_target_cross_entropy`] for `self` as logits, `dloss` being the scalar's gradient:
    /// `dloss/B·(Σt·softmax(logits) − t)`.
    pub fn soft_target_cross_entropy_grad(&self, targets: &Self, dloss: &Self) -> Result<Self> {
        const OP: &str = "soft_target_cross_entropy_grad";
        check_targets(OP, self, targets)?;
        check_loss_grad(OP, self, dloss)?;
        let dlogits = Self::uninitialised(self.dims(), self.dtype(), self.device())?;
        let (logits, targets) = (self.contiguous()?, targets.contiguous()?);
        let backend = self.device().backend();
        backend.soft_target_cross_entropy_grad(&logits, &targets, dloss, &dlogits)?;
        Ok(dlogits)
    }
}

fn check_logits(op: &'static str, logits: &Tensor) -> Result<()> {
    same_float(op, logits, &[])?;
    match logits.rank() == 2 && logits.elements() > 0 {
        true => Ok(()),
        false => Err(logits.shape_error(op, "logits must be [B, K] and not empty")),
    }
}

fn check_targets(op: &'static str, logits: &Tensor, targets: &Tensor) -> Result<()> {
    check_logits(op, logits)?;
    expect_shape(op, targets, logits.shape(), "targets must be [B, K], as the logits")?;
    expect_accumulator(op, targets, logits)
}

fn check_loss_grad(op: &'static str, logits: &Tensor, dloss: &Tensor) -> Result<()> {
    expect_shape(op, dloss, &[], "the loss' gradient must be a scalar")?;
    expect_accumulator(op, dloss, logits)
}

fn check(op: &'static str, logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<()> {
    check_logits(op, logits)?;
    same_device(op, logits, &[labels])?;
    expect_shape(op, labels, &logits.shape()[..1], "labels must be [B]")?;
    if labels.dtype() != DType::I64 {
        return Err(Error::DType { op, dtype: labels.dtype(), expected: "i64 labels" });
    }
    if !(0.0..1.0).contains(&smoothing) {
        let value = smoothing.to_string();
        let rule = "it must be at least 0 and below 1";
        return Err(Error::Argument { op, name: "label smoothing", value, rule });
    }
    Ok(())
}
