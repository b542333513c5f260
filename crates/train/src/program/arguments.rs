//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use vitrine_train::recipe::{Overrides, RecipeError};

/// Trains vision transformers.
#[derive(Parser)]
#[command(version, about)]
pub struct Program {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Trains a model; each epoch's figures, checkpoints and a report go to the run's folder.
    Train(TrainArguments),
}

#[derive(Args)]
pub struct TrainArguments {
    #[command(flatten)]
    pub recipe: RecipeArguments,
    /// Folder with the data set's files; without it: $VITRINE_DATA, the user's cache, /usr/share/datasets, or fetched.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder for the run; without it: a new one in runs/.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub out: Option<PathBuf>,
    /// Goes on with the run in this folder, from its last checkpoint.
    #[arg(long, value_name = "DIR", conflicts_with = "recipe")]
    pub resume: Option<PathBuf>,
}

/// The recipe and what overrides it.
#[derive(Args)]
pub struct RecipeArguments {
    /// A built-in recipe (d2l, d2l-jax), or a .toml file [default: d2l].
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub recipe: Option<String>,
    /// The data set: fashion-mnist or mnist.
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Passes over the training images.
    #[arg(long, value_name = "N")]
    epochs: Option<String>,
    /// Images in a batch.
    #[arg(long, value_name = "N")]
    batch_size: Option<String>,
    /// f32 or bf16.
    #[arg(long, value_name = "TYPE")]
    precision: Option<String>,
    /// cpu or cuda:N.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// CPU threads; 0 for all.
    #[arg(long, value_name = "N")]
    threads: Option<String>,
    /// Decides first weights, order of the images and dropout.
    #[arg(long, value_name = "N")]
    seed: Option<String>,
    /// Only the first N training images.
    #[arg(long, value_name = "N")]
    limit_train: Option<String>,
    /// Only the first N validation images.
    #[arg(long, value_name = "N")]
    limit_val: Option<String>,
    /// Any key of the recipe, such as optimizer.learning_rate=0.05; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl RecipeArguments {
    /// What the arguments change in the recipe. A flag wins over `--set`.
    pub fn overrides(&self) -> Result<Overrides, RecipeError> {
        let mut overrides = Overrides::new();
        for assignment in &self.set {
            overrides.set(assignment)?;
        }
        let flags = [
            ("--dataset", &self.dataset),
            ("--epochs", &self.epochs),
            ("--batch-size", &self.batch_size),
            ("--precision", &self.precision),
            ("--device", &self.device),
            ("--threads", &self.threads),
            ("--seed", &self.seed),
            ("--limit-train", &self.limit_train),
            ("--limit-val", &self.limit_val),
        ];
        for (flag, text) in flags {
            if let Some(text) = text {
                overrides.flag(flag, text)?;
            }
        }
        Ok(overrides)
    }

    /// The name or file of the recipe.
    pub fn source(&self) -> &str {
        self.recipe.as_deref().unwrap_or("d2l")
    }
}
