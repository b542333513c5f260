//! Pooling by attention: one learned query reads all tokens.

use vitrine_autodiff::{SelfAttention, Var};
use vitrine_tensor::Tensor;

use crate::error::Result;
use crate::init::Init;
use crate::layer_norm::LayerNorm;
use crate::linear::Linear;
use crate::mlp::{Mlp, MlpConfig};
use crate::parameters::{ParameterId, Scope};
use crate::pass::Pass;

/// `p = proj(attention(latent, x))`, then `p + mlp(norm(p))` (Zhai et al. 2022, "Scaling Vision Transformers", appendix
/// D; Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training").
#[derive(Clone, Debug)]
pub struct AttentionPool {
    latent: ParameterId,
    query: Linear,
    key_value: Linear,
    projection: Linear,
    norm: LayerNorm,
    mlp: Mlp,
    heads: usize,
}

impl AttentionPool {
    /// Declares `latent [1, 1, D]`, `q`, `kv`, `proj`, `norm` and `mlp`; sizes and initialisers are the MLP's.
    pub fn new(
        scope: &mut Scope<'_>,
        heads: usize,
        layer_norm_eps: f64,
        mlp: &MlpConfig,
    ) -> Result<Self> {
        let MlpConfig { width, ref weight, ref bias, .. } = *mlp;
        let std = 1.0 / (width as f64).sqrt();
        let latent = scope.weight("latent", &[1, 1, width], &Init::TruncatedNormal { std });
        let mut linear =
            |name, outputs| Linear::new(&mut scope.scope(name), width, outputs, weight, Some(bias));
        Ok(Self {
            latent,
            query: linear("q", width)?,
            key_value: linear("kv", 2 * width)?,
            projection: linear("proj", width)?,
            norm: LayerNorm::new(&mut scope.scope("norm"), width, layer_norm_eps),
            mlp: Mlp::new(&mut scope.scope("mlp"), mlp)?,
            heads,
        })
    }

    /// `[B, N, D]` to `[B, D]`.
    pub fn forward(&self, pass: &Pass<'_>, x: &Var) -> Result<Var> {
        let query = self.query.forward(pass, &pass.parameter(self.latent)?)?;
        let (batch, width) = (x.shape()[0], query.value().dims().last());
        let like = query.value();
        let zeros = Tensor::zeros(&[batch, 1, width], like.dtype(), like.device())?;
        let query = pass.constant(zeros).add(&query)?;
        let options = SelfAttention { heads: self.heads, ..Default::default() };
        let mixed = query.attention(&self.key_value.forward(pass, x)?, &options)?;
        let pooled = self.projection.forward(pass, &mixed)?;
        let normed = self.norm.forward(pass, &pooled)?;
        Ok(self.mlp.forward(pass, &normed, Some(&pooled))?.reshape(&[batch, width])?)
    }
}
