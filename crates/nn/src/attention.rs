//! Multi-head self-attention with fused projections.

use vitrine_autodiff::{SelfAttention, Var};
use vitrine_tensor::Tensor;

use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::linear::{Linear, LinearEpilogue};
use crate::parameters::Scope;
use crate::pass::Pass;

/// Sizes and options of a [`MultiHeadAttention`].
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionConfig {
    /// Inputs and outputs D.
    pub width: usize,
    /// The number of heads; it divides the width.
    pub heads: usize,
    /// Dropout on the attention weights.
    pub attention_dropout: f64,
    /// Dropout after the output projection.
    pub projection_dropout: f64,
    /// For both weights.
    pub weight: Init,
    /// For the bias of queries, keys and values; `None`: without.
    pub qkv_bias: Option<Init>,
    /// For the bias of the output projection; `None`: without.
    pub projection_bias: Option<Init>,
}

/// Queries, keys and values from one product, scaled dot-product attention, output projection (Vaswani et al. 2017,
/// section 3.2).
#[derive(Clone, Copy, Debug)]
pub struct MultiHeadAttention {
    qkv: Linear,
    projection: Linear,
    heads: usize,
    width: usize,
    weight_dropout: Dropout,
    projection_dropout: Dropout,
}

impl MultiHeadAttention {
    /// Declares `qkv.weight [3D, D]`, `proj.weight [D, D]`, and the biases asked for.
    pub fn new(scope: &mut Scope<'_>, config: &AttentionConfig) -> Result<Self> {
        let AttentionConfig { width, heads, ref weight, .. } = *config;
        if heads == 0 || !width.is_multiple_of(heads) {
            return Err(Error::Config {
                layer: "attention",
                what: "number of heads",
                value: format!("{heads} for a width of {width}"),
                rule: "it must be at least 1 and divide the width",
            });
        }
        let (qkv_bias, projection_bias) =
            (config.qkv_bias.as_ref(), config.projection_bias.as_ref());
        let mut qkv = scope.scope("qkv");
        let qkv = Linear::new(&mut qkv, width, 3 * width, weight, qkv_bias)?;
        let mut projection = scope.scope("proj");
        let projection = Linear::new(&mut projection, width, width, weight, projection_bias)?;
        let weight_dropout = Dropout::new(scope, config.attention_dropout)?;
        let projection_dropout = Dropout::new(scope, config.projection_dropout)?;
        Ok(Self { qkv, projection, heads, width, weight_dropout, projection_dropout })
    }

    fn options(&self, pass: &Pass<'_>, valid_lens: Option<&Tensor>) -> SelfAttention {
        SelfAttention {
            heads: self.heads,
            valid_lens: valid_lens.cloned(),
            dropout: pass.mask(&self.weight_dropout),
        }
    }

    /// `[B, N, D]` to `[B, N, D]`; keys at and past `valid_lens [B]` get no weight; `residual` is added.
    pub fn forward(
        &self,
        pass: &Pass<'_>,
        x: &Var,
        valid_lens: Option<&Tensor>,
        residual: Option<&Var>,
    ) -> Result<Var> {
        let qkv = self.qkv.forward(pass, x)?;
        let mixed = qkv.self_attention(&self.options(pass, valid_lens))?;
        let dropout = pass.mask(&self.projection_dropout);
        let epilogue = LinearEpilogue { activation: None, dropout, residual };
        self.projection.forward_with(pass, &mixed, &epilogue)
    }

    /// As [`MultiHeadAttention::forward`] for the queries of the first `queries` tokens alone: `[B, N, D]` to
    /// `[B, queries, D]`, with the masks of the full run.
    pub fn forward_first(
        &self,
        pass: &Pass<'_>,
        x: &Var,
        queries: usize,
        residual: Option<&Var>,
    ) -> Result<Var> {
        let tokens = x.shape().get(1).copied().unwrap_or(0);
        let first = x.narrow(1, 0, queries)?;
        let query = self.qkv.forward_rows(pass, &first, 0, self.width)?;
        let key_value = self.qkv.forward_rows(pass, x, self.width, 2 * self.width)?;
        let mixed = query.attention(&key_value, &self.options(pass, None))?;
        let dropout = pass.mask(&self.projection_dropout).map(|mask| vitrine_tensor::Dropout {
            sample_stride: Some(tokens * self.width),
            ..mask
        });
        let epilogue = LinearEpilogue { activation: None, dropout, residual };
        self.projection.forward_with(pass, &mixed, &epilogue)
    }
}
