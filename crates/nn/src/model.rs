//! [`Model`]: all that training, evaluation, prediction and benchmarks know of a model. Models are in `vitrine-models`,
//! and wherever someone writes one.

use toml::Table;
use vitrine_autodiff::Var;

use crate::error::Result;
use crate::pass::Pass;

/// What a model makes of images.
pub struct Output {
    /// `[B, K]`, of the accumulator's type of what is computed in, `f32` for `bf16`.
    pub logits: Var,
    /// `[B, K]`: those of a second head that learns from a teacher (Touvron et al. 2021, section 4), if there is one.
    pub distilled: Option<Var>,
}

impl Output {
    /// `[B, K]`: what the model answers with, the mean of both heads where there are two.
    pub fn prediction(&self) -> Result<Var> {
        match &self.distilled {
            None => Ok(self.logits.clone()),
            Some(distilled) => Ok(self.logits.add(distilled)?.scale(0.5)?),
        }
    }
}

impl From<Var> for Output {
    fn from(logits: Var) -> Self {
        Self { logits, distilled: None }
    }
}

/// The images that a model takes, and the classes that it tells apart.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSpec {
    /// Channels C.
    pub channels: usize,
    /// Height and width, in pixels.
    pub size: (usize, usize),
    /// Subtracted from a channel's values, which are in [0, 1], `[C]`.
    pub mean: Vec<f64>,
    /// What they are then divided by, `[C]`.
    pub std: Vec<f64>,
    /// Classes K.
    pub classes: usize,
}

/// Where the tokens of a model's attention lie in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenGrid {
    /// Tokens before those of the patches.
    pub prefix: usize,
    /// Rows of patches.
    pub rows: usize,
    /// Columns of patches.
    pub columns: usize,
    /// Whether the head reads the first token, and not the patches.
    pub reads_first: bool,
}

/// A classifier of images. It holds the ids of its parameters and no values.
pub trait Model: Send + Sync {
    /// What it takes, and how many classes it tells apart.
    fn input(&self) -> InputSpec;

    /// Images `[B, C, H, W]` to logits `[B, K]`.
    fn forward(&self, pass: &Pass<'_>, images: &Var) -> Result<Output>;

    /// Whether it takes images of this height and width as well, beside its own.
    fn takes(&self, size: (usize, usize)) -> bool {
        size == self.input().size
    }

    /// What decides its shape and options: section `[model]` in the folder of a run, which a resumed run compares.
    fn settings(&self) -> Result<Table>;

    /// The model as features and a head, if it can be run in these two parts.
    fn headed(&self) -> Option<&dyn Headed> {
        None
    }

    /// Where the tokens lie that its attention goes over; `None` where it has none over a whole image.
    fn token_grid(&self) -> Option<TokenGrid> {
        None
    }

    /// What the names of the parameters that tell the classes apart begin with.
    fn head(&self) -> &'static [&'static str] {
        &["head."]
    }

    /// The layer that a parameter counts to, from 0 at the images on: what its learning rate decays by.
    fn layer(&self, _parameter: &str) -> usize {
        0
    }
}

/// A model whose head can be run apart from the rest.
pub trait Headed {
    /// Images `[B, C, H, W]` to what the head reads, `[B, F]`.
    fn features(&self, pass: &Pass<'_>, images: &Var) -> Result<Var>;

    /// Features `[B, F]` to logits.
    fn classify(&self, pass: &Pass<'_>, features: &Var) -> Result<Output>;
}
