//! The resolved recipe as types: what a training run reads. The rules for its values are in
//! `keys` (each key alone) and `validate` (keys together).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Everything that decides a training run, resolved: no key is left open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The network.
    pub model: ModelRecipe,
    /// The images.
    pub data: DataRecipe,
    /// How gradients change the weights.
    pub optimizer: OptimizerRecipe,
    /// How the learning rate changes over the run.
    pub schedule: ScheduleRecipe,
    /// What is minimised.
    pub loss: LossRecipe,
    /// Length, batch, seed, machine.
    pub run: RunRecipe,
}

/// Section `[model]`: a Vision Transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecipe {
    /// The preset that the other keys started from, if one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Height and width of the images, in pixels.
    pub image_size: Size,
    /// Height and width of a patch, in pixels.
    pub patch_size: Size,
    /// Channels of an image; a single one is repeated if more are asked for.
    pub channels: usize,
    /// Number of classes.
    pub classes: usize,
    /// Length of a token, `D`.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads in each block.
    pub heads: usize,
    /// Length of the hidden layer of a block's MLP.
    pub mlp_width: usize,
    /// Dropout after both linear maps of the MLP.
    pub dropout: f64,
    /// Dropout on the attention weights.
    pub attention_dropout: f64,
    /// Dropout after the positions are added.
    pub embedding_dropout: f64,
    /// Biases in the query, key and value projections.
    pub qkv_bias: bool,
    /// A bias in the attention's output projection.
    pub projection_bias: bool,
    /// What the head reads.
    pub pool: Pool,
    /// The form of GELU.
    pub gelu: Gelu,
    /// Added to the variance in layer norm.
    pub layer_norm_eps: f64,
    /// Whose initial weights.
    pub init: Init,
    /// Skip what the head does not read in the last block (the result is the same).
    pub last_block_saving: bool,
    /// Run the blocks again in backward, to save memory (the result is the same).
    pub recompute: bool,
}

/// Section `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// Which images.
    pub dataset: Dataset,
    /// Use only the first so many training images; 0 for all.
    pub limit_train: usize,
    /// Use only the first so many validation images; 0 for all.
    pub limit_val: usize,
    /// Threads that prepare batches; 0 for the training thread itself.
    pub workers: usize,
    /// Batches that are kept ready ahead of the training loop.
    pub prefetch: usize,
}

/// Section `[optimizer]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerRecipe {
    /// Which optimizer.
    pub kind: OptimizerKind,
    /// The learning rate that the schedule starts from (after warm-up).
    pub learning_rate: f64,
    /// Momentum of SGD; 0 for none.
    pub momentum: f64,
    /// Nesterov's form of momentum.
    pub nesterov: bool,
    /// Weight decay: L2 for SGD, decoupled for AdamW.
    pub weight_decay: f64,
    /// AdamW: decay of the first moment.
    pub beta1: f64,
    /// AdamW: decay of the second moment.
    pub beta2: f64,
    /// AdamW: added to the root of the second moment.
    pub eps: f64,
    /// Longest gradient norm that is let through; 0 for no clipping.
    pub clip_norm: f64,
    /// Batches whose gradients are added up for one step.
    pub accumulation: usize,
}

/// Section `[schedule]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleRecipe {
    /// The form of the schedule.
    pub kind: ScheduleKind,
    /// Optimizer steps of linear warm-up; 0 for none.
    pub warmup_steps: u64,
    /// Epochs of linear warm-up; 0 for none.
    pub warmup_epochs: usize,
    /// `step`: epochs from one reduction to the next.
    pub step_epochs: usize,
    /// `step`: what each reduction multiplies the learning rate by.
    pub gamma: f64,
    /// `cosine`: the learning rate at the end.
    pub final_learning_rate: f64,
}

/// Section `[loss]`: cross-entropy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossRecipe {
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f64,
}

/// Section `[run]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecipe {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images in a batch.
    pub batch_size: usize,
    /// Decides initial weights, sample order, augmentation and dropout.
    pub seed: u64,
    /// The number type of the forward and backward pass.
    pub precision: Precision,
    /// Where the model runs.
    pub device: Device,
    /// CPU threads; 0 for all.
    pub threads: usize,
    /// Optimizer steps from one checkpoint to the next, beside the one after each epoch; 0 for
    /// none but that one.
    pub checkpoint_every: u64,
    /// Steps from one reading of the loss to the next.
    pub log_every: u64,
}

macro_rules! choices {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// The names in a recipe, in order of declaration.
            pub const NAMES: &'static [&'static str] = &[$($text),+];

            /// The name in a recipe.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

choices! {
    /// What the head reads.
    Pool {
        /// The class token.
        ClassToken = "class-token",
        /// The mean of the patch tokens.
        Mean = "mean",
    }
}

choices! {
    /// The form of GELU.
    Gelu {
        /// Exact, with the error function.
        Erf = "erf",
        /// The approximation with tanh.
        Tanh = "tanh",
    }
}

choices! {
    /// Whose initial weights.
    Init {
        /// PyTorch's: U(−1/√in, 1/√in); positions N(0, 1).
        Torch = "torch",
        /// Flax's: lecun-normal, zero biases; positions N(0, 0.01²).
        Flax = "flax",
    }
}

choices! {
    /// Data sets.
    Dataset {
        /// Fashion-MNIST.
        FashionMnist = "fashion-mnist",
        /// MNIST.
        Mnist = "mnist",
    }
}

choices! {
    /// Optimizers.
    OptimizerKind {
        /// Stochastic gradient descent.
        Sgd = "sgd",
        /// Adam with decoupled weight decay.
        AdamW = "adamw",
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

impl Dataset {
    /// Number of classes.
    pub fn classes(self) -> usize {
        match self {
            Self::FashionMnist | Self::Mnist => 10,
        }
    }
}

/// Height and width in pixels. In a recipe: one number for a square, or `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Size {
    /// A square.
    pub fn square(side: usize) -> Self {
        Self { height: side, width: side }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.height == self.width {
            write!(f, "{}", self.height)
        } else {
            write!(f, "[{}, {}]", self.height, self.width)
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.height == self.width {
            self.height.serialize(serializer)
        } else {
            [self.height, self.width].serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Square(usize),
            Pair([usize; 2]),
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Square(side) => Self::square(side),
            Form::Pair([height, width]) => Self { height, width },
        })
    }
}

/// Where the model runs. In a recipe: `"cpu"` or `"cuda:N"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Device {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_name(&name)
            .ok_or_else(|| serde::de::Error::custom(format!("no device is called {name:?}")))
    }
}
