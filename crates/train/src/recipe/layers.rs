//! Layers of a recipe: reading each from TOML, following `base`, and merging them into one.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};
use vitrine_models::{FAMILY, is_preset_key};
use vitrine_nn::settings::SettingError;

use super::error::RecipeError;
use super::sections::{SECTIONS, check_value, find_key};
use super::suggest::{nearest_key, nearest_of};
use super::{builtin_names, builtin_text};

/// The section that says what a recipe is run over.
const SWEEP: &str = "sweep";

/// The section `[sweep]` of a recipe, a built-in one or a file; its bases' do not count.
pub fn sweep_section(source: &str) -> Result<Table, RecipeError> {
    match table(source)?.remove(SWEEP) {
        Some(Value::Table(section)) => Ok(section),
        _ => Ok(Table::new()),
    }
}

/// What a recipe says, without its section `[sweep]`.
pub fn recipe_text(source: &str) -> Result<String, RecipeError> {
    let mut table = table(source)?;
    table.remove(SWEEP);
    Ok(table.to_string())
}

fn table(source: &str) -> Result<Table, RecipeError> {
    if !is_file(source) {
        return parse(builtin(source)?, source);
    }
    let text = std::fs::read_to_string(source)
        .map_err(|error| RecipeError::Read { path: source.into(), source: error })?;
    parse(&text, source)
}

/// Whether a recipe's name is that of a file.
fn is_file(source: &str) -> bool {
    source.ends_with(".toml") || source.contains(std::path::is_separator)
}

fn builtin(name: &str) -> Result<&'static str, RecipeError> {
    builtin_text(name).ok_or_else(|| RecipeError::UnknownRecipe {
        name: name.into(),
        suggestion: nearest_of(name, &builtin_names()),
        known: builtin_names().join(", "),
    })
}

/// The keys that one source states, with checked values.
pub(super) type Layer = BTreeMap<&'static str, Value>;

/// The layers of a recipe, its base's first: a built-in one, or a file ending in `.toml`, looked for from `folder`.
/// `chain` holds the recipes that led here.
pub(super) fn from_source(
    source: &str,
    folder: &Path,
    chain: &mut Vec<String>,
) -> Result<Vec<Layer>, RecipeError> {
    if is_file(source) {
        return from_file(&folder.join(source), chain);
    }
    let text = builtin(source)?;
    enter(chain, source.into())?;
    from_text(text, &format!("the recipe {source:?}"), Path::new(""), chain)
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

/// The sections of a recipe text.
pub(super) fn parse(text: &str, origin: &str) -> Result<Table, RecipeError> {
    text.parse().map_err(|error: toml::de::Error| {
        let message = error.to_string().trim_end().to_owned();
        RecipeError::Syntax { origin: origin.into(), message }
    })
}

/// The layers of a recipe text, its base's first. Base files are looked for from `folder`.
pub(super) fn from_text(
    text: &str,
    origin: &str,
    folder: &Path,
    chain: &mut Vec<String>,
) -> Result<Vec<Layer>, RecipeError> {
    let mut table = parse(text, origin)?;
    let mut layers = match table.remove("base") {
        None => Vec::new(),
        Some(Value::String(base)) => from_source(&base, folder, chain)?,
        Some(other) => {
            let allowed = "the name of a built-in recipe or the path of a .toml file".into();
            return Err(SettingError::value(origin, "base", &other, allowed).into());
        }
    };
    layers.push(flatten(table, origin)?);
    Ok(layers)
}

/// The error of a key that there is not.
pub(crate) fn unknown_key(origin: &str, key: &str) -> RecipeError {
    unknown(origin, key, nearest_key(key))
}

fn unknown(origin: &str, key: &str, suggestion: Option<String>) -> RecipeError {
    SettingError::UnknownKey { origin: origin.into(), key: key.into(), suggestion }.into()
}

/// Checks each key and value, and gives them dotted names.
fn flatten(table: Table, origin: &str) -> Result<Layer, RecipeError> {
    let mut layer = Layer::new();
    for (section, value) in table {
        let known = SECTIONS.contains(&section.as_str()) || section == "loss";
        match value {
            Value::Table(keys) if known => {
                for (leaf, value) in keys {
                    let name = format!("{section}.{leaf}");
                    let key = find_key(&name).ok_or_else(|| unknown_key(origin, &name))?;
                    layer.insert(key.name, check_value(key, &value, origin)?);
                }
            }
            // What the recipe is run over is no part of it.
            Value::Table(_) if section == SWEEP => {}
            Value::Table(_) => {
                return Err(unknown(origin, &section, nearest_of(&section, &SECTIONS)));
            }
            other if known => {
                let allowed = format!("a section, [{section}]");
                return Err(SettingError::value(origin, &section, &other, allowed).into());
            }
            _ => {
                let suggestion = nearest_of(&section, &["base"]).or_else(|| nearest_key(&section));
                return Err(unknown(origin, &section, suggestion));
            }
        }
    }
    Ok(layer)
}

/// What the layers state, later ones over earlier ones: a table of sections.
pub(super) fn merge(layers: Vec<Layer>) -> Table {
    let mut sections: Table =
        SECTIONS.iter().map(|name| ((*name).to_owned(), Value::Table(Table::new()))).collect();
    for layer in layers {
        let preset = layer.get("model.preset").and_then(Value::as_str);
        let preset = preset.and_then(vitrine_models::preset);
        // A model that is named leaves nothing of the one before.
        if let Some(Value::Table(model)) = sections.get_mut("model")
            && (preset.is_some() || layer.contains_key(FAMILY.name))
        {
            model.retain(|leaf, _| leaf != "preset" && !is_preset_key(leaf));
            model.extend(preset.cloned().into_iter().flatten());
        }
        for (name, value) in layer {
            let (section, leaf) = name.split_once('.').unwrap_or(("", name));
            if let Some(Value::Table(section)) = sections.get_mut(section) {
                section.insert(leaf.into(), value);
            }
        }
    }
    sections
}

/// A table of sections as TOML text.
pub(crate) fn text(document: &Table) -> String {
    let mut sections = Vec::new();
    for (section, keys) in document {
        let mut text = format!("[{section}]\n");
        for (leaf, value) in keys.as_table().into_iter().flatten() {
            text += &match value {
                // 1e-8 reads better than 0.00000001.
                Value::Float(number) if 0.0 < number.abs() && number.abs() < 1e-3 => {
                    format!("{leaf} = {number:e}\n")
                }
                value => format!("{leaf} = {value}\n"),
            };
        }
        sections.push(text);
    }
    sections.join("\n")
}
