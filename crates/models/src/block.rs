//! A pre-norm transformer block.

use vitrine_autodiff::Var;
use vitrine_nn::{
    AttentionConfig, DropPath, LayerNorm, LayerScale, Mlp, MlpConfig, MultiHeadAttention, Pass,
    Places, Result, Scope, recompute,
};

/// What a block is computed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// All tokens.
    All,
    /// The first alone.
    First,
}

/// Sizes and options of a [`Block`].
#[derive(Clone, Debug)]
pub struct BlockConfig {
    /// Of the attention, whose width is the block's.
    pub attention: AttentionConfig,
    /// Of the MLP.
    pub mlp: MlpConfig,
    /// The ε of both norms.
    pub layer_norm_eps: f64,
    /// First value of the factors of both branches; `None`: there are none.
    pub init_values: Option<f64>,
    /// The share of images that each branch is left out for in training.
    pub drop_path: f64,
    /// Windows that the tokens of an image are parted into: as many rows of x are one image's.
    pub windows: usize,
}

/// `x = x + attention(norm1(x))`, `x = x + mlp(norm2(x))` (Dosovitskiy et al. 2021, equations 2 and 3); with
/// LayerScale, each branch has its factors.
#[derive(Clone, Debug)]
pub struct Block {
    norm1: LayerNorm,
    attention: MultiHeadAttention,
    scale1: Option<LayerScale>,
    norm2: LayerNorm,
    mlp: Mlp,
    scale2: Option<LayerScale>,
    drop_paths: [DropPath; 2],
}

impl Block {
    /// Declares `norm1`, `attn`, `ls1`, `norm2`, `mlp` and `ls2`.
    pub fn new(scope: &mut Scope<'_>, config: &BlockConfig) -> Result<Self> {
        let BlockConfig { ref attention, ref mlp, layer_norm_eps, init_values, drop_path, windows } =
            *config;
        let width = attention.width;
        let norm = |scope: &mut Scope<'_>, name| {
            LayerNorm::new(&mut scope.scope(name), width, layer_norm_eps)
        };
        let scale = |scope: &mut Scope<'_>, name| {
            init_values.map(|initial| LayerScale::new(&mut scope.scope(name), width, initial))
        };
        Ok(Self {
            norm1: norm(scope, "norm1"),
            attention: MultiHeadAttention::new(&mut scope.scope("attn"), attention)?,
            scale1: scale(scope, "ls1"),
            norm2: norm(scope, "norm2"),
            mlp: Mlp::new(&mut scope.scope("mlp"), mlp)?,
            scale2: scale(scope, "ls2"),
            drop_paths: [
                DropPath::new(scope, drop_path, windows)?,
                DropPath::new(scope, drop_path, windows)?,
            ],
        })
    }

    /// `[B, N, D]` to `[B, N, D]`, or to `[B, 1, D]` for the first token. If it `recomputes`, nothing but `x` is kept
    /// for backward.
    pub fn run(
        &self,
        pass: &Pass<'_>,
        x: &Var,
        places: &Places,
        tokens: Tokens,
        recomputes: bool,
    ) -> Result<Var> {
        if recomputes {
            let (block, places) = (self.clone(), places.clone());
            return recompute(pass, x, move |pass, x| block.run(pass, x, &places, tokens, false));
        }
        match tokens {
            Tokens::All => self.forward(pass, x, places),
            Tokens::First => self.forward_first(pass, x),
        }
    }

    /// Whether the first token alone can be computed for less (see [`MultiHeadAttention::forward_first`]).
    pub fn has_forward_first(&self) -> bool {
        self.attention.has_forward_first()
    }

    /// `[B, N, D]` to `[B, N, D]`.
    pub fn forward(&self, pass: &Pass<'_>, x: &Var, places: &Places) -> Result<Var> {
        let normed = self.norm1.forward(pass, x)?;
        let x = join(pass, &self.drop_paths[0], self.scale1, x, |residual| {
            self.attention.forward(pass, &normed, places, residual)
        })?;
        let normed = self.norm2.forward(pass, &x)?;
        join(pass, &self.drop_paths[1], self.scale2, &x, |residual| {
            self.mlp.forward(pass, &normed, residual)
        })
    }

    /// As [`Block::forward`] for the first token alone: `[B, N, D]` to `[B, 1, D]`, with the values, gradients and
    /// dropout masks of the full run. Of the other tokens, only the normed values are read.
    pub fn forward_first(&self, pass: &Pass<'_>, x: &Var) -> Result<Var> {
        let tokens = x.shape().get(1).copied().unwrap_or(0);
        let normed = self.norm1.forward(pass, x)?;
        let first = x.narrow(1, 0, 1)?;
        let x = join(pass, &self.drop_paths[0], self.scale1, &first, |residual| {
            self.attention.forward_first(pass, &normed, 1, residual)
        })?;
        let normed = self.norm2.forward(pass, &x)?;
        join(pass, &self.drop_paths[1], self.scale2, &x, |residual| {
            self.mlp.forward_part(pass, &normed, residual, Some(tokens))
        })
    }
}

/// `x + scale · branch`, as far as the branch is not dropped; it adds x itself where nothing comes between.
pub(crate) fn join(
    pass: &Pass<'_>,
    drop_path: &DropPath,
    scale: Option<LayerScale>,
    x: &Var,
    branch: impl FnOnce(Option<&Var>) -> Result<Var>,
) -> Result<Var> {
    if scale.is_none() && !drop_path.drops(pass) {
        return branch(Some(x));
    }
    let branch = drop_path.forward(pass, &branch(None)?)?;
    match scale {
        None => Ok(branch.add(x)?),
        Some(scale) => scale.forward(pass, &branch, x),
    }
}
