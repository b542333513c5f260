//! Recipes: what decides a training run, read from TOML, built-in recipes and the command line.
//!
//! A recipe is built in layers: the defaults of [`keys`], the recipe's base (and its base), the recipe itself, and the
//! command line's [`Overrides`]. A layer that names a `model.preset` first takes the preset's keys, then its own.
//!
//! ```
//! use vitrine_train::recipe::{Overrides, Recipe};
//!
//! let mut overrides = Overrides::new();
//! overrides.set("model.heads=4")?.flag("--epochs", "3")?;
//! let recipe = Recipe::load("d2l", &overrides)?;
//! assert_eq!(recipe.training.run.epochs, 3);
//! assert!(recipe.to_toml()?.contains("heads = 4"));
//!
//! let error = Overrides::new().set("optimizer.lr=0.1").unwrap_err().to_string();
//! assert!(error.contains("did you mean `optimizer.learning_rate`?"));
//! # Ok::<(), vitrine_train::recipe::RecipeError>(())
//! ```

mod error;
mod layers;
mod overrides;
mod sections;
mod suggest;
mod validate;

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::{Table, Value};
use vitrine_data::Source;
use vitrine_models::ModelConfig;
use vitrine_nn::settings::{Key, SettingError, check, read, table};

pub use error::RecipeError;
pub use layers::{recipe_text, sweep_section};
pub(crate) use layers::{text as document_text, unknown_key};
pub use overrides::Overrides;
pub(crate) use overrides::read_value;
pub use sections::{
    AugmentRecipe, DataRecipe, Device, OptimizerKind, OptimizerRecipe, Precision, RunRecipe,
    SECTIONS, ScheduleKind, ScheduleRecipe, Training, find_key, keys,
};
pub(crate) use sections::{SHARE, check_value};

use crate::objective::ObjectiveRecipe;

/// The recipes that come with the program: names, and texts as they stand in their files.
const BUILTIN: [(&str, &str); 5] = [
    ("d2l", include_str!("../../recipes/d2l.toml")),
    ("d2l-jax", include_str!("../../recipes/d2l-jax.toml")),
    ("scratch-small", include_str!("../../recipes/scratch-small.toml")),
    ("finetune", include_str!("../../recipes/finetune.toml")),
    ("resnet18", include_str!("../../recipes/resnet18.toml")),
];

/// Names of the built-in recipes.
pub fn builtin_names() -> Vec<&'static str> {
    BUILTIN.iter().map(|(name, _)| *name).collect()
}

/// The text of a built-in recipe, as it stands in its file.
pub fn builtin_text(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// Everything that decides a training run of the program's, resolved: no key is left open.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The network.
    pub model: ModelConfig,
    /// What is minimised.
    pub objective: ObjectiveRecipe,
    /// All else.
    pub training: Training,
}

impl Recipe {
    /// Loads a recipe: `source` is the name of a built-in one, or the path of a file ending in
    /// `.toml`. The overrides stand above it.
    pub fn load(source: &str, overrides: &Overrides) -> Result<Self, RecipeError> {
        let layers = layers::from_source(source, Path::new(""), &mut Vec::new())?;
        Self::resolve(layers, overrides)
    }

    /// Loads a recipe file, whatever it is called: a run's `config.toml`, for example.
    pub fn load_file(path: &Path, overrides: &Overrides) -> Result<Self, RecipeError> {
        Self::resolve(layers::from_file(path, &mut Vec::new())?, overrides)
    }

    /// Reads a recipe from TOML text. `origin` names the text in errors; a base that is a file is
    /// looked for from the current folder.
    pub fn parse(text: &str, origin: &str) -> Result<Self, RecipeError> {
        let layers = layers::from_text(text, origin, Path::new(""), &mut Vec::new())?;
        Self::resolve(layers, &Overrides::new())
    }

    /// The whole recipe as TOML, every key stated. Parsing it gives an equal recipe.
    pub fn to_toml(&self) -> Result<String, RecipeError> {
        Ok(layers::text(&self.document()?))
    }

    /// All sections as tables.
    pub(crate) fn document(&self) -> Result<Table, SettingError> {
        self.training.document(self.model.table()?, table(&self.objective)?)
    }

    /// The sections of a run's `config.toml`, with the defaults of keys that it does not have; those of a model or an
    /// objective that the program does not know stand as they are.
    pub(crate) fn document_of(text: &str, origin: &str) -> Result<Table, RecipeError> {
        if let Ok(recipe) = Self::parse(text, origin) {
            return Ok(recipe.document()?);
        }
        let mut sections = layers::parse(text, origin)?;
        let (model, objective) = (take(&mut sections, "model"), take(&mut sections, "objective"));
        Ok(Training::read(sections)?.document(model, objective)?)
    }

    /// Checks every key alone and all of them together. Recipes that were loaded or parsed have
    /// passed it; it is for those built or changed in code.
    pub fn validate(&self) -> Result<(), RecipeError> {
        self.model.validate()?;
        check(&self.objective, ObjectiveRecipe::KEYS)?;
        self.training.validate()?;
        Ok(self.training.data.check_classes(self.model.classes())?)
    }

    fn resolve(mut layers: Vec<layers::Layer>, overrides: &Overrides) -> Result<Self, RecipeError> {
        layers.extend([overrides.described.clone(), overrides.stated.clone()]);
        let mut sections = layers::merge(layers);
        let mut model = take(&mut sections, "model");
        let mut data: DataRecipe = section(&mut sections, "data", DataRecipe::KEYS)?;
        // The recipe's data set is not that of weights with other classes.
        let other = |classes| data.check_classes(classes).is_err();
        if overrides.get("data.dataset").is_none() && overrides.weights_classes().is_some_and(other)
        {
            data.dataset = None;
        }
        sections.insert("data".into(), Value::Table(table(&data)?));
        // What nobody states follows from the data.
        let known = data.known_classes().map(|classes| classes.len());
        if let Some(classes) = overrides.classes.or(known) {
            model.entry("classes").or_insert(Value::Integer(classes as i64));
        }
        if let Ok(Source::Known(name)) = data.source() {
            model.entry("channels").or_insert(Value::Integer(name.spec().image_shape[0] as i64));
        }
        let recipe = Self {
            model: ModelConfig::read(model, "the recipe")?,
            objective: section(&mut sections, "objective", ObjectiveRecipe::KEYS)?,
            training: Training::read(sections)?,
        };
        recipe.validate()?;
        Ok(recipe)
    }
}

impl Training {
    /// Reads the sections from TOML text, for a model and an objective of your own.
    pub fn parse(text: &str, origin: &str) -> Result<Self, RecipeError> {
        let layers = layers::from_text(text, origin, Path::new(""), &mut Vec::new())?;
        let training = Self::read(layers::merge(layers))?;
        training.validate()?;
        Ok(training)
    }

    fn read(mut sections: Table) -> Result<Self, SettingError> {
        Ok(Self {
            data: section(&mut sections, "data", DataRecipe::KEYS)?,
            augment: section(&mut sections, "augment", AugmentRecipe::KEYS)?,
            optimizer: section(&mut sections, "optimizer", OptimizerRecipe::KEYS)?,
            schedule: section(&mut sections, "schedule", ScheduleRecipe::KEYS)?,
            run: section(&mut sections, "run", RunRecipe::KEYS)?,
        })
    }

    /// All sections with those of a model and an objective: what `config.toml` in a run's folder holds.
    pub(crate) fn document(&self, model: Table, objective: Table) -> Result<Table, SettingError> {
        let (data, augment) = (table(&self.data)?, table(&self.augment)?);
        let (optimizer, schedule) = (table(&self.optimizer)?, table(&self.schedule)?);
        let tables = [model, data, augment, optimizer, schedule, objective, table(&self.run)?];
        let names = SECTIONS.map(str::to_owned);
        Ok(names.into_iter().zip(tables.map(Value::Table)).collect())
    }
}

fn take(sections: &mut Table, name: &str) -> Table {
    match sections.remove(name) {
        Some(Value::Table(section)) => section,
        _ => Table::new(),
    }
}

fn section<T: DeserializeOwned>(
    sections: &mut Table,
    name: &str,
    keys: &[Key],
) -> Result<T, SettingError> {
    read(take(sections, name), keys, "the recipe")
}
