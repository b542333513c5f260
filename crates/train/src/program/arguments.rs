//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use vitrine_data::DatasetName;
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
    /// Judges a model on the validation images: loss, top-1, top-5, figures of each class, confusion matrix.
    Eval(EvalArguments),
    /// Classifies image files.
    Predict(PredictArguments),
    /// Times train steps or forward passes on made-up images.
    Bench(BenchArguments),
    /// Finds or fetches a data set, checks its files, and prints its folder.
    Data(DataArguments),
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

#[derive(Args)]
pub struct EvalArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// Folder with the data set's files; without it: $VITRINE_DATA, the user's cache, /usr/share/datasets, or fetched.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Prints one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct PredictArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// Image files (PNG, JPEG, BMP or WebP); - for one on the standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How many classes to print, the likeliest first.
    #[arg(long, value_name = "K", default_value = "5")]
    pub top: NonZeroUsize,
    /// Prints one JSON object for each image, each on its line.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct BenchArguments {
    /// What is timed.
    #[arg(value_enum)]
    pub work: Work,
    #[command(flatten)]
    pub recipe: RecipeArguments,
    /// Steps that are timed.
    #[arg(long, value_name = "N", default_value = "20")]
    pub steps: NonZeroUsize,
    /// Steps before them that are not.
    #[arg(long, value_name = "N", default_value = "2")]
    pub warmup: usize,
    /// Classes of the model, whatever the data set has: the images are made up.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub classes: Option<u32>,
    /// Prints what each kernel of a CUDA device does in a step, in place of the line.
    #[arg(long, value_enum, value_name = "HOW")]
    pub kernels: Option<Kernels>,
    /// Prints one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// How kernels are looked at.
#[derive(Clone, Copy, ValueEnum)]
pub enum Kernels {
    /// Runs them and takes their times.
    Timed,
    /// Counts launches, bytes and operations without running them: quick on the emulated device.
    Counted,
}

/// What `vitrine bench` times.
#[derive(Clone, Copy, ValueEnum)]
pub enum Work {
    /// Upload, forward, loss, backward, optimizer.
    TrainStep,
    /// Upload and forward, without dropout and gradients.
    Forward,
}

#[derive(Args)]
pub struct DataArguments {
    /// The data set: fashion-mnist or mnist.
    #[arg(long, value_name = "NAME", default_value_t = DatasetName::FashionMnist)]
    pub dataset: DatasetName,
    /// Folder with the data set's files; without it: $VITRINE_DATA, the user's cache, /usr/share/datasets, or fetched.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Fetches nothing: fails unless the data set is on this machine, whole and as published.
    #[arg(long)]
    pub check: bool,
}

/// A trained model: a run, or weights and their recipe.
#[derive(Args)]
pub struct ModelArguments {
    #[command(flatten)]
    pub source: ModelSource,
    /// Which of the run's checkpoints [default: best if there is one, else last].
    #[arg(long, value_enum, value_name = "NAME", conflicts_with = "weights")]
    pub checkpoint: Option<Checkpoint>,
    #[command(flatten)]
    pub recipe: RecipeArguments,
}

/// Where the weights are.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct ModelSource {
    /// Folder of a training run: its recipe and its weights.
    #[arg(long, value_name = "DIR", conflicts_with = "recipe")]
    pub run: Option<PathBuf>,
    /// A safetensors file with timm's names; the recipe says which model it is for.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
}

/// A checkpoint of a run.
#[derive(Clone, Copy, ValueEnum)]
pub enum Checkpoint {
    /// The one with the best validation accuracy.
    Best,
    /// The one at the end.
    Last,
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
