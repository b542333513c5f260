//! What the optimizer does with each parameter, by its name: which ones stay as they are, and at what rate the others
//! change. Whether weight decay applies is declared with the parameter, as timm has it.

use vitrine_nn::settings::SettingError;
use vitrine_nn::{Model, Parameters};

use crate::error::Result;
use crate::recipe::Training;
use crate::weights::ADDED;

/// The word for all parameters but those of the head and of LoRA.
const BACKBONE: &str = "backbone";

/// Groups the parameters as the recipe says. LoRA alone freezes what it is added to.
pub fn group(training: &Training, model: &dyn Model, parameters: &mut Parameters) -> Result<()> {
    let optimizer = &training.optimizer;
    let (head, added) = (model.head(), |name: &str| name.contains(ADDED));
    let is_head = |name: &str| head.iter().any(|start| name.starts_with(start));
    let lora = [BACKBONE.to_owned()];
    let patterns: &[String] = match &optimizer.freeze {
        Some(patterns) => patterns,
        None if parameters.names().any(added) => &lora,
        None => &[],
    };
    let freezes = |pattern: &str, name: &str| match pattern {
        BACKBONE => !is_head(name) && !added(name),
        pattern => matches(pattern, name) || matches(&format!("{pattern}.*"), name),
    };
    if let Some(idle) = patterns.iter().find(|p| !parameters.names().any(|name| freezes(p, name))) {
        let nearest = parameters.find(idle).err().map_or(String::new(), |error| error.to_string());
        return Err(SettingError::conflict("optimizer.freeze", format!("{idle:?}"), nearest).into());
    }
    let last = parameters.names().map(|name| model.layer(name)).max().unwrap_or(0);
    parameters.regroup(|name, group| {
        group.frozen = patterns.iter().any(|pattern| freezes(pattern, name));
        let layers = (last - model.layer(name)) as f64;
        group.rate_scale = optimizer.layer_decay.powf(layers);
        if is_head(name) {
            group.rate_scale *= optimizer.head_rate_scale;
        }
    });
    if parameters.infos().iter().all(|info| info.group.frozen) {
        let (stated, reason) = (format!("{patterns:?}"), "nothing is left to train".to_owned());
        return Err(SettingError::conflict("optimizer.freeze", stated, reason).into());
    }
    Ok(())
}

/// Whether a name fits a pattern, in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            (0..=name.len()).any(|i| name.is_char_boundary(i) && matches(rest, &name[i..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, fits) in [
            ("norm", "norm", true),
            ("norm", "norm.weight", false),
            ("*", "", true),
            ("blocks.*.attn.*", "blocks.11.attn.qkv.weight", true),
            ("blocks.*.attn", "blocks.1.attn.qkv", false),
            ("*.bias", "head.bias", true),
            ("*.bias", "head.bias2", false),
            ("a*b*c", "aXbXbc", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
