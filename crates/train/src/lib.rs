//! Recipes, the training loop, checkpoints, and the vitrine program.
//!
//! What decides a run is its [`recipe`], or a model, an [`objective`] and data of your own with a recipe's other
//! sections (see `examples/own_model.rs`). What a run leaves in its folder is written by [`checkpoint`], [`metrics`]
//! and [`report`]; figures go to any [`sink`]; what a person sees meanwhile is [`progress`].
//!
//! ```
//! use vitrine_train::recipe::{Overrides, Recipe};
//!
//! let mut overrides = Overrides::new();
//! overrides.flag("--epochs", "1")?.set("optimizer.learning_rate=0.05")?;
//! let recipe = Recipe::load("d2l", &overrides)?;
//! assert_eq!(recipe.training.run.epochs, 1);
//! println!("{}", recipe.to_toml()?);
//! # Ok::<(), vitrine_train::recipe::RecipeError>(())
//! ```

pub mod atomic;
pub mod bench;
pub mod build;
mod chart;
pub mod checkpoint;
pub mod description;
mod distillation;
mod error;
pub mod evaluate;
pub mod explain;
pub mod export;
mod groups;
pub mod hub;
pub mod machine;
pub mod metrics;
pub mod objective;
mod picture;
pub mod predict;
mod probe;
pub mod progress;
mod protobuf;
pub mod recipe;
pub mod report;
pub mod sink;
mod step;
pub mod sweep;
mod tensorboard;
pub mod threads;
pub mod trainer;
pub mod weights;

pub use error::{Result, TrainError};
