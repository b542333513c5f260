//! Layers of a recipe: reading each from TOML, following `base`, and merging them into one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::builtin::{builtin_names, builtin_text};
use super::error::RecipeError;
use super::keys::{Fallback, KEYS, Key, SECTIONS, find_key};
use super::schema::Recipe;
use super::suggest::{nearest_key, nearest_of, nearest_section};
use super::{is_path, presets};

/// The keys that one source states, with checked values.
pub(super) type Layer = BTreeMap<&'static str, Value>;

/// A built-in recipe's layers, its base's first. `chain` holds the recipes that led here.
pub(super) fn from_builtin(name: &str, chain: &mut Vec<String>) -> Result<Vec<Layer>, RecipeError> {
    let text = builtin_text(name).ok_or_else(|| RecipeError::UnknownRecipe {
        name: name.into(),
        suggestion: nearest_of(name, &builtin_names()),
        known: builtin_names().join(", "),
    })?;
    enter(chain, name.into())?;
    from_text(text, &format!("the recipe {name:?}"), &PathBuf::new(), chain)
}

/// A recipe file's layers, its base's first.
pub(super) fn from_file(path: &Path, chain: &mut Vec<String>) -> Result<Vec<Layer>, RecipeError> {
    let read_error = |source| RecipeError::Read { path: path.into(), source };
    let identity = path.canonicalize().map_err(read_error)?;
    enter(chain, identity.display().to_string())?;
    let text = std::fs::read_to_string(path).map_err(read_error)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    from_text(&text, &path.display().to_string(), folder, chain)
}

fn enter(chain: &mut Vec<String>, identity: String) -> Result<(), RecipeError> {
    let met_before = chain.contains(&identity);
    chain.push(identity);
    if met_before { Err(RecipeError::BaseCycle { chain: chain.join(" → ") }) } else { Ok(()) }
}

/// The layers of a recipe text, its base's first. Base files are looked for from `folder`.
pub(super) fn from_text(
    text: &str,
    origin: &str,
    folder: &Path,
    chain: &mut Vec<String>,
) -> Result<Vec<Layer>, RecipeError> {
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
        let message = error.to_string().trim_end().to_owned();
        RecipeError::Syntax { origin: origin.into(), message }
    })?;
    let mut layers = match table.remove("base") {
        None => Vec::new(),
        Some(Value::String(base)) if is_path(&base) => from_file(&folder.join(base), chain)?,
        Some(Value::String(base)) => from_builtin(&base, chain)?,
        Some(other) => {
            let allowed = "the name of a built-in recipe or the path of a .toml file".into();
            return Err(RecipeError::value(origin, "base", &other, allowed));
        }
    };
    layers.push(flatten(table, origin)?);
    Ok(layers)
}

fn unknown(origin: &str, key: &str, suggestion: Option<String>) -> RecipeError {
    RecipeError::UnknownKey { origin: origin.into(), key: key.into(), suggestion }
}

/// Checks each key and value, and gives them dotted names.
fn flatten(table: Table, origin: &str) -> Result<Layer, RecipeError> {
    let mut layer = Layer::new();
    for (section, value) in table {
        let known = SECTIONS.contains(&section.as_str());
        match value {
            Value::Table(keys) if known => {
                for (leaf, value) in keys {
                    let name = format!("{section}.{leaf}");
                    let key = find_key(&name)
                        .ok_or_else(|| unknown(origin, &name, nearest_key(&name)))?;
                    layer.insert(key.name, key.check(&value, origin)?);
                }
            }
            Value::Table(_) => return Err(unknown(origin, &section, nearest_section(&section))),
            other if known => {
                return Err(RecipeError::value(
                    origin,
                    &section,
                    &other,
                    format!("a section, [{section}]"),
                ));
            }
            _ => {
                let suggestion = nearest_of(&section, &["base"]).or_else(|| nearest_key(&section));
                return Err(unknown(origin, &section, suggestion));
            }
        }
    }
    Ok(layer)
}

/// Puts the layers over the defaults, later ones over earlier ones, and builds the recipe.
pub(super) fn merge(layers: Vec<Layer>) -> Result<Recipe, RecipeError> {
    let mut values = defaults()?;
    for layer in layers {
        if let Some(preset) = layer.get("model.preset").and_then(Value::as_str) {
            values.extend(presets::preset(preset).into_iter().flatten());
        }
        values.extend(layer);
    }
    let is_missing =
        |key: &&Key| key.default == Fallback::Required && !values.contains_key(key.name);
    if let Some(key) = KEYS.iter().find(is_missing) {
        return Err(RecipeError::Missing { key: key.name, about: key.about });
    }
    let mut table = Table::new();
    for key in KEYS {
        let section = table.entry(key.section()).or_insert_with(|| Value::Table(Table::new()));
        if let (Some(section), Some(value)) = (section.as_table_mut(), values.remove(key.name)) {
            section.insert(key.leaf().into(), value);
        }
    }
    Recipe::deserialize(Value::Table(table))
        .map_err(|error| RecipeError::Convert { message: error.to_string() })
}

fn defaults() -> Result<Layer, RecipeError> {
    let mut text = String::new();
    for key in KEYS {
        if let Fallback::Toml(value) = key.default {
            text.push_str(&format!("{} = {value}\n", key.name));
        }
    }
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| RecipeError::Convert { message: error.to_string() })?;
    flatten(table, "the defaults")
}

/// The recipe as TOML text, in the order of [`KEYS`].
pub(super) fn write(recipe: &Recipe) -> Result<String, RecipeError> {
    let table = Table::try_from(recipe)
        .map_err(|error| RecipeError::Convert { message: error.to_string() })?;
    let mut text = String::new();
    let mut section = "";
    for key in KEYS {
        let value = table.get(key.section()).and_then(|keys| keys.get(key.leaf()));
        if key.section() != section {
            section = key.section();
            let gap = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{gap}[{section}]\n"));
        }
        match value {
            // 1e-8 reads better than 0.00000001.
            Some(Value::Float(number)) if 0.0 < number.abs() && number.abs() < 1e-3 => {
                text.push_str(&format!("{} = {number:e}\n", key.leaf()));
            }
            Some(value) => text.push_str(&format!("{} = {value}\n", key.leaf())),
            None => {}
        }
    }
    Ok(text)
}
