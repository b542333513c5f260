//! What can be wrong with a recipe, in words that name the key, the value and what is allowed.

use std::path::PathBuf;

use thiserror::Error;

/// Why a recipe could not be read or used.
#[derive(Debug, Error)]
pub enum RecipeError {
    /// The recipe file could not be read.
    #[error("cannot read the recipe {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not TOML.
    #[error("{origin} is not valid TOML: {message}")]
    Syntax {
        /// Where the text came from.
        origin: String,
        /// The parser's message, with line and column.
        message: String,
    },
    /// No built-in recipe has this name.
    #[error(
        "there is no built-in recipe {name:?}{}; the built-in recipes are {known}, \
         and a recipe of your own is a file whose name ends in .toml",
        hint(.suggestion)
    )]
    UnknownRecipe {
        /// The name that was asked for.
        name: String,
        /// The nearest built-in name, if one is near.
        suggestion: Option<String>,
        /// All built-in names.
        known: String,
    },
    /// No recipe has this key or section.
    #[error("{origin}: unknown key `{key}`{}", hint(.suggestion))]
    UnknownKey {
        /// Where the key was given.
        origin: String,
        /// The key as given.
        key: String,
        /// The nearest known key, if one is near.
        suggestion: Option<String>,
    },
    /// A value is of the wrong type or outside its range.
    #[error("{origin}: `{key} = {value}` is not allowed: it must be {allowed}")]
    Value {
        /// Where the value was given.
        origin: String,
        /// The key.
        key: String,
        /// The value as given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Two keys contradict each other.
    #[error("`{key} = {value}` is not allowed: {reason}")]
    Conflict {
        /// The key to change.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it contradicts, and what would be allowed.
        reason: String,
    },
    /// A key without a default was not given.
    #[error(
        "the recipe states no `{key}` ({about}): state it, or start from another recipe with \
         `base = \"d2l\"`{}",
        if key.starts_with("model.") { ", or name a `model.preset`" } else { "" }
    )]
    Missing {
        /// The key.
        key: &'static str,
        /// What the key means.
        about: &'static str,
    },
    /// Recipes name each other as their base.
    #[error("a recipe is its own base: {chain}")]
    BaseCycle {
        /// The recipes in the order in which they name each other.
        chain: String,
    },
    /// A `--set` without a key, an equals sign and a value.
    #[error("`--set {text}` is not of the form key=value, such as `--set model.heads=4`")]
    Assignment {
        /// The text as given.
        text: String,
    },
    /// No recipe key has this command-line flag.
    #[error("no recipe key belongs to the flag {flag}")]
    UnknownFlag {
        /// The flag as given.
        flag: String,
    },
    /// The recipe could not be written as TOML or read back from it.
    #[error("cannot convert the recipe to or from TOML: {message}")]
    Convert {
        /// The converter's message.
        message: String,
    },
}

/// Longer values are cut in a message.
const LONGEST_VALUE: usize = 60;

impl RecipeError {
    /// A value that is not allowed.
    pub(super) fn value(origin: &str, key: &str, value: impl ToString, allowed: String) -> Self {
        let mut value = value.to_string();
        if let Some((end, _)) = value.char_indices().nth(LONGEST_VALUE) {
            value.truncate(end);
            value.push('…');
        }
        Self::Value { origin: origin.into(), key: key.into(), value, allowed }
    }
}

fn hint(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}
