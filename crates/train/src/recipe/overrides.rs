//! Recipe keys set on the command line: `--set key=value` and flags such as `--epochs 5`.

use toml::Value;
use vitrine_data::Preprocessing;
use vitrine_nn::settings::{Key, SettingError, table};

use crate::description::Description;

use super::error::RecipeError;
use super::layers::{Layer, unknown_key};
use super::sections::{check_value, find_key, keys};

const CLASSES: &str = "model.classes";

/// Values that stand above the recipe's own. A later one wins over an earlier one.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub(super) stated: Layer,
    /// The classes of the data, if they were counted.
    pub(super) classes: Option<usize>,
    /// What lies beside the weights.
    pub(super) described: Layer,
}

impl Overrides {
    /// No overrides.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what stands after `--set`: `key=value`, such as `model.heads=4` or
    /// `model.image_size=[96,64]`. A name needs no quotes: `optimizer.kind=adamw`.
    pub fn set(&mut self, assignment: &str) -> Result<&mut Self, RecipeError> {
        let malformed = || RecipeError::Assignment { text: assignment.into() };
        let (name, text) = assignment.split_once('=').ok_or_else(malformed)?;
        let (name, text) = (name.trim(), text.trim());
        if name.is_empty() || text.is_empty() {
            return Err(malformed());
        }
        let key = find_key(name).ok_or_else(|| unknown_key("--set", name))?;
        self.add(key, text, "--set")
    }

    /// Adds a flag with its own name, such as `--epochs` with `5`.
    pub fn flag(&mut self, flag: &str, text: &str) -> Result<&mut Self, RecipeError> {
        let key = keys().find(|key| key.flag == Some(flag));
        let key = key.ok_or_else(|| RecipeError::UnknownFlag { flag: flag.into() })?;
        self.add(key, text.trim(), flag)
    }

    /// States how many classes the data has, beneath the recipe's own `model.classes`.
    pub fn classes_found(&mut self, classes: usize) -> &mut Self {
        self.classes = Some(classes);
        self
    }

    /// Takes what lies beside a model's weights, with its classes if `classes`: it stands above the recipe's own
    /// keys, and beneath all other overrides. A model that is described leaves nothing of the recipe's.
    pub fn describe(
        &mut self,
        about: &Description,
        classes: bool,
    ) -> Result<&mut Self, SettingError> {
        let images = &about.pretrained_cfg;
        // The size is stated below, whatever it is.
        let mut config = table(&Preprocessing { input_size: [0; 3], ..images.clone() })?;
        let [channels, height, width] =
            images.input_size.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        config.insert("channels".into(), channels.into());
        config.insert("image_size".into(), vec![height, width].into());
        if self.get("model.channels").and_then(Value::as_integer) == Some(1) {
            // As timm does: one number for all.
            for (leaf, numbers) in [("mean", &images.mean), ("std", &images.std)] {
                let mean = numbers.iter().sum::<f64>() / numbers.len().max(1) as f64;
                config.insert(leaf.into(), mean.into());
            }
        }
        let key = |section: &str, leaf: &str| find_key(&format!("{section}.{leaf}"));
        let model = about.model.iter().map(|(leaf, value)| (key("model", leaf), value));
        let images = config
            .iter()
            .map(|(leaf, value)| (key("model", leaf).or_else(|| key("data", leaf)), value));
        for (key, value) in model.chain(images) {
            if let Some(key) = key.filter(|key| key.name != CLASSES) {
                let value = check_value(key, value, "config.json beside the weights")?;
                self.described.insert(key.name, value);
            }
        }
        if classes {
            self.head_has(about.num_classes);
        }
        Ok(self)
    }

    /// States how many classes the weights tell apart, above the recipe's own key.
    pub fn head_has(&mut self, classes: usize) -> &mut Self {
        self.described.insert(CLASSES, Value::Integer(i64::try_from(classes).unwrap_or(i64::MAX)));
        self
    }

    /// The classes of the weights that were described.
    pub(super) fn weights_classes(&self) -> Option<usize> {
        self.described.get(CLASSES)?.as_integer().map(|classes| classes as usize)
    }

    /// What this key is overridden with.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.stated.get(name)
    }

    fn add(
        &mut self,
        key: &'static Key,
        text: &str,
        origin: &str,
    ) -> Result<&mut Self, RecipeError> {
        // A refusal shows the text as it was typed.
        let refused = |error| match error {
            SettingError::Value { allowed, .. } => {
                SettingError::value(origin, key.name, text, allowed)
            }
            other => other,
        };
        let value = check_value(key, &read_value(key, text), origin).map_err(refused)?;
        self.stated.insert(key.name, value);
        Ok(self)
    }
}

/// Text that is no TOML value is taken as a string, so that the check of the key can refuse it in its own words.
pub(crate) fn read_value(key: &Key, text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<toml::Table>().ok();
    let parsed = parsed.filter(|table| table.len() == 1).and_then(|mut t| t.remove("value"));
    match parsed {
        Some(value) if !key.kind.is_text() || value.is_str() => value,
        _ => Value::String(text.into()),
    }
}
