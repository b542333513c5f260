//! Rules that tie two or more recipe keys together. The rules for one key alone stand with it, in `sections`.

use std::fmt::Display;

use vitrine_data::Source;
use vitrine_data::augment::RandomCrop;
use vitrine_nn::settings::{Fallback, SettingError, check};

use super::sections::{
    AugmentRecipe, DataRecipe, OptimizerRecipe, RunRecipe, ScheduleRecipe, Training,
};
use super::sections::{OptimizerKind, ScheduleKind, find_key};

type Result = std::result::Result<(), SettingError>;

impl DataRecipe {
    /// Where the images come from.
    pub fn source(&self) -> std::result::Result<Source, SettingError> {
        self.dataset.as_deref().and_then(Source::of_name).ok_or_else(|| {
            let key = "data.dataset";
            SettingError::Missing { key, about: find_key(key).map_or("", |key| key.about) }
        })
    }

    /// The classes, where the recipe alone tells.
    pub(crate) fn known_classes(&self) -> Option<Vec<String>> {
        let published = || match self.source().ok()? {
            Source::Known(name) => {
                Some(name.spec().class_names.iter().map(|&name| name.to_owned()).collect())
            }
            Source::Folder | Source::Shards => None,
        };
        self.classes.clone().or_else(published)
    }

    /// Whether the data set that is named, if one is, has so many classes.
    pub(crate) fn check_classes(&self, classes: usize) -> Result {
        match self.known_classes() {
            Some(known) if known.len() != classes => {
                let name = self.dataset.as_deref().unwrap_or_default();
                let reason = match &self.classes {
                    Some(_) => format!("`data.classes` names {} classes", known.len()),
                    None => format!("`data.dataset = {name:?}` has {} classes", known.len()),
                };
                conflict("model.classes", classes, reason)
            }
            _ => Ok(()),
        }
    }

    fn check(&self) -> Result {
        match self.holdout {
            Some(holdout) if holdout > 1.0 && holdout.fract() != 0.0 => {
                let reason = "from 1 on it is a number of images, and must be whole".to_owned();
                conflict("data.holdout", holdout, reason)
            }
            _ => Ok(()),
        }
    }
}

impl AugmentRecipe {
    /// Whether training images are what evaluation sees.
    pub(crate) fn is_off(&self) -> bool {
        let Self { crop, hflip, vflip, color_jitter, hue, auto_augment, reprob, .. } = self;
        *crop == RandomCrop::None
            && [hflip, vflip, color_jitter, hue, reprob].iter().all(|&&share| share == 0.0)
            && auto_augment == "none"
    }
}

impl Training {
    /// Checks every key alone and all of them together.
    pub fn validate(&self) -> Result {
        check(&self.data, DataRecipe::KEYS)?;
        check(&self.optimizer, OptimizerRecipe::KEYS)?;
        check(&self.schedule, ScheduleRecipe::KEYS)?;
        check(&self.run, RunRecipe::KEYS)?;
        check(&self.augment, AugmentRecipe::KEYS)?;
        self.data.check()?;
        optimizer(self)?;
        schedule(self)
    }
}

fn conflict(key: &'static str, value: impl ToString, reason: String) -> Result {
    Err(SettingError::conflict(key, value, reason))
}

/// Why a key of another kind must stay as it is.
fn foreign<K: Display>(key: &str, kind: K, belongs_to: K, neutral: &str) -> String {
    format!(
        "it means nothing with `{key} = \"{kind}\"`; leave it at {neutral}, or use `{key} = \"{belongs_to}\"`"
    )
}

fn optimizer(recipe: &Training) -> Result {
    let optimizer = &recipe.optimizer;
    let kind = optimizer.kind;
    let foreign = |belongs_to, neutral: &str| foreign("optimizer.kind", kind, belongs_to, neutral);
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

fn schedule(recipe: &Training) -> Result {
    let schedule = &recipe.schedule;
    let kind = schedule.kind;
    let foreign = |belongs_to, neutral: &str| foreign("schedule.kind", kind, belongs_to, neutral);
    if schedule.warmup_steps > 0 && schedule.warmup_epochs > 0 {
        let reason =
            format!("`schedule.warmup_epochs = {}` is set too; set one", schedule.warmup_epochs);
        return conflict("schedule.warmup_steps", schedule.warmup_steps, reason);
    }
    if schedule.warmup_epochs >= recipe.run.epochs {
        let epochs = recipe.run.epochs;
        let reason = format!(
            "warm-up must be shorter than `run.epochs = {epochs}`; for a short run add --set schedule.warmup_epochs=0"
        );
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
