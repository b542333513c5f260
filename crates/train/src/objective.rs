//! [`Objective`]: what turns a model's output and the targets into a loss. Those that the program can build by name are
//! here.

use vitrine_autodiff::Var;
use vitrine_data::Batch;
use vitrine_nn::settings::{Fallback, table};
use vitrine_nn::{Output, Table, settings};
use vitrine_tensor::{Device, Tensor};

use crate::error::Result;
use crate::recipe::SHARE;

/// A batch on the device that the model runs on.
pub struct DeviceBatch {
    /// `[B, C, H, W]`
    pub images: Tensor,
    /// `[B]` of `i64`.
    pub labels: Tensor,
    /// `[B, K]`: the targets as shares of the classes, where the data has such.
    pub shares: Option<Tensor>,
}

impl DeviceBatch {
    /// Copies a batch to the device.
    pub fn upload(batch: &Batch, device: &Device) -> Result<Self> {
        let size = batch.labels.len();
        let shares = match batch.shares.len() {
            0 => None,
            n => Some(Tensor::from_slice(&batch.shares, &[size, n / size], device)?),
        };
        Ok(Self {
            images: Tensor::from_slice(&batch.images, &batch.shape, device)?,
            labels: Tensor::from_slice(&batch.labels, &[size], device)?,
            shares,
        })
    }
}

/// What is minimised.
pub trait Objective: Send + Sync {
    /// The mean loss of a batch, a scalar of the logits' type.
    fn loss(&self, output: &Output, batch: &DeviceBatch) -> Result<Var>;

    /// What decides it: section `[objective]` in the folder of a run, which a resumed run compares.
    fn settings(&self) -> Result<Table>;
}

settings! {
    /// Section `[objective]`: cross-entropy with the labels, or with shares of the classes where the data has such. With a
    /// second head, the mean of both heads' losses.
    CrossEntropy in "objective" {
        /// share of the target that is spread over all classes
        label_smoothing: f64 = SHARE, Fallback::Toml("0.0"), also ["smoothing"];
    }
}

impl CrossEntropy {
    fn of(&self, logits: &Var, batch: &DeviceBatch) -> Result<Var> {
        let smoothing = self.label_smoothing;
        let Some(shares) = &batch.shares else {
            return Ok(logits.cross_entropy(&batch.labels, smoothing)?);
        };
        if smoothing == 0.0 {
            return Ok(logits.soft_target_cross_entropy(shares)?);
        }
        let even = smoothing / logits.value().dims().last() as f64;
        let targets = Tensor::full(shares.shape(), even, shares.dtype(), shares.device())?;
        targets.add_scaled_(shares, 1.0 - smoothing)?;
        Ok(logits.soft_target_cross_entropy(&targets)?)
    }
}

impl Objective for CrossEntropy {
    fn loss(&self, output: &Output, batch: &DeviceBatch) -> Result<Var> {
        let loss = self.of(&output.logits, batch)?;
        match &output.distilled {
            None => Ok(loss),
            Some(distilled) => Ok(loss.add(&self.of(distilled, batch)?)?.scale(0.5)?),
        }
    }

    fn settings(&self) -> Result<Table> {
        Ok(table(self)?)
    }
}
