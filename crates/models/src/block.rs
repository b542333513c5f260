//! A pre-norm transformer block.

use vitrine_autodiff::Var;
use vitrine_nn::{
    AttentionConfig, LayerNorm, Mlp, MlpConfig, MultiHeadAttention, Pass, Result, Scope, recompute,
};
use vitrine_tensor::Tensor;

use crate::config::VitConfig;

/// What a block is computed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// All tokens.
    All,
    /// The first alone.
    First,
}

/// `x = x + attention(norm1(x))`, `x = x + mlp(norm2(x))` (Dosovitskiy et al. 2021, equations 2 and 3).
#[derive(Clone, Debug)]
pub struct Block {
    norm1: LayerNorm,
    attention: MultiHeadAttention,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl Block {
    /// Declares `norm1`, `attn`, `norm2` and `mlp`.
    pub fn new(scope: &mut Scope<'_>, config: &VitConfig) -> Result<Self> {
        let (weight, bias) = (config.weight_init(), config.bias_init());
        let attention = AttentionConfig {
            width: config.width,
            heads: config.heads,
            attention_dropout: config.attention_dropout,
            projection_dropout: 0.0,
            weight: weight.clone(),
            qkv_bias: config.qkv_bias.then(|| bias.clone()),
            projection_bias: config.projection_bias.then(|| bias.clone()),
        };
        let mlp = MlpConfig {
            width: config.width,
            hidden: config.mlp_width,
            activation: config.activation(),
            dropout: config.dropout,
            weight,
            bias,
        };
        Ok(Self {
            norm1: LayerNorm::new(&mut scope.scope("norm1"), config.width, config.layer_norm_eps),
            attention: MultiHeadAttention::new(&mut scope.scope("attn"), &attention)?,
            norm2: LayerNorm::new(&mut scope.scope("norm2"), config.width, config.layer_norm_eps),
            mlp: Mlp::new(&mut scope.scope("mlp"), &mlp)?,
        })
    }

    /// `[B, N, D]` to `[B, N, D]`, or to `[B, 1, D]` for the first token. If it `recomputes`, nothing but `x` is kept
    /// for backward.
    pub fn run(&self, pass: &Pass<'_>, x: &Var, tokens: Tokens, recomputes: bool) -> Result<Var> {
        if recomputes {
            let block = self.clone();
            return recompute(pass, x, move |pass, x| block.run(pass, x, tokens, false));
        }
        match tokens {
            Tokens::All => self.forward(pass, x, None),
            Tokens::First => self.forward_first(pass, x),
        }
    }

    /// `[B, N, D]` to `[B, N, D]`; keys at and past `valid_lens [B]` get no weight.
    pub fn forward(&self, pass: &Pass<'_>, x: &Var, valid_lens: Option<&Tensor>) -> Result<Var> {
        let normed = self.norm1.forward(pass, x)?;
        let x = self.attention.forward(pass, &normed, valid_lens, Some(x))?;
        let normed = self.norm2.forward(pass, &x)?;
        self.mlp.forward(pass, &normed, Some(&x))
    }

    /// As [`Block::forward`] for the first token alone: `[B, N, D]` to `[B, 1, D]`, with the values, gradients and
    /// dropout masks of the full run. Of the other tokens, only the normed values are read.
    pub fn forward_first(&self, pass: &Pass<'_>, x: &Var) -> Result<Var> {
        let tokens = x.shape().get(1).copied().unwrap_or(0);
        let normed = self.norm1.forward(pass, x)?;
        let first = x.narrow(1, 0, 1)?;
        let x = self.attention.forward_first(pass, &normed, 1, Some(&first))?;
        let normed = self.norm2.forward(pass, &x)?;
        self.mlp.forward_part(pass, &normed, Some(&x), Some(tokens))
    }
}
