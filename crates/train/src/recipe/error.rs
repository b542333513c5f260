//! Why a recipe could not be read or used. What can be wrong with one key is [`SettingError`].

use std::path::PathBuf;

use thiserror::Error;
use vitrine_nn::settings::{SettingError, hint};

/// Why a recipe could not be read or used.
#[derive(Debug, Error)]
pub enum RecipeError {
    /// A key or its value.
    #[error(transparent)]
    Setting(#[from] SettingError),
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
}
