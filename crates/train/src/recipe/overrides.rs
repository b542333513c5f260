//! Recipe keys set on the command line: `--set key=value` and flags such as `--epochs 5`.

use toml::Value;
use vitrine_nn::settings::{Key, SettingError};

use super::error::RecipeError;
use super::sections::{find_key, keys};
use super::suggest::nearest_key;

/// Values that stand above the recipe's own. A later one wins over an earlier one.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    entries: Vec<(&'static str, Value)>,
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
