//! The MLP of a transformer block.

use vitrine_autodiff::Var;
use vitrine_tensor::{Activation, Epilogue};

use crate::dropout::Dropout;
use crate::error::Result;
use crate::init::Init;
use crate::linear::Linear;
use crate::parameters::Scope;
use crate::pass::Pass;

/// Sizes and options of an [`Mlp`].
#[derive(Clone, Debug, PartialEq)]
pub struct MlpConfig {
    /// Inputs and outputs D.
    pub width: usize,
    /// Hidden units.
    pub hidden: usize,
    /// Between the two layers.
    pub activation: Activation,
    /// After each of the two layers.
    pub dropout: f64,
    /// For both weights.
    pub weight: Init,
    /// For both biases.
    pub bias: Init,
}

/// linear → activation → dropout → linear → dropout (Dosovitskiy et al. 2021, section 3.1).
#[derive(Clone, Copy, Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
    drop1: Dropout,
    drop2: Dropout,
    width: usize,
    hidden: usize,
}

impl Mlp {
    /// Declares `fc1.weight [hidden, D]`, `fc1.bias`, `fc2.weight [D, hidden]`, `fc2.bias`.
    pub fn new(scope: &mut Scope<'_>, config: &MlpConfig) -> Result<Self> {
        let MlpConfig { width, hidden, activation, dropout, ref weight, ref bias } = *config;
        Ok(Self {
            fc1: Linear::new(&mut scope.scope("fc1"), width, hidden, weight, Some(bias))?,
            fc2: Linear::new(&mut scope.scope("fc2"), hidden, width, weight, Some(bias))?,
            activation,
            drop1: Dropout::new(scope, dropout)?,
            drop2: Dropout::new(scope, dropout)?,
            width,
            hidden,
        })
    }

    /// `[B, N, D]` to `[B, N, D]`; `residual` of that shape is added.
    pub fn forward(&self, pass: &Pass<'_>, x: &Var, residual: Option<&Var>) -> Result<Var> {
        self.forward_part(pass, x, residual, None)
    }

    /// As [`Mlp::forward`] for the first rows of each sample alone, which has `tokens` in full: draws the masks of the
    /// full run.
    pub fn forward_part(
        &self,
        pass: &Pass<'_>,
        x: &Var,
        residual: Option<&Var>,
        tokens: Option<usize>,
    ) -> Result<Var> {
        let mask = |dropout: &Dropout, width: usize| {
            pass.mask(dropout).map(|mask| vitrine_tensor::Dropout {
                sample_stride: tokens.map(|tokens| tokens * width),
                ..mask
            })
        };
        let (activation, dropout) = (Some(self.activation), mask(&self.drop1, self.hidden));
        let hidden = Epilogue { activation, dropout, ..Default::default() };
        let hidden = self.fc1.forward_with(pass, x, &hidden)?;
        let dropout = mask(&self.drop2, self.width);
        let epilogue = Epilogue { dropout, residual, ..Default::default() };
        self.fc2.forward_with(pass, &hidden, &epilogue)
    }
}
