//! The Vision Transformer (Dosovitskiy et al. 2021), from images to logits.

use vitrine_autodiff::Var;
use vitrine_nn::{
    Dropout, Init, InputSpec, LayerNorm, Linear, Model, Output, ParameterId, Pass, PatchEmbedding,
    Result, Scope, Table,
};

use crate::block::{Block, Tokens};
use crate::config::{Pool, VitConfig};
use crate::registry::ModelConfig;

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
        config.validate()?;
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

    fn saves_last_block(&self) -> bool {
        self.config.last_block_saving && self.config.pool == Pool::ClassToken
    }
}

impl Model for VisionTransformer {
    fn input(&self) -> InputSpec {
        let VitConfig { channels, image_size: size, classes, ref mean, ref std, .. } = self.config;
        // One number stands for all channels.
        let each = |numbers: &[f64]| numbers.iter().copied().cycle().take(channels).collect();
        InputSpec { channels, size, mean: each(mean), std: each(std), classes }
    }

    fn settings(&self) -> Result<Table> {
        Ok(ModelConfig::Vit(self.config.clone()).table()?)
    }

    /// What lies between images and logits has the type that the parameters are computed in.
    fn forward(&self, pass: &Pass<'_>, images: &Var) -> Result<Output> {
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
        for (i, block) in (1..).zip(&self.blocks) {
            let last = i == self.blocks.len();
            let tokens = if last && self.saves_last_block() { Tokens::First } else { Tokens::All };
            x = block.run(pass, &x, tokens, self.config.recompute)?; // [B, N, D], at last [B, 1, D]
        }
        let batch = x.shape()[0];
        let pooled = match self.config.pool {
            Pool::ClassToken => x.narrow(1, 0, 1)?.reshape(&[batch, self.config.width])?,
            Pool::Mean => x.mean_axis(1)?,
        }; // [B, D]
        let normed = self.norm.forward(pass, &pooled)?;
        let logits = self.head.forward(pass, &normed)?; // [B, K]
        Ok(logits.to_dtype(pass.dtype().accumulator())?.into())
    }
}
