//! The Vision Transformer (Dosovitskiy et al. 2021), from images to logits.

use vitrine_autodiff::Var;
use vitrine_nn::{
    Dropout, Error, Init, LayerNorm, Linear, ParameterId, Pass, PatchEmbedding, Result, Scope,
};

use crate::block::Block;
use crate::config::{Pool, VitConfig};
use crate::recompute::Tokens;

/// A Vision Transformer.
#[derive(Clone, Debug)]
pub struct VisionTransformer {
    config: VitConfig,
    class_token: Option<ParameterId>,
    positions: ParameterId,
    patch_embedding: PatchEmbedding,
    embedding_dropout: Dropout,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl VisionTransformer {
    /// Declares all parameters under timm's names, in timm's order.
    pub fn new(scope: &mut Scope<'_>, config: &VitConfig) -> Result<Self> {
        check(config)?;
        let (width, weight, bias) = (config.width, config.weight_init(), config.bias_init());
        let class_token = (config.pool == Pool::ClassToken)
            .then(|| scope.vector("cls_token", &[1, 1, width], &Init::ZEROS, width));
        let shape = [1, config.tokens(), width];
        let positions = scope.vector("pos_embed", &shape, &config.position_init(), width);
        let patch_embedding = PatchEmbedding::new(
            &mut scope.scope("patch_embed"),
            config.image_size,
            config.patch_size,
            config.channels,
            width,
            &weight,
            &bias,
        )?;
        let embedding_dropout = Dropout::new(scope, config.embedding_dropout)?;
        let mut blocks = Vec::with_capacity(config.depth);
        for i in 0..config.depth {
            blocks.push(Block::new(&mut scope.scope(&format!("blocks.{i}")), config)?);
        }
        // timm's name: with mean pooling the norm comes after the pooling.
        let name = match config.pool {
            Pool::ClassToken => "norm",
            Pool::Mean => "fc_norm",
        };
        Ok(Self {
            norm: LayerNorm::new(&mut scope.scope(name), width, config.layer_norm_eps),
            head: Linear::new(
                &mut scope.scope("head"),
                width,
                config.classes,
                &weight,
                Some(&bias),
            )?,
            config: config.clone(),
            class_token,
            positions,
            patch_embedding,
            embedding_dropout,
            blocks,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Images `[B, C, H, W]`, scaled to [0, 1], to logits `[B, K]`. What lies between has the type that the parameters
    /// are computed in; logits have its accumulator's, `f32` for `bf16`.
    pub fn forward(&self, pass: &Pass<'_>, images: &Var) -> Result<Var> {
        let rounded = match images.value().dtype() == pass.dtype().accumulator() {
            true => Some(images.to_dtype(pass.dtype())?),
            false => None, // Of the pass's type, or none that fits: the first product tells.
        };
        let images = rounded.as_ref().unwrap_or(images);
        let class = self.class_token.map(|id| pass.parameter(id)).transpose()?;
        let positions = pass.parameter(self.positions)?;
        let patches = self.patch_embedding.forward(pass, images)?; // [B, M, D]
        let mask = pass.mask(&self.embedding_dropout);
        let mut x = patches.embed_tokens(class.as_ref(), &positions, mask)?; // [B, N, D]
        drop(patches);
        let full = match self.saves_last_block() {
            true => &self.blocks[..self.blocks.len() - 1],
            false => self.blocks.as_slice(),
        };
        let recomputes = self.config.recompute && pass.tape().is_recording();
        let run = |block: &Block, x: &Var, tokens| match recomputes {
            true => block.run_recomputed(pass, x, tokens),
            false => block.run(pass, x, tokens),
        };
        for block in full {
            x = run(block, &x, Tokens::All)?;
        }
        if let Some(last) = self.blocks.get(full.len()) {
            x = run(last, &x, Tokens::First)?; // [B, 1, D]
        }
        let batch = x.shape()[0];
        let pooled = match self.config.pool {
            Pool::ClassToken => x.narrow(1, 0, 1)?.reshape(&[batch, self.config.width])?,
            Pool::Mean => x.mean_axis(1)?,
        }; // [B, D]
        let normed = self.norm.forward(pass, &pooled)?;
        let logits = self.head.forward(pass, &normed)?; // [B, K]
        Ok(logits.to_dtype(pass.dtype().accumulator())?)
    }

    fn saves_last_block(&self) -> bool {
        self.config.last_block_saving
            && self.config.pool == Pool::ClassToken
            && self.config.depth > 0
    }
}

/// Sizes that no layer checks by itself.
fn check(config: &VitConfig) -> Result<()> {
    let sizes = [
        ("width", config.width),
        ("number of classes", config.classes),
        ("number of channels", config.channels),
        ("number of blocks", config.depth),
        ("MLP width", config.mlp_width),
    ];
    match sizes.into_iter().find(|&(_, size)| size == 0) {
        None => Ok(()),
        Some((what, size)) => Err(Error::Config {
            layer: "vision transformer",
            what,
            value: size.to_string(),
            rule: "it must be at least 1",
        }),
    }
}
