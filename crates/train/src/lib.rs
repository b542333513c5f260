//! Recipes, the training loop, checkpoints, and the vitrine program.
//!
//! What decides a run is its [`recipe`]; what a run leaves in its folder is written by [`metrics`]
//! and [`report`], every file through [`atomic`]; what a person sees meanwhile is [`progress`].
//!
//! ```
//! use vitrine_train::recipe::{Overrides, Recipe};
//!
//! let mut overrides = Overrides::new();
//! overrides.flag("--epochs", "1")?.set("optimizer.learning_rate=0.05")?;
//! let recipe = Recipe::load("d2l", &overrides)?;
//! assert_eq!(recipe.run.epochs, 1);
//! println!("{}", recipe.resolved_toml()?);
//! # Ok::<(), vitrine_train::recipe::RecipeError>(())
//! ```

pub mod atomic;
pub mod bench;
pub mod build;
pub mod checkpoint;
mod error;
pub mod evaluate;
pub mod machine;
pub mod metrics;
pub mod predict;
pub mod progress;
pub mod recipe;
pub mod report;
pub mod threads;
pub mod trainer;

pub use error::{Result, TrainError};
