//! [`Objective`]: what turns a model's output and the targets into a loss. Those that the program can build by name are
//! here.

use vitrine_autodiff::Var;
use vitrine_data::Batch;
use vitrine_nn::settings::{Fallback, Kind, Range, table};
use vitrine_nn::{InputSpec, Output, Table, choices, settings};
use vitrine_tensor::{Device, Tensor};

use crate::distillation::Distillation;
use crate::error::Result;
use crate::recipe::{SHARE, Training};

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

choices! {
    /// What a model learns from a teacher (Touvron et al. 2021, "DeiT", section 4).
    DistillationType {
        /// There is none.
        Off = "none",
        /// The teacher's shares of the classes.
        Soft = "soft",
        /// The teacher's likeliest class.
        Hard = "hard",
    }
}

settings! {
    /// Section `[objective]`: cross-entropy with the labels, or with shares of the classes where the data has such.
    /// With a second head, the mean of both heads' losses, or its own where there is a teacher.
    ObjectiveRecipe in "objective" {
        /// share of the target that is spread over all classes
        label_smoothing: f64 = SHARE, Fallback::Toml("0.0"), also ["smoothing"];
        /// what is learned from a teacher
        distillation_type: DistillationType = Kind::Choice(DistillationType::NAMES), Fallback::Toml("\"none\""), also ["distillation"];
        /// share of the teacher's loss in the whole
        distillation_alpha: f64 = Kind::Number(Range::Closed(0.0, 1.0)), Fallback::Toml("0.5");
        /// what the logits of both are divided by for the teacher's shares (temperature)
        distillation_tau: f64 = Kind::Number(Range::Above(0.0, 1e3)), Fallback::Toml("1.0"), also ["temperature"];
        /// the teacher: the folder of a run, or of a model with its config.json
        teacher: Option<String> = Kind::Text("a folder", |text| !text.is_empty()), Fallback::Open, also ["teacher_model", "teacher_path"];
    }
}

impl ObjectiveRecipe {
    /// What is minimised; the teacher is opened, if there is one, for the device and precision of this run.
    pub fn build(&self, training: &Training, input: &InputSpec) -> Result<Box<dyn Objective>> {
        Ok(match self.distillation_type {
            DistillationType::Off => Box::new(self.clone()),
            _ => Box::new(Distillation::open(self, training, input)?),
        })
    }

    pub(crate) fn of(&self, logits: &Var, batch: &DeviceBatch) -> Result<Var> {
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

impl Objective for ObjectiveRecipe {
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
