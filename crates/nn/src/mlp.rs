//! The MLP of a transformer block, plain or gated.

use vitrine_autodiff::Var;
use vitrine_tensor::{Activation, Epilogue};

use crate::dropout::Dropout;
use crate::error::Result;
use crate::init::Init;
use crate::linear::Linear;
use crate::parameters::Scope;
use crate::pass::Pass;

crate::choices! {
    /// The form of a block's MLP.
    MlpLayer {
        /// Two linear layers with an activation between them.
        Mlp = "mlp",
        /// `fc2(silu(gate(x)) · value(x))` (Shazeer 2020, "GLU Variants Improve Transformer", equation 6).
        SwiGlu = "swiglu",
        /// The same; gate and value are the halves of one weight.
        SwiGluPacked = "swiglu-packed",
    }
}

/// Sizes and options of an [`Mlp`].
#[derive(Clone, Debug, PartialEq)]
pub struct MlpConfig {
    /// The form.
    pub layer: MlpLayer,
    /// Inputs and outputs D.
    pub width: usize,
    /// Hidden units: those that the second layer reads.
    pub hidden: usize,
    /// Between the two layers; a gate's is its own.
    pub activation: Activation,
    /// After each of the two layers.
    pub dropout: f64,
    /// For all weights.
    pub weight: Init,
    /// For all biases.
    pub bias: Init,
}

impl MlpConfig {
    /// A plain one with GELU and without dropout; with PyTorch's first values for weights and biases.
    pub fn new(width: usize, hidden: usize) -> Self {
        Self {
            layer: MlpLayer::Mlp,
            width,
            hidden,
            activation: Activation::GeluErf,
            dropout: 0.0,
            weight: Init::TORCH,
            bias: Init::TORCH,
        }
    }
}

/// linear → activation → dropout → linear → dropout (Dosovitskiy et al. 2021, section 3.1).
#[derive(Clone, Copy, Debug)]
pub struct Mlp {
    fc1: First,
    fc2: Linear,
    activation: Activation,
    drop1: Dropout,
    drop2: Dropout,
    width: usize,
    hidden: usize,
}

/// What makes the hidden units.
#[derive(Clone, Copy, Debug)]
enum First {
    Plain(Linear),
    /// Gate and value.
    Gated(Linear, Linear),
    Packed(Linear),
}

impl Mlp {
    /// Declares `fc1.weight [hidden, D]` and `fc1.bias` (`fc1_g` and `fc1_x` of a gated one, `fc1.weight [2·hidden, D]`
    /// of one that is packed), then `fc2.weight [D, hidden]` and `fc2.bias`.
    pub fn new(scope: &mut Scope<'_>, config: &MlpConfig) -> Result<Self> {
        let MlpConfig { layer, width, hidden, activation, dropout, ref weight, ref bias } = *config;
        let mut linear = |name, inputs, outputs| {
            Linear::new(&mut scope.scope(name), inputs, outputs, weight, Some(bias))
        };
        Ok(Self {
            fc1: match layer {
                MlpLayer::Mlp => First::Plain(linear("fc1", width, hidden)?),
                MlpLayer::SwiGlu => {
                    First::Gated(linear("fc1_g", width, hidden)?, linear("fc1_x", width, hidden)?)
                }
                MlpLayer::SwiGluPacked => First::Packed(linear("fc1", width, 2 * hidden)?),
            },
            fc2: linear("fc2", hidden, width)?,
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
        let dropout = mask(&self.drop1, self.hidden);
        let hidden = self.hidden_units(pass, x, dropout)?;
        let dropout = mask(&self.drop2, self.width);
        let epilogue = Epilogue { dropout, residual, ..Default::default() };
        self.fc2.forward_with(pass, &hidden, &epilogue)
    }

    /// `[B, N, D]` to `[B, N, hidden]`.
    fn hidden_units(
        &self,
        pass: &Pass<'_>,
        x: &Var,
        dropout: Option<vitrine_tensor::Dropout>,
    ) -> Result<Var> {
        let silu = Some(Activation::Silu);
        let (gate, value) = match &self.fc1 {
            First::Plain(fc1) => {
                let activation = Some(self.activation);
                let epilogue = Epilogue { activation, dropout, ..Default::default() };
                return fc1.forward_with(pass, x, &epilogue);
            }
            First::Gated(gate, value) => {
                let epilogue = Epilogue { activation: silu, ..Default::default() };
                (gate.forward_with(pass, x, &epilogue)?, value.forward(pass, x)?)
            }
            First::Packed(fc1) => (
                fc1.forward_rows(pass, x, 0, self.hidden, silu)?,
                fc1.forward_rows(pass, x, self.hidden, self.hidden, None)?,
            ),
        };
        let hidden = gate.mul(&value)?;
        Ok(match dropout {
            Some(dropout) => hidden.dropout(dropout)?,
            None => hidden,
        })
    }
}
