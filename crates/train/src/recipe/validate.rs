//! Rules that tie two or more recipe keys together. The rules for one key alone stand with it, in `sections`.

use std::fmt::Display;

use serde::Serialize;
use vitrine_data::Source;
use vitrine_data::augment::RandomCrop;
use vitrine_nn::Model;
use vitrine_nn::settings::{Fallback, Key, SettingError, check, table};

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
        let strengths = [hflip, vflip, color_jitter, hue, reprob, &self.mixup, &self.cutmix];
        *crop == RandomCrop::None
            && self.image_sizes.is_none()
            && strengths.iter().all(|&&strength| strength == 0.0)
            && auto_augment == "none"
    }
}

impl Training {
    /// Height and width of the training images of an epoch, counted from 0, for a model that takes `own` ones.
    pub fn image_size(&self, epoch: u64, own: (usize, usize)) -> (usize, usize) {
        let Some(sizes) = &self.augment.image_sizes else { return own };
        let part = epoch as usize * sizes.len() / self.run.epochs;
        width_of(sizes[part.min(sizes.len() - 1)], own)
    }

    /// The first size of training images that a model does not take.
    pub(crate) fn refused_size(&self, model: &dyn Model) -> Option<(usize, usize)> {
        let own = model.input().size;
        let sizes = self.augment.image_sizes.iter().flatten();
        sizes.map(|&height| width_of(height, own)).find(|&size| !model.takes(size))
    }

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

/// A height with the width that goes with it.
fn width_of(height: usize, own: (usize, usize)) -> (usize, usize) {
    (height, (height * own.1).div_ceil(own.0))
}

fn conflict(key: &'static str, value: impl ToString, reason: String) -> Result {
    Err(SettingError::conflict(key, value, reason))
}

/// Keys that some kinds alone read, each with those: with another they must stay at their defaults.
fn own_keys<K: Copy + PartialEq + Display>(
    kind_key: &str,
    kind: K,
    settings: &impl Serialize,
    owned: &[(&str, &[K])],
) -> Result {
    let settings = table(settings)?;
    for &(name, owners) in owned {
        let Some(key @ Key { default: Fallback::Toml(default), .. }) = find_key(name) else {
            continue;
        };
        if let Some(value) = settings.get(key.leaf())
            && !owners.contains(&kind)
            && key.fallback().as_ref() != Some(value)
        {
            let reason = format!(
                "it means nothing with `{kind_key} = \"{kind}\"`; leave it at {default}, or use `{kind_key} = \"{}\"`",
                owners[0]
            );
            return conflict(key.name, value, reason);
        }
    }
    Ok(())
}

fn optimizer(recipe: &Training) -> Result {
    use OptimizerKind::{AdamW, Muon, ScheduleFreeAdamW, Sgd, Soap};
    let optimizer = &recipe.optimizer;
    let owned = [
        ("optimizer.momentum", &[Sgd, Muon][..]),
        ("optimizer.nesterov", &[Sgd, Muon]),
        ("optimizer.beta1", &[AdamW, ScheduleFreeAdamW, Muon, Soap]),
        ("optimizer.beta2", &[AdamW, ScheduleFreeAdamW, Muon, Soap]),
        ("optimizer.eps", &[AdamW, ScheduleFreeAdamW, Muon, Soap]),
        ("optimizer.precondition_frequency", &[Soap]),
        ("optimizer.max_precond_dim", &[Soap]),
    ];
    own_keys("optimizer.kind", optimizer.kind, optimizer, &owned)?;
    if optimizer.nesterov && optimizer.momentum == 0.0 {
        let reason = "it needs an `optimizer.momentum` over 0".to_owned();
        return conflict("optimizer.nesterov", true, reason);
    }
    if optimizer.kind == Muon && optimizer.momentum == 0.0 {
        return conflict("optimizer.momentum", 0.0, "muon needs one, such as 0.95".to_owned());
    }
    if optimizer.model_ema_decay > 0.0 && optimizer.kind == ScheduleFreeAdamW {
        let reason = "schedule-free-adamw averages the weights itself; leave it at 0".to_owned();
        return conflict("optimizer.model_ema_decay", optimizer.model_ema_decay, reason);
    }
    if optimizer.model_ema_warmup && optimizer.model_ema_decay == 0.0 {
        let reason = "there is no average; set `optimizer.model_ema_decay`".to_owned();
        return conflict("optimizer.model_ema_warmup", true, reason);
    }
    Ok(())
}

fn schedule(recipe: &Training) -> Result {
    use ScheduleKind::{Cosine, Linear, Step};
    let (schedule, epochs) = (&recipe.schedule, recipe.run.epochs);
    if schedule.warmup_steps > 0 && schedule.warmup_epochs > 0 {
        let reason =
            format!("`schedule.warmup_epochs = {}` is set too; set one", schedule.warmup_epochs);
        return conflict("schedule.warmup_steps", schedule.warmup_steps, reason);
    }
    if schedule.warmup_epochs >= epochs {
        let reason = format!(
            "warm-up must be shorter than `run.epochs = {epochs}`; for a short run add --set schedule.warmup_epochs=0"
        );
        return conflict("schedule.warmup_epochs", schedule.warmup_epochs, reason);
    }
    if let Some(rate) = schedule.warmup_learning_rate
        && schedule.warmup_steps == 0
        && schedule.warmup_epochs == 0
    {
        let reason = "there is no warm-up; set `schedule.warmup_epochs` or `schedule.warmup_steps`";
        return conflict("schedule.warmup_learning_rate", rate, reason.to_owned());
    }
    let cooldown = schedule.cooldown_epochs;
    if cooldown > 0 && cooldown + schedule.warmup_epochs >= epochs {
        let reason = format!("warm-up and it must be shorter than `run.epochs = {epochs}`");
        return conflict("schedule.cooldown_epochs", cooldown, reason);
    }
    let owned = [
        ("schedule.step_epochs", &[Step][..]),
        ("schedule.gamma", &[Step]),
        ("schedule.cooldown_epochs", &[Cosine, Linear]),
        ("schedule.final_learning_rate", &[Cosine, Linear]),
    ];
    own_keys("schedule.kind", schedule.kind, schedule, &owned)?;
    if schedule.kind == Step && schedule.step_epochs == 0 {
        let reason = "`schedule.kind = \"step\"` needs it to be 1 or more".to_owned();
        return conflict("schedule.step_epochs", 0, reason);
    }
    let (last, first) = (schedule.final_learning_rate, recipe.optimizer.learning_rate);
    if last > first {
        let reason = format!("it must not be over `optimizer.learning_rate = {first}`");
        return conflict("schedule.final_learning_rate", last, reason);
    }
    Ok(())
}
