//! Rules that tie two or more recipe keys together. The rules for one key alone are in `keys`.

use super::error::RecipeError;
use super::keys::{Fallback, find_key};
use super::schema::{OptimizerKind, Recipe, ScheduleKind};

/// More patches than this make attention matrices that no machine holds.
const MOST_PATCHES: usize = 65_536;

pub(super) fn check_together(recipe: &Recipe) -> Result<(), RecipeError> {
    model(recipe)?;
    data(recipe)?;
    optimizer(recipe)?;
    schedule(recipe)
}

fn conflict(key: &'static str, value: impl ToString, reason: String) -> Result<(), RecipeError> {
    Err(RecipeError::Conflict { key, value: value.to_string(), reason })
}

fn model(recipe: &Recipe) -> Result<(), RecipeError> {
    let model = &recipe.model;
    if !model.width.is_multiple_of(model.heads) {
        let reason = format!("the heads must divide `model.width = {}`", model.width);
        return conflict("model.heads", model.heads, reason);
    }
    let (image, patch) = (model.image_size, model.patch_size);
    if !image.height.is_multiple_of(patch.height) || !image.width.is_multiple_of(patch.width) {
        let reason =
            format!("the patch must divide `model.image_size = {image}` in both directions");
        return conflict("model.patch_size", patch, reason);
    }
    let patches = (image.height / patch.height) * (image.width / patch.width);
    if patches > MOST_PATCHES {
        let reason = format!(
            "it cuts an image of `model.image_size = {image}` into {patches} patches; \
             at most {MOST_PATCHES} are allowed"
        );
        return conflict("model.patch_size", patch, reason);
    }
    Ok(())
}

fn data(recipe: &Recipe) -> Result<(), RecipeError> {
    let (model, dataset) = (&recipe.model, recipe.data.dataset);
    if model.classes != dataset.classes() {
        let reason = format!("`data.dataset = \"{dataset}\"` has {} classes", dataset.classes());
        return conflict("model.classes", model.classes, reason);
    }
    Ok(())
}

fn optimizer(recipe: &Recipe) -> Result<(), RecipeError> {
    let optimizer = &recipe.optimizer;
    let kind = optimizer.kind;
    let foreign = |belongs_to: OptimizerKind, neutral: &str| {
        format!(
            "it means nothing with `optimizer.kind = \"{kind}\"`; leave it at {neutral}, \
             or use `optimizer.kind = \"{belongs_to}\"`"
        )
    };
    match kind {
        OptimizerKind::AdamW => {
            if optimizer.momentum != 0.0 {
                let reason = foreign(OptimizerKind::Sgd, "0");
                return conflict("optimizer.momentum", optimizer.momentum, reason);
            }
            if optimizer.nesterov {
                let reason = foreign(OptimizerKind::Sgd, "false");
                return conflict("optimizer.nesterov", true, reason);
            }
        }
        OptimizerKind::Sgd => {
            if optimizer.nesterov && optimizer.momentum == 0.0 {
                let reason = "it needs an `optimizer.momentum` over 0".to_owned();
                return conflict("optimizer.nesterov", true, reason);
            }
            for (key, value) in [
                ("optimizer.beta1", optimizer.beta1),
                ("optimizer.beta2", optimizer.beta2),
                ("optimizer.eps", optimizer.eps),
            ] {
                let neutral = default_text(key);
                if differs(value, neutral) {
                    return conflict(key, value, foreign(OptimizerKind::AdamW, neutral));
                }
            }
        }
    }
    Ok(())
}

fn schedule(recipe: &Recipe) -> Result<(), RecipeError> {
    let schedule = &recipe.schedule;
    let kind = schedule.kind;
    let foreign = |belongs_to: ScheduleKind, neutral: &str| {
        format!(
            "it means nothing with `schedule.kind = \"{kind}\"`; leave it at {neutral}, \
             or use `schedule.kind = \"{belongs_to}\"`"
        )
    };
    if schedule.warmup_steps > 0 && schedule.warmup_epochs > 0 {
        let reason =
            format!("`schedule.warmup_epochs = {}` is set too; set one", schedule.warmup_epochs);
        return conflict("schedule.warmup_steps", schedule.warmup_steps, reason);
    }
    if schedule.warmup_epochs >= recipe.run.epochs {
        let reason = format!("warm-up must be shorter than `run.epochs = {}`", recipe.run.epochs);
        return conflict("schedule.warmup_epochs", schedule.warmup_epochs, reason);
    }
    if kind == ScheduleKind::Step {
        if schedule.step_epochs == 0 {
            let reason = "`schedule.kind = \"step\"` needs it to be 1 or more".to_owned();
            return conflict("schedule.step_epochs", 0, reason);
        }
    } else {
        if schedule.step_epochs != 0 {
            let reason = foreign(ScheduleKind::Step, "0");
            return conflict("schedule.step_epochs", schedule.step_epochs, reason);
        }
        let neutral = default_text("schedule.gamma");
        if differs(schedule.gamma, neutral) {
            let reason = foreign(ScheduleKind::Step, neutral);
            return conflict("schedule.gamma", schedule.gamma, reason);
        }
    }
    let (last, first) = (schedule.final_learning_rate, recipe.optimizer.learning_rate);
    if kind != ScheduleKind::Cosine && last != 0.0 {
        let reason = foreign(ScheduleKind::Cosine, "0");
        return conflict("schedule.final_learning_rate", last, reason);
    }
    if last > first {
        let reason = format!("it must not be over `optimizer.learning_rate = {first}`");
        return conflict("schedule.final_learning_rate", last, reason);
    }
    Ok(())
}

/// The default of a key as text; the neutral value for kinds that do not use the key.
fn default_text(key: &str) -> &'static str {
    match find_key(key).map(|key| key.default) {
        Some(Fallback::Toml(text)) => text,
        _ => "",
    }
}

fn differs(value: f64, text: &str) -> bool {
    text.parse() != Ok(value)
}
