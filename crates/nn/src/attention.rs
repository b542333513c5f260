//! Multi-head self-attention with fused projections.

use vitrine_autodiff::{SelfAttention, Var};
use vitrine_tensor::{Epilogue, Rotation, Tensor};

use crate::dropout::Dropout;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::layer_norm::LayerNorm;
use crate::linear::Linear;
use crate::lora::{Lora, LoraConfig};
use crate::parameters::{ParameterId, Scope};
use crate::pass::Pass;
use crate::relative_position::{RelativePositionBias, WindowPairs};

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
    /// Whether keys have a bias, where queries and values have one. Without, those two are parameters apart.
    pub key_bias: bool,
    /// The ε of a layer norm over each head's queries and keys (Henry et al. 2020; Dehghani et al. 2023, section 2);
    /// `None`: without.
    pub qk_norm: Option<f64>,
    /// The window (p, q) whose tokens have a learned bias for each pair's distance; `None`: without.
    pub window: Option<(usize, usize)>,
    /// What is added to queries and values when the rest is frozen; `None`: nothing.
    pub lora: Option<LoraConfig>,
    /// For the bias of the output projection; `None`: without.
    pub projection_bias: Option<Init>,
}

impl AttentionConfig {
    /// Without dropout, norms and LoRA; with PyTorch's first values for weights and biases.
    pub fn new(width: usize, heads: usize) -> Self {
        Self {
            width,
            heads,
            attention_dropout: 0.0,
            projection_dropout: 0.0,
            weight: Init::TORCH,
            qkv_bias: Some(Init::TORCH),
            key_bias: true,
            qk_norm: None,
            window: None,
            lora: None,
            projection_bias: Some(Init::TORCH),
        }
    }
}

/// What attention goes by beside the tokens.
#[derive(Clone, Default)]
pub struct Places {
    /// `[B]` of `i64`: keys at and past this position get no weight.
    pub valid_lens: Option<Tensor>,
    /// Turns queries and keys (2H heads).
    pub rotation: Option<Rotation>,
    /// For tokens of windows: the distances of pairs.
    pub window: Option<WindowPairs>,
}

/// Queries, keys and values from one product, scaled dot-product attention, output projection (Vaswani et al. 2017,
/// section 3.2).
#[derive(Clone, Copy, Debug)]
pub struct MultiHeadAttention {
    qkv: Linear,
    /// Those of queries and values, where keys have none.
    biases: Option<[ParameterId; 2]>,
    /// Those of queries and keys.
    norms: Option<[LayerNorm; 2]>,
    relative: Option<RelativePositionBias>,
    lora: Option<Lora>,
    projection: Linear,
    heads: usize,
    width: usize,
    weight_dropout: Dropout,
    projection_dropout: Dropout,
}

impl MultiHeadAttention {
    /// Declares `qkv.weight [3D, D]`, `proj.weight [D, D]`, and what is asked for: `qkv.bias [3D]` (or `q_bias [D]` and
    /// `v_bias [D]`), `q_norm` and `k_norm`, `proj.bias [D]`, `lora`.
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
        let relative = config.window.map(|window| RelativePositionBias::new(scope, window, heads));
        let (qkv_bias, projection_bias) =
            (config.qkv_bias.as_ref(), config.projection_bias.as_ref());
        let fused = qkv_bias.filter(|_| config.key_bias);
        let mut bias = |name, init: &Init| scope.vector(name, &[width], init, width);
        let biases = qkv_bias
            .filter(|_| !config.key_bias)
            .map(|init| ["q_bias", "v_bias"].map(|name| bias(name, init)));
        let mut qkv = scope.scope("qkv");
        let qkv = Linear::new(&mut qkv, width, 3 * width, weight, fused)?;
        let mut norm =
            |name, epsilon| LayerNorm::new(&mut scope.scope(name), width / heads, epsilon);
        let norms =
            config.qk_norm.map(|epsilon| ["q_norm", "k_norm"].map(|name| norm(name, epsilon)));
        let lora = config.lora.map(|config| Lora::new(&mut scope.scope("lora"), width, config));
        let mut projection = scope.scope("proj");
        let projection = Linear::new(&mut projection, width, width, weight, projection_bias)?;
        let weight_dropout = Dropout::new(scope, config.attention_dropout)?;
        let projection_dropout = Dropout::new(scope, config.projection_dropout)?;
        Ok(Self {
            qkv,
            biases,
            norms,
            relative,
            lora,
            projection,
            heads,
            width,
            weight_dropout,
            projection_dropout,
        })
    }

    fn options(&self, pass: &Pass<'_>, places: &Places) -> Result<SelfAttention> {
        let bias = match (&self.relative, &places.window) {
            (Some(relative), Some(pairs)) => Some(relative.forward(pass, pairs)?),
            _ => None,
        };
        Ok(SelfAttention {
            heads: self.heads,
            valid_lens: places.valid_lens.clone(),
            bias,
            dropout: pass.mask(&self.weight_dropout),
        })
    }

    /// Queries, keys and values side by side: `[B, N, D]` to `[B, N, 3D]`.
    fn queries_keys_values(
        &self,
        pass: &Pass<'_>,
        x: &Var,
        rotation: Option<&Rotation>,
    ) -> Result<Var> {
        let width = self.width;
        let bias = match self.biases {
            None => None,
            Some([query, value]) => {
                let [query, value] = [pass.parameter(query)?, pass.parameter(value)?];
                let like = query.value();
                let key = Tensor::zeros(&[width], like.dtype(), like.device())?;
                Some(Var::concat(&[&query, &pass.constant(key), &value], 0)?)
            }
        };
        let added = self.lora.as_ref().map(|lora| lora.forward(pass, x)).transpose()?;
        let epilogue =
            Epilogue { bias: bias.as_ref(), residual: added.as_ref(), ..Default::default() };
        let mut qkv = self.qkv.forward_with(pass, x, &epilogue)?;
        if let Some([query_norm, key_norm]) = &self.norms {
            let shape = qkv.shape().to_vec();
            let heads = [shape[0], shape[1], self.heads, width / self.heads];
            let normed = |part: usize, norm: &LayerNorm| -> Result<Var> {
                let by_head = qkv.narrow(2, part * width, width)?.reshape(&heads)?;
                Ok(norm.forward(pass, &by_head)?.reshape(&[shape[0], shape[1], width])?)
            };
            let (query, key) = (normed(0, query_norm)?, normed(1, key_norm)?);
            qkv = Var::concat(&[&query, &key, &qkv.narrow(2, 2 * width, width)?], 2)?;
        }
        match rotation {
            Some(rotation) => Ok(qkv.rotate(rotation)?),
            None => Ok(qkv),
        }
    }

    /// `[B, N, D]` to `[B, N, D]`; `residual` is added.
    pub fn forward(
        &self,
        pass: &Pass<'_>,
        x: &Var,
        places: &Places,
        residual: Option<&Var>,
    ) -> Result<Var> {
        let qkv = self.queries_keys_values(pass, x, places.rotation.as_ref())?;
        let options = self.options(pass, places)?;
        let mixed = match pass.explains() && options.bias.is_none() && options.valid_lens.is_none()
        {
            true => self.mixed_in_parts(pass, &qkv)?,
            false => qkv.self_attention(&options)?,
        };
        let dropout = pass.mask(&self.projection_dropout);
        let epilogue = Epilogue { dropout, residual, ..Default::default() };
        self.projection.forward_with(pass, &mixed, &epilogue)
    }

    /// Self-attention of queries, keys and values `[B, N, 3D]`, whose weights the pass keeps: `[B, N, D]`.
    fn mixed_in_parts(&self, pass: &Pass<'_>, qkv: &Var) -> Result<Var> {
        let &[batch, tokens, _] = qkv.shape() else { return Ok(qkv.clone()) };
        let (width, depth) = (self.width, self.width / self.heads);
        let by_head = |part: usize| -> Result<Var> {
            let part = qkv.narrow(2, part * width, width)?;
            Ok(part.reshape(&[batch, tokens, self.heads, depth])?.permute(&[0, 2, 1, 3])?)
        };
        let scores = by_head(0)?.matmul_transposed(&by_head(1)?)?;
        let weights = scores.scale(1.0 / (depth as f64).sqrt())?.softmax()?;
        let mixed = pass.keep_attention(weights)?.matmul(&by_head(2)?)?;
        Ok(mixed.permute(&[0, 2, 1, 3])?.reshape(&[batch, tokens, width])?)
    }

    /// Whether [`MultiHeadAttention::forward_first`] gives what the full run does: nothing comes between the one
    /// product and the attention.
    pub fn has_forward_first(&self) -> bool {
        let Self { biases, norms, relative, lora, .. } = self;
        biases.is_none() && norms.is_none() && relative.is_none() && lora.is_none()
    }

    /// As [`MultiHeadAttention::forward`] for the queries of the first `queries` tokens alone: `[B, N, D]` to
    /// `[B, queries, D]`, with the masks of the full run, where there is [one](MultiHeadAttention::has_forward_first)
    /// and no rotation.
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
        let query = self.qkv.forward_rows(pass, &first, 0, width, None)?;
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
