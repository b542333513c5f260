//! Why a recipe could not be read or used. What can be wrong with one key is [`SettingError`].

use std::path::PathBuf;

use thiserror::Error;
use vitrine_nn::settings::{SettingError, hint};

/// Why a recipe could not be read or used.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message says what each one is")]
pub enum RecipeError {
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error("cannot read the recipe {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{origin} is not valid TOML: {message}")]
    Syntax { origin: String, message: String },
    #[error(
        "there is no built-in recipe {name:?}{}; the built-in recipes are {known}, \
         and a recipe of your own is a file whose name ends in .toml",
        hint(.suggestion)
    )]
    UnknownRecipe { name: String, suggestion: Option<String>, known: String },
    #[error("a recipe is its own base: {chain}")]
    BaseCycle { chain: String },
    #[error("`--set {text}` is not of the form key=value, such as `--set model.heads=4`")]
    Assignment { text: String },
    #[error("no recipe key belongs to the flag {flag}")]
    UnknownFlag { flag: String },
}
