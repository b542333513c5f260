//! The command line.

use std::num::NonZeroUsize;
use std::path::{self, Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use vitrine_data::Source;
use vitrine_train::bench::Work;
use vitrine_train::build::Part;
use vitrine_train::explain::Method;
use vitrine_train::export::Form;
use vitrine_train::recipe::{Overrides, RecipeError, builtin_names, find_key, keys};

/// Trains vision transformers.
///
/// Exit codes: 0 done; 1 failed; 2 arguments that make no sense; 128 and a signal's number: stopped by it, and saved
/// (130 after Ctrl-C).
#[derive(Parser)]
#[command(name = "vitrine", version, about, long_about)]
pub struct Program {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Trains a model; each epoch's figures, checkpoints and a report go to the run's folder.
    #[command(after_help = "Example: vitrine train --data my-pictures --epochs 20")]
    Train(TrainArguments),
    /// Trains a recipe over values of some keys, and over seeds: one table, one picture.
    #[command(
        after_help = "Example: vitrine sweep --over optimizer.learning_rate=0.05,0.1 --seeds 3 --out runs/rates"
    )]
    Sweep(SweepArguments),
    /// Judges a model on the validation images: loss, top-1, top-5, figures of each class, confusion matrix.
    #[command(after_help = "Example: vitrine eval --run runs/d2l-1732352400 --split test")]
    Eval(EvalArguments),
    /// Classifies image files.
    #[command(after_help = "Example: vitrine predict --run runs/d2l-1732352400 shoe.png")]
    Predict(PredictArguments),
    /// Shows where a model looked: pictures with a map over them.
    #[command(
        after_help = "Example: vitrine explain --run runs/d2l-1732352400 --method rollout shoe.png"
    )]
    Explain(ExplainArguments),
    /// Lists the runs in a folder.
    #[command(after_help = "Example: vitrine runs")]
    Runs(RunsArguments),
    /// Makes a run's page anew, or one that compares several runs.
    #[command(after_help = "Example: vitrine report runs/first runs/second --out both.html")]
    Report(ReportArguments),
    /// Writes a model's weights in the form of timm, transformers or torchvision.
    #[command(
        after_help = "Example: vitrine convert --run runs/d2l-1732352400 --to huggingface --out my-model"
    )]
    Convert(ConvertArguments),
    /// Times train steps or forward passes on made-up images.
    #[command(after_help = "Example: vitrine bench train-step --precision bf16")]
    Bench(BenchArguments),
    /// Prints what a shell needs to complete commands, or the manual page.
    #[command(
        after_help = "Example: vitrine completions bash > ~/.local/share/bash-completion/completions/vitrine"
    )]
    Completions(CompletionsArguments),
    /// Tells what images a folder has: classes, sizes, kinds, broken ones and duplicates; or finds a data set.
    #[command(after_help = "Example: vitrine data my-pictures")]
    Data(DataArguments),
}

#[derive(Args)]
pub struct TrainArguments {
    #[command(flatten)]
    pub recipe: RecipeArguments,
    /// Weights to begin with: a safetensors file, a folder of timm's or transformers', or hf-hub:ORG/NAME; without it:
    /// initial values are drawn.
    #[arg(long, value_name = "WEIGHTS", conflicts_with = "resume")]
    pub weights: Option<String>,
    /// Folder for the run; without it: a new one in runs/.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    pub out: Option<PathBuf>,
    /// Goes on with the run in this folder, from its last checkpoint.
    #[arg(long, value_name = "DIR", conflicts_with = "recipe")]
    pub resume: Option<PathBuf>,
}

#[derive(Args)]
pub struct SweepArguments {
    #[command(flatten)]
    pub recipe: RecipeArguments,
    /// Weights to begin with, as in `train`.
    #[arg(long, value_name = "WEIGHTS")]
    pub weights: Option<String>,
    /// A key with its values: key=a,b or key=[a, b], or a range, key={from=1e-4, to=1e-2, steps=3, scale="log"}; may be
    /// given more than once. Above what the recipe says under sweep.
    #[arg(long, value_name = "KEY=VALUES")]
    pub over: Vec<String>,
    /// Repeats each run with so many seeds, from 0 on.
    #[arg(long, value_name = "N")]
    pub seeds: Option<NonZeroUsize>,
    /// Runs at once, which share the threads.
    #[arg(long, value_name = "N", default_value = "1")]
    pub jobs: NonZeroUsize,
    /// Folder for all runs, results.csv, results.md and results.svg; where it holds runs of this sweep, they go on.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct EvalArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// Which images.
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Part::Val)]
    pub split: Part,
    /// Prints one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct PredictArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// Image files (JPEG, PNG, WebP, BMP or GIF); - for one on the standard input.
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
pub struct ExplainArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// Image files.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How [default: all that the model has].
    #[arg(long, value_enum, value_name = "NAME")]
    pub method: Option<Method>,
    /// The class whose logit is explained, by name or number [default: the likeliest].
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,
    /// Folder for the pictures.
    #[arg(long, value_name = "DIR", default_value = "explained")]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct CompletionsArguments {
    /// For which shell; without one: the manual page.
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Option<Shell>,
}

#[derive(Args)]
pub struct RunsArguments {
    /// The folder that runs are in.
    #[arg(value_name = "DIR", default_value = "runs")]
    pub folder: PathBuf,
}

#[derive(Args)]
pub struct ReportArguments {
    /// Folders of runs.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// File for the page that compares several.
    #[arg(long, value_name = "FILE", default_value = "compare.html")]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct ConvertArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// Whose form.
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Form::Timm)]
    pub to: Form,
    /// Folder for the weights.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Number type of the weights that are written.
    #[arg(long, value_enum, value_name = "NAME", default_value_t = NumberType::F32)]
    pub dtype: NumberType,
}

/// Number types of files.
#[derive(Clone, Copy, ValueEnum)]
pub enum NumberType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats of IEEE 754, up to 65,504.
    F16,
    /// bfloat16.
    Bf16,
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

#[derive(Args)]
pub struct DataArguments {
    /// Folder with class folders, tar shards or a data set's files; without it, the data set is found or fetched, its
    /// files are checked, and their folder is printed.
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// The data set [default: what the folder holds, else fashion-mnist].
    #[arg(long, value_name = "NAME", value_parser = source)]
    pub dataset: Option<Source>,
    /// Folder where the data set's files are looked for, in place of the usual ones.
    #[arg(long, value_name = "DIR", conflicts_with = "folder")]
    pub data: Option<PathBuf>,
    /// Fetches nothing: fails unless the data set is on this machine, whole and as published.
    #[arg(long, conflicts_with = "folder")]
    pub check: bool,
    /// Prints one JSON object.
    #[arg(long)]
    pub json: bool,
}

fn source(name: &str) -> Result<Source, String> {
    Source::of_name(name).ok_or_else(|| {
        let known: Vec<_> = Source::all().into_iter().map(Source::name).collect();
        format!("the data sets are: {}", known.join(", "))
    })
}

/// A trained model: a run, or weights and their recipe.
#[derive(Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["run", "weights"])))]
pub struct ModelArguments {
    /// Folder of a training run: its recipe and its weights.
    #[arg(long, value_name = "DIR", conflicts_with = "recipe")]
    pub run: Option<PathBuf>,
    /// Weights of timm, transformers or torchvision: a safetensors file, a folder, or hf-hub:ORG/NAME. config.json
    /// beside them says which model they are for, else the recipe.
    #[arg(long, value_name = "WEIGHTS")]
    pub weights: Option<String>,
    /// Which of the run's checkpoints [default: best if there is one, else last].
    #[arg(long, value_enum, value_name = "NAME", conflicts_with = "weights")]
    pub checkpoint: Option<Checkpoint>,
    #[command(flatten)]
    pub recipe: RecipeArguments,
}

/// A checkpoint of a run.
#[derive(Clone, Copy, ValueEnum)]
pub enum Checkpoint {
    /// The one with the best validation accuracy.
    Best,
    /// The one at the end.
    Last,
}

/// The recipe, and what overrides it: the flags of the recipe's keys, each with the key's own help.
#[derive(Clone, Debug)]
pub struct RecipeArguments {
    /// A built-in recipe or a .toml file.
    pub recipe: Option<String>,
    /// `--set key=value`, in order.
    pub set: Vec<String>,
    /// Flags and their values.
    flags: Vec<(&'static str, String)>,
}

impl Args for RecipeArguments {
    fn augment_args(command: clap::Command) -> clap::Command {
        let recipe = Arg::new("recipe").long("recipe").value_name("NAME|FILE.toml");
        let names = builtin_names().join(", ");
        let help = format!(
            "A built-in recipe ({names}), or a .toml file [default: d2l; `train` takes scratch-small for a folder of \
             pictures, and finetune with --weights]"
        );
        let set = Arg::new("set").long("set").value_name("KEY=VALUE").action(ArgAction::Append);
        let set = set.help(
            "Any key of the recipe, such as optimizer.learning_rate=0.05; may be given more than once",
        );
        let flags = keys().filter_map(|key| Some((key, key.flag?)));
        flags
            .fold(command.arg(recipe.help(help)), |command, (key, flag)| {
                let about = capitalised(key.about);
                let (name, help) = match key.kind.is_text() {
                    _ if flag == DATA => ("DIR", about),
                    true => ("NAME", format!("{about}: {}", key.kind.allowed())),
                    false => ("N", about),
                };
                command.arg(Arg::new(flag).long(&flag[2..]).value_name(name).help(help))
            })
            .arg(set)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RecipeArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let one = |name: &str| matches.get_one::<String>(name).cloned();
        // A run may be resumed from another folder.
        let whole = |text: String| {
            let whole =
                path::absolute(&text).ok().and_then(|p| p.into_os_string().into_string().ok());
            whole.unwrap_or(text)
        };
        let stated = |flag| Some(if flag == DATA { whole(one(flag)?) } else { one(flag)? });
        let flags = keys().filter_map(|key| Some((key.flag?, stated(key.flag?)?)));
        let set = matches.get_many("set").into_iter().flatten().cloned();
        Ok(Self { recipe: one("recipe"), set: set.collect(), flags: flags.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

const DATA: &str = "--data";
/// What may be another on another machine.
const MACHINE: [&str; 2] = ["--threads", "--device"];

fn is_threads(set: &str) -> bool {
    set.starts_with("run.threads=")
}

/// A help's first letter is a capital one.
fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

impl RecipeArguments {
    /// What is stated, as `--set` and flags have it, but for what depends on the machine.
    pub fn stated(&self) -> Vec<String> {
        let flags = self.flags.iter().filter(|(flag, _)| !MACHINE.contains(flag));
        let flags = flags.map(|(flag, text)| format!("{flag} {text}"));
        flags.chain(self.set.iter().filter(|set| !is_threads(set)).cloned()).collect()
    }

    /// Of these arguments, those that a run may be resumed with on another machine.
    pub fn machine(&self) -> Self {
        let flags = self.flags.iter().filter(|(flag, _)| MACHINE.contains(flag)).cloned();
        let set = self.set.iter().filter(|set| is_threads(set)).cloned();
        Self { recipe: None, set: set.collect(), flags: flags.collect() }
    }

    /// The same with a key's own value, above all others.
    pub fn with(&self, key: &str, value: &str) -> Self {
        let flags = self
            .flags
            .iter()
            .filter(|(flag, _)| find_key(key).is_none_or(|key| key.flag != Some(flag)));
        let set = [self.set.as_slice(), &[format!("{key}={value}")]].concat();
        Self { recipe: self.recipe.clone(), set, flags: flags.cloned().collect() }
    }

    /// What the arguments change in the recipe. A flag wins over `--set`.
    pub fn overrides(&self) -> Result<Overrides, RecipeError> {
        let mut overrides = Overrides::new();
        for assignment in &self.set {
            overrides.set(assignment)?;
        }
        for (flag, text) in &self.flags {
            overrides.flag(flag, text)?;
        }
        Ok(overrides)
    }

    /// The name or file of the recipe, or the one that stands for none.
    pub fn source<'a>(&'a self, default: &'a str) -> &'a str {
        self.recipe.as_deref().unwrap_or(default)
    }

    /// Where the images come from, if the overrides say so, or name a folder that tells. Then they say so, too.
    pub fn detect(overrides: &mut Overrides) -> anyhow::Result<Option<Source>> {
        if let Some(name) = overrides.get("data.dataset") {
            return Ok(name.as_str().and_then(Source::of_name));
        }
        let Some(folder) = overrides.get("data.dir").and_then(|folder| folder.as_str()) else {
            return Ok(None);
        };
        let detected = Source::detect(Path::new(folder))?;
        if let Some(source) = detected {
            overrides.set(&format!("data.dataset={}", source.name()))?;
        }
        Ok(detected)
    }
}
