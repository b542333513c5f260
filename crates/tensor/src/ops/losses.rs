//! Mean cross-entropy, with integer labels and label smoothing or with shares of classes, with its gradient.

use super::{expect_accumulator, expect_i64, expect_shape, expect_share, same_device, same_float};
use crate::error::Result;
use crate::{Shape, Tensor};

/// Losses: means over a batch.
pub trait Losses {
    /// The mean cross-entropy of `logits [B, K]` into the scalar `loss` of the accumulator's type. The targets are
    /// labels `[B]` (`i64`), of each of which a share `smoothing` is spread over all classes, or shares of the classes
    /// `[B, K]` of the accumulator's type, with a smoothing of 0.
    fn cross_entropy(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        smoothing: f64,
        loss: &Tensor,
    ) -> Result<()>;
    /// `dlogits` for the gradient `dloss` of the mean.
    fn cross_entropy_grad(
        &self,
        logits: &Tensor,
        targets: &Tensor,
        smoothing: f64,
        dloss: &Tensor,
        dlogits: &Tensor,
    ) -> Result<()>;
}

impl Tensor {
    /// The mean over the batch of `−Σ_k t_k·log softmax(logits)_k`: logits `[B, K]`, labels `[B]` of `i64`.
    ///
    /// The target t is 1 at the label, smoothed: `t = (1 − s)·onehot + s/K` (Szegedy et al. 2016, section 7).
    pub fn cross_entropy(&self, labels: &Self, smoothing: f64) -> Result<Self> {
        check_labels("cross_entropy", self, labels, smoothing)?;
        loss(self, labels, smoothing)
    }

    /// The gradient of [`Tensor::cross_entropy`] for `self` as logits, `dloss` being the scalar's gradient.
    pub fn cross_entropy_grad(&self, labels: &Self, smoothing: f64, dloss: &Self) -> Result<Self> {
        const OP: &str = "cross_entropy_grad";
        check_labels(OP, self, labels, smoothing)?;
        gradient(OP, self, labels, smoothing, dloss)
    }

    /// As [`Tensor::cross_entropy`] with targets t `[B, K]` of the accumulator's type, not negative, of any sum (timm's
    /// `SoftTargetCrossEntropy`).
    pub fn soft_target_cross_entropy(&self, targets: &Self) -> Result<Self> {
        check_shares("soft_target_cross_entropy", self, targets)?;
        loss(self, targets, 0.0)
    }

    /// The gradient of [`Tensor::soft_target_cross_entropy`] for `self` as logits, `dloss` being the scalar's gradient:
    /// `dloss/B·(Σt·softmax(logits) − t)`.
    pub fn soft_target_cross_entropy_grad(&self, targets: &Self, dloss: &Self) -> Result<Self> {
        const OP: &str = "soft_target_cross_entropy_grad";
        check_shares(OP, self, targets)?;
        gradient(OP, self, targets, 0.0, dloss)
    }
}

fn loss(logits: &Tensor, targets: &Tensor, smoothing: f64) -> Result<Tensor> {
    let (dtype, device) = (logits.dtype().accumulator(), logits.device());
    let loss = Tensor::uninitialised(Shape::from_valid(&[]), dtype, device)?;
    let (logits, targets) = (logits.contiguous()?, targets.contiguous()?);
    device.backend().cross_entropy(&logits, &targets, smoothing, &loss)?;
    Ok(loss)
}

fn gradient(
    op: &'static str,
    logits: &Tensor,
    targets: &Tensor,
    smoothing: f64,
    dloss: &Tensor,
) -> Result<Tensor> {
    expect_shape(op, dloss, &[], "the loss' gradient must be a scalar")?;
    expect_accumulator(op, dloss, logits)?;
    let dlogits = Tensor::uninitialised(logits.dims(), logits.dtype(), logits.device())?;
    let (logits, targets) = (logits.contiguous()?, targets.contiguous()?);
    let backend = logits.device().backend();
    backend.cross_entropy_grad(&logits, &targets, smoothing, dloss, &dlogits)?;
    Ok(dlogits)
}

fn check_logits(op: &'static str, logits: &Tensor) -> Result<()> {
    same_float(op, logits, &[])?;
    match logits.rank() == 2 && logits.elements() > 0 {
        true => Ok(()),
        false => Err(logits.shape_error(op, "logits must be [B, K] and not empty")),
    }
}

fn check_shares(op: &'static str, logits: &Tensor, targets: &Tensor) -> Result<()> {
    check_logits(op, logits)?;
    expect_shape(op, targets, logits.shape(), "targets must be [B, K], as the logits")?;
    expect_accumulator(op, targets, logits)
}

fn check_labels(op: &'static str, logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<()> {
    check_logits(op, logits)?;
    same_device(op, logits, &[labels])?;
    expect_shape(op, labels, &logits.shape()[..1], "labels must be [B]")?;
    expect_i64(op, labels, "i64 labels")?;
    expect_share(op, "label smoothing", smoothing)
}
