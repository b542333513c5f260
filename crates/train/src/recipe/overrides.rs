//! Recipe keys set on the command line: `--set key=value` and flags such as `--epochs 5`.

use toml::Value;
use vitrine_nn::settings::{Key, SettingError, table};

use crate::checkpoint::Description;

use super::error::RecipeError;
use super::sections::{find_key, keys};
use super::suggest::nearest_key;

/// Values that stand above the recipe's own. A later one wins over an earlier one.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    entries: Vec<(&'static str, Value)>,
    pub(super) classes: Option<usize>,
    /// The classes of the weights that were described.
    pub(super) described: Option<usize>,
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
        let key = find_key(name).ok_or_else(|| SettingError::UnknownKey {
            origin: "--set".into(),
            key: name.into(),
            suggestion: nearest_key(name),
        })?;
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

    /// Takes what lies beside a model's weights: it stands above the recipe's own keys, and beneath all other
    /// overrides.
    pub fn describe(&mut self, about: &Description) -> Result<&mut Self, SettingError> {
        self.described = Some(about.num_classes);
        self.beneath([("model.classes", Value::Integer(about.num_classes as i64))])?;
        self.describe_images(about)
    }

    /// Takes from there what the model expects of images, and leaves the classes open.
    pub fn describe_images(&mut self, about: &Description) -> Result<&mut Self, SettingError> {
        let mut config = table(&about.pretrained_cfg)?;
        let [channels, height, width] = about.pretrained_cfg.input_size.map(|n| n as i64);
        config.insert("channels".into(), channels.into());
        config.insert("image_size".into(), vec![height, width].into());
        let section = |leaf: &str| {
            if find_key(&format!("model.{leaf}")).is_some() { "model" } else { "data" }
        };
        let named =
            config.into_iter().map(|(leaf, value)| (format!("{}.{leaf}", section(&leaf)), value));
        self.beneath(named)
    }

    fn beneath(
        &mut self,
        stated: impl IntoIterator<Item = (impl AsRef<str>, Value)>,
    ) -> Result<&mut Self, SettingError> {
        let known =
            stated.into_iter().filter_map(|(name, value)| Some((find_key(name.as_ref())?, value)));
        let check = |(key, value): (&'static Key, Value)| {
            Ok((key.name, key.check(&value, "config.json beside the weights")?))
        };
        let entries: Vec<_> = known.map(check).collect::<Result<_, SettingError>>()?;
        self.entries.splice(0..0, entries);
        Ok(self)
    }

    /// What this key is overridden with.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.entries.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| value)
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
        let value = key.check(&read_value(key, text), origin).map_err(refused)?;
        self.entries.push((key.name, value));
        Ok(self)
    }

    /// Whether nothing is overridden.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in the order given.
    pub(super) fn entries(&self) -> &[(&'static str, Value)] {
        &self.entries
    }
}

/// Text that is no TOML value is taken as a string, so that the check of the key can refuse it in its own words.
fn read_value(key: &Key, text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<toml::Table>().ok();
    let parsed = parsed.filter(|table| table.len() == 1).and_then(|mut t| t.remove("value"));
    match parsed {
        Some(value) if !key.kind.is_text() || value.is_str() => value,
        _ => Value::String(text.into()),
    }
}
