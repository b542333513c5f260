//! Recipes: what decides a training run, read from TOML, built-in recipes and the command line.
//!
//! A recipe is built in layers: the defaults of [`KEYS`], the recipe's base (and its base), the
//! recipe itself, and the command line's [`Overrides`]. A layer that names a `model.preset` first
//! takes the preset's keys, then its own.
//!
//! ```
//! use vitrine_train::recipe::{Overrides, Recipe};
//!
//! let mut overrides = Overrides::new();
//! overrides.set("model.heads=4")?.flag("--epochs", "3")?;
//! let recipe = Recipe::load("d2l", &overrides)?;
//! assert_eq!((recipe.model.heads, recipe.run.epochs, recipe.model.width), (4, 3, 512));
//!
//! let error = Overrides::new().set("optimizer.lr=0.1").unwrap_err().to_string();
//! assert!(error.contains("did you mean `optimizer.learning_rate`?"));
//! # Ok::<(), vitrine_train::recipe::RecipeError>(())
//! ```

mod builtin;
mod error;
mod keys;
mod layers;
mod overrides;
mod presets;
mod schema;
mod suggest;
mod validate;

use std::path::{Path, PathBuf};

pub use builtin::{builtin_names, builtin_text};
pub use error::RecipeError;
pub use keys::{Fallback, KEYS, Key, Kind, Range, SECTIONS, find_key};
pub use overrides::Overrides;
pub use schema::{
    DataRecipe, Dataset, Device, Gelu, Init, LossRecipe, ModelRecipe, OptimizerKind,
    OptimizerRecipe, Pool, Precision, Recipe, RunRecipe, ScheduleKind, ScheduleRecipe, Size,
};

/// Names of the model presets.
pub fn preset_names() -> &'static [&'static str] {
    &presets::NAMES
}

impl Recipe {
    /// Loads a recipe: `source` is the name of a built-in one, or the path of a file ending in
    /// `.toml`. The overrides stand above it.
    pub fn load(source: &str, overrides: &Overrides) -> Result<Self, RecipeError> {
        let layers = if is_path(source) {
            layers::from_file(Path::new(source), &mut Vec::new())?
        } else {
            layers::from_builtin(source, &mut Vec::new())?
        };
        Self::resolve(layers, overrides)
    }

    /// Loads a recipe file, whatever it is called: a run's `config.toml`, for example.
    pub fn load_file(path: &Path, overrides: &Overrides) -> Result<Self, RecipeError> {
        Self::resolve(layers::from_file(path, &mut Vec::new())?, overrides)
    }

    /// Reads a recipe from TOML text. `origin` names the text in errors; a base that is a file is
    /// looked for from the current folder.
    pub fn parse(text: &str, origin: &str) -> Result<Self, RecipeError> {
        let layers = layers::from_text(text, origin, &PathBuf::new(), &mut Vec::new())?;
        Self::resolve(layers, &Overrides::new())
    }

    /// The whole recipe as TOML, every key stated. Parsing it gives an equal recipe.
    pub fn resolved_toml(&self) -> Result<String, RecipeError> {
        layers::write(self)
    }

    /// Checks every key alone and all of them together. Recipes that were loaded or parsed have
    /// passed it; it is for those built or changed in code.
    pub fn validate(&self) -> Result<(), RecipeError> {
        let text = self.resolved_toml()?;
        layers::from_text(&text, "the recipe", &PathBuf::new(), &mut Vec::new())?;
        validate::check_together(self)
    }

    fn resolve(mut layers: Vec<layers::Layer>, overrides: &Overrides) -> Result<Self, RecipeError> {
        layers.push(overrides.entries().iter().cloned().collect());
        let recipe = layers::merge(layers)?;
        validate::check_together(&recipe)?;
        Ok(recipe)
    }
}

fn is_path(source: &str) -> bool {
    source.ends_with(".toml") || source.contains(std::path::is_separator)
}
