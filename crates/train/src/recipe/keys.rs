//! The table of all recipe keys: allowed values, default, flag and meaning of each, and the check
//! of one value. What two keys mean together is in `validate`.

use toml::Value;

use super::error::RecipeError;
use super::presets;
use super::schema::{Dataset, Device, Gelu, Init, OptimizerKind, Pool, Precision, ScheduleKind};

/// One key of a recipe.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Section and name, such as `model.heads`.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What holds if no recipe states it.
    pub default: Fallback,
    /// The command-line flag that sets it, if it has its own.
    pub flag: Option<&'static str>,
    /// What it means.
    pub about: &'static str,
    /// Names that others give it; they serve suggestions only.
    pub aliases: &'static [&'static str],
}

/// What holds if no recipe states a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fallback {
    /// It must be stated, by the recipe, its base or its preset.
    Required,
    /// It stays open.
    Open,
    /// This value, written as in TOML.
    Toml(&'static str),
}

/// What values a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole number from the first to the second, both included.
    Integer(i64, i64),
    /// A number in a range.
    Number(Range),
    /// `true` or `false`.
    Bool,
    /// One of these names.
    Choice(&'static [&'static str]),
    /// One length in pixels, or `[height, width]`, each from 1 to this.
    Size(i64),
    /// The name of a model preset.
    Preset,
    /// The name of a device.
    Device,
}

/// A range of numbers.
#[derive(Clone, Copy, Debug)]
pub enum Range {
    /// From the first to the second, both included.
    Closed(f64, f64),
    /// Over the first and up to the second, which is included.
    Above(f64, f64),
    /// From the first, which is included, to below the second.
    Below(f64, f64),
    /// Between the two, neither included.
    Open(f64, f64),
}

impl Range {
    fn contains(self, x: f64) -> bool {
        match self {
            Self::Closed(low, high) => low <= x && x <= high,
            Self::Above(low, high) => low < x && x <= high,
            Self::Below(low, high) => low <= x && x < high,
            Self::Open(low, high) => low < x && x < high,
        }
    }

    fn words(self) -> String {
        match self {
            Self::Closed(low, high) => format!("a number from {low} to {high}"),
            Self::Above(low, high) => format!("a number over {low}, up to {high}"),
            Self::Below(low, high) => format!("a number from {low} to below {high}"),
            Self::Open(low, high) => format!("a number over {low} and below {high}"),
        }
    }
}

impl Kind {
    /// What values are allowed, in words that follow "it must be".
    pub fn allowed(self) -> String {
        match self {
            Self::Integer(low, high) => format!("a whole number from {low} to {high}"),
            Self::Number(range) => range.words(),
            Self::Bool => "true or false".into(),
            Self::Choice(names) => one_of(names),
            Self::Size(high) => {
                format!("a whole number from 1 to {high}, or a pair [height, width] of such")
            }
            Self::Preset => one_of(&presets::NAMES),
            Self::Device => "\"cpu\", or \"cuda:0\" (or another number)".into(),
        }
    }

    /// The value in its own type (a whole number becomes a float where a number is meant), or
    /// `None` if it is not allowed.
    pub(super) fn accept(self, value: &Value) -> Option<Value> {
        let whole = |value: &Value, low: i64, high: i64| {
            value.as_integer().is_some_and(|number| low <= number && number <= high)
        };
        let allowed = match self {
            Self::Integer(low, high) => whole(value, low, high),
            Self::Number(range) => {
                let number = match value {
                    Value::Float(number) => *number,
                    Value::Integer(number) => *number as f64,
                    _ => return None,
                };
                return range.contains(number).then_some(Value::Float(number));
            }
            Self::Bool => value.is_bool(),
            Self::Choice(names) => value.as_str().is_some_and(|name| names.contains(&name)),
            Self::Size(high) => match value {
                Value::Array(pair) => {
                    pair.len() == 2 && pair.iter().all(|side| whole(side, 1, high))
                }
                side => whole(side, 1, high),
            },
            Self::Preset => value.as_str().is_some_and(|name| presets::NAMES.contains(&name)),
            Self::Device => value.as_str().is_some_and(|name| Device::from_name(name).is_some()),
        };
        allowed.then(|| value.clone())
    }

    /// Whether the value is a name, which a command line gives without quotes.
    pub(super) fn is_name(self) -> bool {
        matches!(self, Self::Choice(_) | Self::Preset | Self::Device)
    }
}

fn one_of(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

impl Key {
    /// The section's name.
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// The name within the section.
    pub fn leaf(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, leaf)| leaf)
    }

    /// Checks a value of this key. `origin` says where it was given.
    pub(super) fn check(&self, value: &Value, origin: &str) -> Result<Value, RecipeError> {
        let refused = || RecipeError::value(origin, self.name, value, self.kind.allowed());
        self.kind.accept(value).ok_or_else(refused)
    }
}

/// All sections, in the order in which a resolved recipe has them.
pub const SECTIONS: [&str; 6] = ["model", "data", "optimizer", "schedule", "loss", "run"];

/// The key of this dotted name.
pub fn find_key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

const SHARE: Kind = Number(Range::Below(0.0, 1.0));
const MANY: i64 = 1_000_000_000;

const fn key(name: &'static str, kind: Kind, default: Fallback, about: &'static str) -> Key {
    Key { name, kind, default, flag: None, about, aliases: &[] }
}

impl Key {
    const fn flag(self, flag: &'static str) -> Self {
        Self { flag: Some(flag), ..self }
    }

    const fn also(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }
}

use self::Fallback::{Open, Required, Toml};
use self::Kind::{Bool, Choice, Integer, Number};

/// Every key that a recipe may have, in the order in which a resolved recipe has them.
#[rustfmt::skip]
pub static KEYS: &[Key] = &[
    key("model.preset", Kind::Preset, Open, "a named model; keys beside it override it")
        .also(&["name", "variant", "arch"]),
    key("model.image_size", Kind::Size(4096), Required, "height and width that images are resized to")
        .also(&["img_size", "resolution"]),
    key("model.patch_size", Kind::Size(4096), Required, "height and width of a patch").also(&["patch"]),
    key("model.channels", Integer(1, 1024), Toml("1"), "channels of an image; a single one is repeated if more are asked for").also(&["in_chans"]),
    key("model.classes", Integer(2, 1_000_000), Toml("10"), "number of classes")
        .also(&["num_classes", "n_classes"]),
    key("model.width", Integer(1, 65_536), Required, "length of a token, D")
        .also(&["dim", "embed_dim", "hidden_size", "num_hiddens", "d_model"]),
    key("model.depth", Integer(1, 1024), Required, "number of blocks")
        .also(&["blocks", "layers", "num_layers", "num_blks"]),
    key("model.heads", Integer(1, 65_536), Required, "attention heads; they divide the width")
        .also(&["num_heads", "n_heads"]),
    key("model.mlp_width", Integer(1, 262_144), Required, "length of the MLP's hidden layer")
        .also(&["mlp_dim", "mlp_hidden", "mlp_num_hiddens"]),
    key("model.dropout", SHARE, Toml("0.0"), "dropout after both linear maps of the MLP")
        .also(&["mlp_dropout", "blk_dropout", "drop_rate", "proj_drop"]),
    key("model.attention_dropout", SHARE, Toml("0.0"), "dropout on the attention weights")
        .also(&["attn_drop", "attn_dropout"]),
    key("model.embedding_dropout", SHARE, Toml("0.0"), "dropout after the positions are added")
        .also(&["emb_dropout", "pos_drop", "position_dropout"]),
    key("model.qkv_bias", Bool, Toml("true"), "biases of the query, key and value projections")
        .also(&["use_bias", "bias"]),
    key("model.projection_bias", Bool, Toml("true"), "bias of the attention's output projection")
        .also(&["proj_bias"]),
    key("model.pool", Choice(Pool::NAMES), Toml("\"class-token\""), "what the head reads")
        .also(&["pooling", "global_pool"]),
    key("model.gelu", Choice(Gelu::NAMES), Toml("\"erf\""), "the form of GELU").also(&["activation"]),
    key("model.layer_norm_eps", Number(Range::Open(0.0, 1.0)), Toml("1e-6"), "added to the variance in layer norm"),
    key("model.init", Choice(Init::NAMES), Toml("\"torch\""), "whose initial weights").also(&["weight_init"]),
    key("model.last_block_saving", Bool, Toml("true"),
        "skip what the head does not read in the last block; the result is the same"),
    key("model.recompute", Bool, Toml("false"),
        "run the blocks again in backward, to save memory; the result is the same").also(&["activation_checkpointing"]),

    key("data.dataset", Choice(Dataset::NAMES), Required, "which images").flag("--dataset").also(&["name"]),
    key("data.limit_train", Integer(0, MANY), Toml("0"), "use only the first so many training images; 0 for all")
        .flag("--limit-train"),
    key("data.limit_val", Integer(0, MANY), Toml("0"), "use only the first so many validation images; 0 for all")
        .flag("--limit-val"),
    key("data.workers", Integer(0, 1024), Toml("1"), "threads that prepare batches; 0 for the training thread itself").also(&["num_workers"]),
    key("data.prefetch", Integer(1, 1024), Toml("2"), "batches kept ready ahead of the training loop")
        .also(&["prefetch_factor"]),

    key("optimizer.kind", Choice(OptimizerKind::NAMES), Required, "which optimizer")
        .also(&["name", "type", "opt"]),
    key("optimizer.learning_rate", Number(Range::Above(0.0, 1000.0)), Required, "the learning rate after warm-up")
        .also(&["lr"]),
    key("optimizer.momentum", SHARE, Toml("0.0"), "momentum of sgd; 0 for none"),
    key("optimizer.nesterov", Bool, Toml("false"), "Nesterov's form of momentum"),
    key("optimizer.weight_decay", Number(Range::Closed(0.0, 100.0)), Toml("0.0"),
        "L2 for sgd, decoupled for adamw; 0 for none").also(&["wd", "decay"]),
    key("optimizer.beta1", SHARE, Toml("0.9"), "adamw: decay of the first moment"),
    key("optimizer.beta2", SHARE, Toml("0.999"), "adamw: decay of the second moment"),
    key("optimizer.eps", Number(Range::Open(0.0, 1.0)), Toml("1e-8"),
        "adamw: added to the root of the second moment").also(&["epsilon"]),
    key("optimizer.clip_norm", Number(Range::Closed(0.0, 1e9)), Toml("0.0"),
        "longest gradient norm that is let through; 0 for no clipping")
        .also(&["grad_clip", "clip_grad", "max_norm"]),
    key("optimizer.accumulation", Integer(1, 1_000_000), Toml("1"),
        "batches whose gradients make one step").also(&["grad_accum", "accumulate"]),

    key("schedule.kind", Choice(ScheduleKind::NAMES), Toml("\"constant\""), "form of the learning-rate schedule")
        .also(&["name", "type"]),
    key("schedule.warmup_steps", Integer(0, MANY), Toml("0"), "optimizer steps of linear warm-up; 0 for none")
        .also(&["warmup"]),
    key("schedule.warmup_epochs", Integer(0, 1_000_000), Toml("0"), "epochs of linear warm-up; 0 for none"),
    key("schedule.step_epochs", Integer(0, 1_000_000), Toml("0"), "step: epochs from one reduction to the next")
        .also(&["step_size", "decay_epochs"]),
    key("schedule.gamma", Number(Range::Above(0.0, 1.0)), Toml("0.1"), "step: what each reduction multiplies by")
        .also(&["decay_rate"]),
    key("schedule.final_learning_rate", Number(Range::Closed(0.0, 1000.0)), Toml("0.0"),
        "cosine: the learning rate at the end").also(&["min_lr", "eta_min", "final_lr"]),

    key("loss.label_smoothing", SHARE, Toml("0.0"), "share of the target that is spread over all classes")
        .also(&["smoothing"]),

    key("run.epochs", Integer(1, 1_000_000), Required, "passes over the training images").flag("--epochs")
        .also(&["max_epochs", "num_epochs"]),
    key("run.batch_size", Integer(1, 1_000_000), Required, "images in a batch").flag("--batch-size")
        .also(&["batch"]),
    key("run.seed", Integer(0, i64::MAX), Toml("0"), "decides weights, sample order and dropout").flag("--seed"),
    key("run.precision", Choice(Precision::NAMES), Toml("\"f32\""), "number type of forward and backward")
        .flag("--precision").also(&["dtype"]),
    key("run.device", Kind::Device, Toml("\"cpu\""), "where the model runs").flag("--device"),
    key("run.threads", Integer(0, 1024), Toml("0"), "CPU threads; 0 for all").flag("--threads")
        .also(&["num_threads"]),
    key("run.checkpoint_every", Integer(0, MANY), Toml("0"),
        "optimizer steps between checkpoints within an epoch; 0 for one after each epoch only"),
    key("run.log_every", Integer(1, MANY), Toml("10"), "steps from one reading of the loss to the next")
        .also(&["log_interval"]),
];
