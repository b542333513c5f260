//! The sections of a recipe beside `[model]` and `[objective]`: how a run goes, whatever is trained. What keys mean
//! together is in `validate`.

use std::fmt;

use serde::{Deserialize, Serialize};
use vitrine_data::augment::{EraseMode, MixupMode, Policy, RandomCrop};
use vitrine_data::{CropMode, Interpolation, Source};
use vitrine_nn::settings::{Fallback, Key, Kind, Range, SettingError};
use vitrine_nn::{choices, settings};

use crate::objective::ObjectiveRecipe;

/// How a model is trained: all of a recipe but the model and the objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// The images.
    pub data: DataRecipe,
    /// How training images are changed at random.
    pub augment: AugmentRecipe,
    /// How gradients change the weights.
    pub optimizer: OptimizerRecipe,
    /// How the learning rate changes over the run.
    pub schedule: ScheduleRecipe,
    /// Length, batch, seed, machine.
    pub run: RunRecipe,
}

/// All sections, in the order in which a resolved recipe has them.
pub const SECTIONS: [&str; 7] =
    ["model", "data", "augment", "optimizer", "schedule", "objective", "run"];

/// Every key that a recipe may have, in the order in which a resolved recipe has them.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    let sections = [
        DataRecipe::KEYS,
        AugmentRecipe::KEYS,
        OptimizerRecipe::KEYS,
        ScheduleRecipe::KEYS,
        ObjectiveRecipe::KEYS,
        RunRecipe::KEYS,
    ];
    vitrine_models::keys().chain(sections.into_iter().flatten())
}

/// A value of a key, checked; of a key that several families of models have, by any of theirs.
pub(crate) fn check_value(
    key: &'static Key,
    value: &toml::Value,
    origin: &str,
) -> Result<toml::Value, SettingError> {
    let others = keys().filter(|other| other.name == key.name);
    let found = others.map(|key| key.check(value, origin));
    let mut refused: Vec<String> = Vec::new();
    for checked in found {
        match checked {
            Err(SettingError::Value { allowed, .. }) if !refused.contains(&allowed) => {
                refused.push(allowed);
            }
            Err(SettingError::Value { .. }) => {}
            other => return other,
        }
    }
    Err(SettingError::value(origin, key.name, value, refused.join(", or ")))
}

/// The key of this dotted name; the first family's, where several have it.
pub fn find_key(name: &str) -> Option<&'static Key> {
    // What the section was called before.
    let objective = name.strip_prefix("loss.").map(|leaf| format!("objective.{leaf}"));
    let name = objective.as_deref().unwrap_or(name);
    keys().find(|key| key.name == name)
}

choices! {
    /// Optimizers.
    OptimizerKind {
        /// Stochastic gradient descent.
        Sgd = "sgd",
        /// Adam with decoupled weight decay.
        AdamW = "adamw",
        /// AdamW whose averaged weights need no schedule.
        ScheduleFreeAdamW = "schedule-free-adamw",
        /// Momentum whose matrices are made orthogonal.
        Muon = "muon",
        /// Adam in the eigenbases of Shampoo's statistics.
        Soap = "soap",
    }
}

choices! {
    /// Forms of the learning-rate schedule.
    ScheduleKind {
        /// The same all the time.
        Constant = "constant",
        /// Multiplied by `gamma` every `step_epochs`.
        Step = "step",
        /// Half a cosine from the learning rate down to `final_learning_rate`.
        Cosine = "cosine",
        /// A line from the learning rate down to `final_learning_rate`.
        Linear = "linear",
    }
}

choices! {
    /// Number type of the forward and backward pass.
    Precision {
        /// 32-bit floats.
        F32 = "f32",
        /// bfloat16, with 32-bit weights in the optimizer.
        Bf16 = "bf16",
    }
}

use Fallback::{Open, Required, Toml};
use Kind::{Bool, Choice, Integer, Integers, Name, Number, Pair, Text, Texts};

pub(crate) const SHARE: Kind = Number(Range::Below(0.0, 1.0));
const POLICIES: &str = "\"none\", \"3a\", or \"rand\" with any of -m9 (magnitude), -mstd0.5, -mmax10, -n2 (operations), -p0.5 and -inc1";
const PATH: Kind = Text("a path", |path| !path.is_empty());
const MANY: i64 = 1_000_000_000;

settings! {
    /// Section `[data]`.
    DataRecipe in "data" {
        /// which images; none where they come from a program of your own
        dataset: Option<String> = Name(|| Source::all().into_iter().map(Source::name).collect()), Open,
            flag "--dataset", also ["name"];
        /// folder with the images: class folders, tar shards, or a data set's own files
        dir: Option<String> = PATH, Open, flag "--data", also ["data_dir", "root", "path"];
        /// only these classes, in this order
        classes: Option<Vec<String>> = Texts, Open, also ["class_map"];
        /// share or number of training images that are held out for validation; 0 for none
        holdout: Option<f64> = Number(Range::Closed(0.0, 1e9)), Open, also ["val_split"];
        /// use only so many training images; 0 for all
        limit_train: usize = Integer(0, MANY), Toml("0"), flag "--limit-train";
        /// use only so many validation images, and test images; 0 for all
        limit_val: usize = Integer(0, MANY), Toml("0"), flag "--limit-val";
        /// how images of another shape than the model's are fitted: distorted, or the middle cut out
        crop_mode: CropMode = Choice(CropMode::NAMES), Toml("\"squash\"");
        /// share of the resized image's shorter side that the model sees
        crop_pct: f64 = Number(Range::Closed(0.01, 1.0)), Toml("1.0");
        /// filter of the resize
        interpolation: Interpolation = Choice(Interpolation::NAMES), Toml("\"bilinear\"");
        /// threads that prepare batches; 0 for the training thread itself
        workers: usize = Integer(0, 1024), Toml("1"), also ["num_workers"];
        /// batches kept ready ahead of the training loop
        prefetch: usize = Integer(1, 1024), Toml("2"), also ["prefetch_factor"];
        /// MiB of decoded images that are kept in memory
        cache: u64 = Integer(0, MANY), Toml("1024");
        /// most pixels of a picture file; a larger one is refused
        max_pixels: u64 = Integer(1, 1_000_000_000_000), Toml("89478485");
        /// images that may fail to be read and are passed over; one more stops the run
        max_broken: usize = Integer(0, MANY), Toml("0");
    }
}

settings! {
    /// Section `[augment]`. Names and meanings are timm's.
    AugmentRecipe in "augment" {
        /// heights of the training images over the run, each for an equal part of the epochs, and widths in proportion;
        /// evaluation has the model's own size
        image_sizes: Option<Vec<usize>> = Integers(1, 4096), Open, also ["progressive", "progressive_resizing"];
        /// part of the image: that of evaluation, a random one resized, or a random one of the image with a border
        crop: RandomCrop = Choice(RandomCrop::NAMES), Toml("\"none\""), also ["train_crop_mode"];
        /// rrc: share of the area
        scale: [f64; 2] = Pair(Range::Above(0.0, 1.0)), Toml("[0.08, 1.0]");
        /// rrc: ratio of width to height
        ratio: [f64; 2] = Pair(Range::Above(0.0, 100.0)), Toml("[0.75, 1.3333333333333333]");
        /// pad: black pixels on each side
        padding: usize = Integer(0, 4096), Toml("4");
        /// probability of exchanging left and right
        hflip: f64 = Number(Range::Closed(0.0, 1.0)), Toml("0.0");
        /// probability of exchanging top and bottom
        vflip: f64 = Number(Range::Closed(0.0, 1.0)), Toml("0.0");
        /// how far brightness, contrast and saturation change
        color_jitter: f64 = Number(Range::Closed(0.0, 10.0)), Toml("0.0"), also ["jitter"];
        /// how far the hue changes, of 1 for all the way round
        hue: f64 = Number(Range::Closed(0.0, 0.5)), Toml("0.0");
        /// RandAugment or 3-Augment, by timm's strings
        auto_augment: String = Text(POLICIES, |text| text == "none" || text.parse::<Policy>().is_ok()),
            Toml("\"none\""), also ["aa"];
        /// probability of erasing a rectangle
        reprob: f64 = Number(Range::Closed(0.0, 1.0)), Toml("0.0");
        /// what erased pixels become
        remode: EraseMode = Choice(EraseMode::NAMES), Toml("\"const\"");
        /// alpha of mixup, which blends images and targets in pairs; 0 for none
        mixup: f64 = Number(Range::Closed(0.0, 1e3)), Toml("0.0"), also ["mixup_alpha"];
        /// alpha of CutMix, which exchanges a rectangle of two images, and as much of their targets; 0 for none
        cutmix: f64 = Number(Range::Closed(0.0, 1e3)), Toml("0.0"), also ["cutmix_alpha"];
        /// probability of mixing at all
        mixup_prob: f64 = Number(Range::Closed(0.0, 1.0)), Toml("1.0");
        /// probability of CutMix where there is mixup too
        mixup_switch_prob: f64 = Number(Range::Closed(0.0, 1.0)), Toml("0.5");
        /// what is mixed in the same way: all of a batch, or two images
        mixup_mode: MixupMode = Choice(MixupMode::NAMES), Toml("\"batch\"");
    }
}

settings! {
    /// Section `[optimizer]`.
    OptimizerRecipe in "optimizer" {
        /// which optimizer
        kind: OptimizerKind = Choice(OptimizerKind::NAMES), Required, also ["name", "type", "opt"];
        /// the learning rate after warm-up
        learning_rate: f64 = Number(Range::Above(0.0, 1000.0)), Required, also ["lr"];
        /// momentum of sgd, 0 for none, and of muon, 0.95 as a rule
        momentum: f64 = SHARE, Toml("0.0");
        /// Nesterov's form of momentum
        nesterov: bool = Bool, Toml("false");
        /// L2 for sgd, decoupled for the others; 0 for none
        weight_decay: f64 = Number(Range::Closed(0.0, 100.0)), Toml("0.0"), also ["wd", "decay"];
        /// all but sgd: decay of the first moment; with muon, of what is no matrix; of the mean in schedule-free-adamw
        beta1: f64 = SHARE, Toml("0.9");
        /// all but sgd: decay of the second moment; with soap, of its statistics too
        beta2: f64 = SHARE, Toml("0.999");
        /// all but sgd: added to the root of the second moment
        eps: f64 = Number(Range::Open(0.0, 1.0)), Toml("1e-8"), also ["epsilon"];
        /// soap: steps from one pair of bases to the next
        precondition_frequency: u64 = Integer(1, 1_000_000), Toml("10");
        /// soap: longer sides of a matrix get no basis
        max_precond_dim: usize = Integer(1, 1_000_000), Toml("10000");
        /// share of the weights' average that a step keeps; 0 for no average
        model_ema_decay: f64 = SHARE, Toml("0.0"), also ["ema_decay", "ema", "model_ema"];
        /// a smaller share at first: after step t no more than 1 − t^(−2/3)
        model_ema_warmup: bool = Bool, Toml("false"), also ["ema_warmup"];
        /// longest gradient norm that is let through; 0 for no clipping
        clip_norm: f64 = Number(Range::Closed(0.0, 1e9)), Toml("0.0"), also ["grad_clip", "clip_grad", "max_norm"];
        /// factor of the learning rate from each layer to the one before it
        layer_decay: f64 = Number(Range::Above(0.0, 1.0)), Toml("1.0"), flag "--layer-decay";
        /// factor of the learning rate of the head
        head_rate_scale: f64 = Number(Range::Closed(0.0, 1e6)), Toml("1.0"), also ["head_lr_scale"];
        /// names of parameters that stay as they are, with * for anything; "backbone" for all but the head
        freeze: Option<Vec<String>> = Texts, Open, flag "--freeze", also ["frozen"];
        /// batches whose gradients make one step
        accumulation: usize = Integer(1, 1_000_000), Toml("1"), also ["grad_accum", "accumulate"];
    }
}

settings! {
    /// Section `[schedule]`.
    ScheduleRecipe in "schedule" {
        /// form of the learning-rate schedule
        kind: ScheduleKind = Choice(ScheduleKind::NAMES), Toml("\"constant\""), also ["name", "type"];
        /// optimizer steps of linear warm-up; 0 for none
        warmup_steps: u64 = Integer(0, MANY), Toml("0"), also ["warmup"];
        /// epochs of linear warm-up; 0 for none
        warmup_epochs: usize = Integer(0, 1_000_000), Toml("0");
        /// the learning rate that warm-up begins from; without it, warm-up's first step has its even share
        warmup_learning_rate: Option<f64> = Number(Range::Closed(0.0, 1000.0)), Open, also ["warmup_lr"];
        /// step: epochs from one reduction to the next
        step_epochs: usize = Integer(0, 1_000_000), Toml("0"), also ["step_size", "decay_epochs"];
        /// step: what each reduction multiplies by
        gamma: f64 = Number(Range::Above(0.0, 1.0)), Toml("0.1"), also ["decay_rate"];
        /// cosine, linear: epochs at the end that keep the final learning rate
        cooldown_epochs: usize = Integer(0, 1_000_000), Toml("0");
        /// cosine, linear: the learning rate at the end
        final_learning_rate: f64 = Number(Range::Closed(0.0, 1000.0)), Toml("0.0"),
            also ["min_lr", "eta_min", "final_lr"];
    }
}

settings! {
    /// Section `[run]`.
    RunRecipe in "run" {
        /// passes over the training images
        epochs: usize = Integer(1, 1_000_000), Required, flag "--epochs", also ["max_epochs", "num_epochs"];
        /// epochs without a better one after which the run ends early; 0 for none
        patience: usize = Integer(0, 1_000_000), Toml("0"), also ["early_stopping", "patience_epochs"];
        /// images in a batch
        batch_size: usize = Integer(1, 1_000_000), Required, flag "--batch-size", also ["batch"];
        /// decides weights, sample order and dropout
        seed: u64 = Integer(0, i64::MAX), Toml("0"), flag "--seed";
        /// number type of forward and backward
        precision: Precision = Choice(Precision::NAMES), Toml("\"f32\""), flag "--precision", also ["dtype"];
        /// where the model runs
        device: Device = Text("\"cpu\", or \"cuda:0\" (or another number)", |name| Device::from_name(name).is_some()),
            Toml("\"cpu\""), flag "--device";
        /// CPU threads; 0 for all
        threads: usize = Integer(0, 1024), Toml("0"), flag "--threads", also ["num_threads"];
        /// optimizer steps between checkpoints within an epoch; 0 for one after each epoch only
        checkpoint_every: u64 = Integer(0, MANY), Toml("0");
        /// checkpoints of the best epochs that are kept in `checkpoints`, beside the best and the last; 0 for none
        checkpoint_hist: usize = Integer(0, 1_000_000), Toml("0"), also ["save_top_k"];
        /// weights to begin with: a safetensors file with timm's names
        initial_weights: Option<String> = PATH, Open, also ["initial_checkpoint", "weights"];
        /// steps from one reading of the loss to the next
        log_every: u64 = Integer(1, MANY), Toml("10"), also ["log_interval"];
    }
}

/// Where the model runs. In a recipe: `"cpu"` or `"cuda:N"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The CUDA device of this number.
    Cuda(u32),
}

impl Device {
    /// Reads a device's name; `None` if there is no such device name.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "cpu" {
            return Some(Self::Cpu);
        }
        let number = name.strip_prefix("cuda:")?;
        let plain = number.bytes().all(|byte| byte.is_ascii_digit());
        if plain { number.parse().ok().map(Self::Cuda) } else { None }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::from_name(&name).ok_or_else(|| format!("no device is called {name:?}"))
    }
}
