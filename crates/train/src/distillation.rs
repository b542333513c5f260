//! Distillation: the loss of a model that learns from a teacher's answers as well as from the labels.

use std::path::{Path, PathBuf};

use vitrine_autodiff::Var;
use vitrine_models::ModelConfig;
use vitrine_nn::settings::{SettingError, table};
use vitrine_nn::{InputSpec, Model, Output, Parameters, Pass, Table};
use vitrine_tensor::Tensor;

use crate::build;
use crate::description::Description;
use crate::error::Result;
use crate::evaluate::largest;
use crate::objective::{DeviceBatch, DistillationType, Objective, ObjectiveRecipe};
use crate::recipe::{Overrides, Recipe, Training};
use crate::trainer::{BEST, CONFIG, LAST};

/// `(1 − α)·cross-entropy with the labels + α·the teacher's loss` (Touvron et al. 2021, "DeiT", equations 2 and 3). The
/// teacher's is that of the second head, where there is one.
pub(crate) struct Distillation {
    recipe: ObjectiveRecipe,
    teacher: Teacher,
}

/// A trained model that answers for the same images.
struct Teacher {
    model: Box<dyn Model>,
    parameters: Parameters,
    /// What makes the student's pixels the teacher's, `[1, C, 1, 1]`: a factor, and what is added; `None` if they are.
    pixels: Option<[Tensor; 2]>,
}

impl Distillation {
    pub(crate) fn open(
        recipe: &ObjectiveRecipe,
        training: &Training,
        student: &InputSpec,
    ) -> Result<Self> {
        let Some(folder) = &recipe.teacher else {
            let key = "objective.distillation_type";
            let reason =
                "it needs `objective.teacher`, the folder of a run or of a model".to_owned();
            return Err(SettingError::conflict(key, recipe.distillation_type, reason).into());
        };
        let (mut theirs, weights) = trained(Path::new(folder))?;
        (theirs.training.run.device, theirs.training.run.precision) =
            (training.run.device, training.run.precision);
        if let ModelConfig::Vit(vit) = &mut theirs.model
            && training.augment.image_sizes.is_some()
        {
            vit.dynamic_img_size = true;
        }
        let (model, parameters) = build::model_with_weights(&theirs, &weights, |_| {})?;
        let input = model.input();
        let of = |input: &InputSpec| (input.channels, input.size, input.classes);
        if of(&input) != of(student) {
            let words = |input: &InputSpec| {
                let (channels, (height, width), classes) = of(input);
                format!("{height}x{width} pixels of {channels} channels, {classes} classes")
            };
            let reason = format!(
                "it takes {}, and the model that is trained {}; they must be the same",
                words(&input),
                words(student)
            );
            return Err(SettingError::conflict("objective.teacher", folder, reason).into());
        }
        if let Some((height, width)) = training.refused_size(model.as_ref()) {
            let reason =
                format!("it takes no images of {height}x{width}, as `augment.image_sizes` has");
            return Err(SettingError::conflict("objective.teacher", folder, reason).into());
        }
        let pixels = match (&input.mean, &input.std) == (&student.mean, &student.std) {
            true => None,
            false => {
                let channels = 0..input.channels;
                let factor = |c: usize| (student.std[c] / input.std[c]) as f32;
                let added = |c: usize| ((student.mean[c] - input.mean[c]) / input.std[c]) as f32;
                let of = |values: Vec<f32>| {
                    Tensor::from_slice(
                        &values,
                        &[1, input.channels, 1, 1],
                        parameters.values().device(),
                    )
                };
                let factors = of(channels.clone().map(factor).collect())?;
                Some([factors, of(channels.map(added).collect())?])
            }
        };
        let teacher = Teacher { model, parameters, pixels };
        Ok(Self { recipe: recipe.clone(), teacher })
    }
}

/// The recipe of a trained model, and where its weights are: the best of a run, or a model's own folder.
fn trained(folder: &Path) -> Result<(Recipe, PathBuf)> {
    let mut overrides = Overrides::new();
    let config = folder.join(CONFIG);
    let weights = match config.exists() {
        true => [BEST, LAST].map(|name| folder.join(name)).into_iter().find(|path| path.exists()),
        false => None,
    };
    let weights = weights.unwrap_or_else(|| folder.to_owned());
    if let Some(about) = Description::beside(&weights)? {
        overrides.describe(&about, true)?;
    }
    let recipe = match config.exists() {
        true => Recipe::load_file(&config, &overrides)?,
        false => Recipe::load("d2l", &overrides)?,
    };
    Ok((recipe, weights))
}

impl Teacher {
    /// `[B, K]`
    fn logits(&self, images: &Tensor) -> Result<Tensor> {
        let images = match &self.pixels {
            None => images.clone(),
            Some([factor, added]) => images.mul(factor)?.add(added)?,
        };
        let pass = Pass::inference(&self.parameters);
        Ok(self.model.forward(&pass, &pass.constant(images))?.prediction()?.into_value())
    }
}

impl Objective for Distillation {
    fn loss(&self, output: &Output, batch: &DeviceBatch) -> Result<Var> {
        let ObjectiveRecipe { distillation_alpha: alpha, distillation_tau: tau, .. } = self.recipe;
        let student = output.distilled.as_ref().unwrap_or(&output.logits);
        let teacher = self.teacher.logits(&batch.images)?;
        let taught = match self.recipe.distillation_type {
            DistillationType::Hard => {
                let values = teacher.to_f64_vec()?;
                let rows = values.chunks_exact(teacher.dims().last().max(1));
                let labels: Vec<i64> = rows.map(|row| largest(row) as i64).collect();
                let labels = Tensor::from_slice(&labels, &[labels.len()], teacher.device())?;
                student.cross_entropy(&labels, 0.0)?
            }
            _ => {
                // τ²·KL: the cross-entropy with the teacher's shares, less what the teacher has itself.
                let (teacher, student) = (teacher.scale(1.0 / tau)?, student.scale(1.0 / tau)?);
                let shares = teacher.softmax()?;
                let least = student.tape().constant(teacher.soft_target_cross_entropy(&shares)?);
                student.soft_target_cross_entropy(&shares)?.sub(&least)?.scale(tau * tau)?
            }
        };
        let own = self.recipe.of(&output.logits, batch)?;
        Ok(own.scale(1.0 - alpha)?.add(&taught.scale(alpha)?)?)
    }

    fn settings(&self) -> Result<Table> {
        Ok(table(&self.recipe)?)
    }
}
