//! Low-rank additions to frozen projections (Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models").

use vitrine_autodiff::Var;
use vitrine_tensor::Tensor;

use crate::error::Result;
use crate::init::Init;
use crate::parameters::{ParameterId, Scope};
use crate::pass::Pass;

/// How much is added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoraConfig {
    /// The rank r.
    pub rank: usize,
    /// α: what is added is scaled by α/r.
    pub alpha: f64,
}

/// `α/r · (x·Aᵀ)·Bᵀ` for queries and for values, as in the paper's section 4.2. B is zero at first, and so is what is
/// added.
#[derive(Clone, Copy, Debug)]
pub struct Lora {
    a: ParameterId,
    b: [ParameterId; 2],
    config: LoraConfig,
}

impl Lora {
    /// Declares `a.weight [2r, D]`, of queries and values, `q.weight [D, r]` and `v.weight [D, r]`.
    pub fn new(scope: &mut Scope<'_>, width: usize, config: LoraConfig) -> Self {
        let rank = config.rank;
        // What PEFT's Kaiming-uniform with a = √5 comes to.
        let a = scope.scope("a").weight("weight", &[2 * rank, width], &Init::TORCH);
        let mut b = |name| scope.scope(name).weight("weight", &[width, rank], &Init::ZEROS);
        Self { a, b: [b("q"), b("v")], config }
    }

    /// What is added to queries, keys (nothing) and values: `[B, N, D]` to `[B, N, 3D]`.
    pub fn forward(&self, pass: &Pass<'_>, x: &Var) -> Result<Var> {
        let LoraConfig { rank, alpha } = self.config;
        let low = x.linear(&pass.parameter(self.a)?, &Default::default())?;
        let low = low.scale(alpha / rank as f64)?;
        let part = |i: usize| -> Result<Var> {
            let b = pass.parameter(self.b[i])?;
            Ok(low.narrow(2, i * rank, rank)?.linear(&b, &Default::default())?)
        };
        let (query, value) = (part(0)?, part(1)?);
        let like = query.value();
        let key = pass.constant(Tensor::zeros(like.shape(), like.dtype(), like.device())?);
        Ok(Var::concat(&[&query, &key, &value], 2)?)
    }
}
