//! Multi-head self-attention with fused projections.

use vitrine_autodiff::{SelfAttention, Var};
use vitrine_tensor::{Epilogue, Tensor};

use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::linear::Linear;
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
        let epilogue = Epilogue { dropout, residual, ..Default::default() };
        self.projection.forward_with(pass, &mixed, &epilogue)
    }

    /// As [`MultiHeadAttention::forward`] for the queries of the first `queries` tokens alone: `[B, N, D]` to
    /// `[B, queries, D]`, with the masks of the full run.
    ///
    /// Neither keys nor values are computed. A head's scores are `(x·wₖᵀ)·q = x·(wₖᵀ·q)`, and what it reads is
    /// `p·(x·wᵥᵀ) = (p·x)·wᵥᵀ`: with few queries, it is the query that is taken to the tokens, and the mean of the
    /// tokens to the values (DeepSeek-AI 2024, "DeepSeek-V2", section 2.1.2, calls it absorbing the weights). A bias of
    /// the keys adds the same to all scores of a query, and so changes nothing.
    pub fn forward_first(
        &self,
        pass: &Pass<'_>,
        x: &Var,
        queries: usize,
        residual: Option<&Var>,
    ) -> Result<Var> {
        let (width, heads) = (self.width, self.heads);
        let (batch, tokens) = match *x.shape() {
            [batch, tokens, _] => (batch, tokens),
            // The narrowing below says what is wrong.
            _ => (0, 0),
        };
        let depth = width / heads;
        let first = x.narrow(1, 0, queries)?;
        let query = self.qkv.forward_rows(pass, &first, 0, width)?;
        let query = query.scale(1.0 / (depth as f64).sqrt())?;
        let shapes: [&[usize]; 2] = [&[heads, depth, width], &[heads, 1, depth]];
        let (key_weight, _) = self.qkv.rows(pass, width, shapes)?;
        let (value_weight, value_bias) = self.qkv.rows(pass, 2 * width, shapes)?;

        // [H, B·Q, d] by [H, d, D], then [B, H·Q, D].
        let query = query.reshape(&[batch * queries, heads, depth])?.permute(&[1, 0, 2])?;
        let query = query.matmul(&key_weight)?;
        let query = query.reshape(&[heads, batch, queries, width])?.permute(&[1, 0, 2, 3])?;
        let query = query.reshape(&[batch, heads * queries, width])?;

        let scores = x.matmul(&query.permute(&[0, 2, 1])?)?.permute(&[0, 2, 1])?;
        let mut weights = scores.softmax()?;
        if let Some(mask) = pass.mask(&self.weight_dropout) {
            let mask = vitrine_tensor::Dropout { sample_stride: Some(tokens * tokens), ..mask };
            let by_head = weights.reshape(&[batch * heads, queries, tokens])?;
            weights = by_head.dropout(mask)?.reshape(&[batch, heads * queries, tokens])?;
        }

        // [B, H·Q, D], then [H, B·Q, D] by [H, D, d].
        let by_head = |mixed: &Var, width| -> Result<Var> {
            let mixed = mixed.reshape(&[batch, heads, queries, width])?.permute(&[1, 0, 2, 3])?;
            Ok(mixed.reshape(&[heads, batch * queries, width])?)
        };
        let mut mixed = by_head(&weights.matmul(x)?, width)?.matmul_transposed(&value_weight)?;
        if let Some(bias) = value_bias {
            // The weights add up to 1 only without dropout.
            let totals = by_head(&weights.sum_axis(2)?, 1)?;
            mixed = mixed.add(&totals.matmul(&bias)?)?;
        }
        let mixed = mixed.permute(&[1, 0, 2])?.reshape(&[batch, queries, width])?;

        let dropout = pass
            .mask(&self.projection_dropout)
            .map(|mask| vitrine_tensor::Dropout { sample_stride: Some(tokens * width), ..mask });
        let epilogue = Epilogue { dropout, residual, ..Default::default() };
        self.projection.forward_with(pass, &mixed, &epilogue)
    }
}
