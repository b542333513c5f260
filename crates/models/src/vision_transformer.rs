//! The Vision Transformer (Dosovitskiy et al. 2021), from images to logits, with what came to it since: each option of
//! [`VitConfig`] is one of its papers'.

use std::f64::consts::TAU;

use vitrine_autodiff::Var;
use vitrine_nn::{
    AttentionPool, DropPath, Dropout, Headed, Init, InputSpec, LayerNorm, Linear, MlpConfig,
    MlpLayer, Model, Output, ParameterId, Pass, PatchEmbedding, Places, Result, Scope, Table,
    TokenGrid,
};
use vitrine_tensor::{Rotation, Tensor};

use crate::block::{Block, Tokens};
use crate::config::{MOST_PATCHES, Pool, PosEmbed, RopeType, VitConfig};
use crate::registry::ModelConfig;
use crate::resample::{Grids, resample_positions};

/// A Vision Transformer.
#[derive(Clone, Debug)]
pub struct VisionTransformer {
    config: VitConfig,
    /// Class token, distillation token and registers, as far as there are any.
    prefix: Vec<ParameterId>,
    positions: Option<ParameterId>,
    patch_embedding: PatchEmbedding,
    embedding_dropout: Dropout,
    blocks: Vec<Block>,
    norm: LayerNorm,
    attention_pool: Option<AttentionPool>,
    head: Linear,
    distilled: Option<Linear>,
}

impl VisionTransformer {
    /// What the names of the parameters that tell the classes apart begin with.
    pub const HEAD: &[&str] = &["head.", "head_dist."];

    /// Declares all parameters under timm's names, in timm's order.
    pub fn new(scope: &mut Scope<'_>, config: &VitConfig) -> Result<Self> {
        config.validate()?;
        let (width, weight, bias) = (config.width, config.weight_init(), config.bias_init());
        let tokens = [
            ("cls_token", usize::from(config.has_class_token())),
            ("dist_token", usize::from(config.distilled)),
            ("reg_token", config.reg_tokens),
        ];
        let there = tokens.into_iter().filter(|(_, count)| *count > 0);
        let prefix = there
            .map(|(name, count)| scope.vector(name, &[1, count, width], &Init::ZEROS, width))
            .collect();
        let places = [1, config.prefix_positions() + config.patches(), width];
        let positions = (config.pos_embed == PosEmbed::Learn)
            .then(|| scope.vector("pos_embed", &places, &config.position_init(), width));
        let patch_embedding = PatchEmbedding::new(
            &mut scope.scope("patch_embed"),
            config.image_size,
            config.patch_size,
            config.channels,
            width,
            &weight,
            &bias,
        )?
        .with_any_size(config.dynamic_img_size);
        let embedding_dropout = Dropout::new(scope, config.embedding_dropout)?;
        let mut blocks = Vec::with_capacity(config.depth);
        for (i, rate) in DropPath::rates(config.drop_path, config.depth).enumerate() {
            let scope = &mut scope.scope(&format!("blocks.{i}"));
            blocks.push(Block::new(scope, &config.block(rate))?);
        }
        let norm = |scope: &mut Scope<'_>, name| {
            LayerNorm::new(&mut scope.scope(name), width, config.layer_norm_eps)
        };
        // Before the pooling or after it, as its name says.
        let before = (!config.has_fc_norm()).then(|| norm(scope, "norm"));
        let attention_pool = match config.pool {
            Pool::Map => {
                let mlp = MlpConfig { layer: MlpLayer::Mlp, dropout: 0.0, ..config.mlp() };
                let (heads, eps) = (config.heads, config.layer_norm_eps);
                Some(AttentionPool::new(&mut scope.scope("attn_pool"), heads, eps, &mlp)?)
            }
            _ => None,
        };
        let norm = before.unwrap_or_else(|| norm(scope, "fc_norm"));
        let features = match config.pool {
            Pool::ClassTokenAndMean => 2 * width,
            _ => width,
        };
        let mut head = |name| {
            Linear::new(&mut scope.scope(name), features, config.classes, &weight, Some(&bias))
        };
        Ok(Self {
            head: head("head")?,
            distilled: config.distilled.then(|| head("head_dist")).transpose()?,
            config: config.clone(),
            prefix,
            positions,
            patch_embedding,
            embedding_dropout,
            blocks,
            norm,
            attention_pool,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    fn saves_last_block(&self) -> bool {
        let VitConfig { last_block_saving, pool, distilled, rope_type, .. } = self.config;
        last_block_saving
            && pool == Pool::ClassToken
            && !distilled
            && rope_type == RopeType::Off
            && self.blocks.last().is_some_and(Block::has_forward_first)
    }

    /// The learned positions `[1, P + M, D]` of a grid of patches: those of another than the model's own are weighted
    /// sums of these, as timm resamples them.
    fn positions(&self, pass: &Pass<'_>, to: (usize, usize)) -> Result<Option<Var>> {
        let Some(id) = self.positions else { return Ok(None) };
        let from = self.config.grid();
        if from == to {
            return pass.parameter(id).map(Some);
        }
        let (prefix, width) = (self.config.prefix_positions(), self.config.width);
        let shape = [from.0, from.1 * width];
        let own = pass.parameter_rows(id, prefix, from.0 * from.1, &shape)?;
        // Down, then across: `weights[to, from]` of the one axis, the same for each of `times` rows.
        let weights = |from: usize, to: usize, times: usize| -> Result<Var> {
            let mut each = vec![0.0; from * from];
            each.iter_mut().step_by(from + 1).for_each(|weight| *weight = 1.0);
            let grids = Grids { prefix: 0, from: (1, from), to: (1, to), width: from };
            let weights = resample_positions(&each, grids).repeat(times);
            let weights = Tensor::from_slice(&weights, &[times, to, from], own.value().device())?;
            Ok(pass.constant(weights.to_dtype(pass.dtype())?))
        };
        let down = weights(from.0, to.0, 1)?.reshape(&[to.0, from.0])?.matmul(&own)?;
        let down = down.reshape(&[to.0, from.1, width])?;
        let patches = [1, to.0 * to.1, width];
        let resampled = weights(from.1, to.1, to.0)?.matmul(&down)?.reshape(&patches)?;
        Ok(Some(match prefix {
            0 => resampled,
            _ => {
                let first = pass.parameter_rows(id, 0, prefix, &[1, prefix, width])?;
                Var::concat(&[&first, &resampled], 1)?
            }
        }))
    }

    /// The cosines and sines of all patches' angles: for each of a quarter of a head's columns `2π·y/period`, then
    /// `2π·x/period`, with periods from 1 up to the temperature.
    fn rotation(
        &self,
        pass: &Pass<'_>,
        (rows, columns): (usize, usize),
        like: &Tensor,
    ) -> Result<Option<Rotation>> {
        let VitConfig { width, heads, rope_type, rope_temperature, .. } = self.config;
        if rope_type == RopeType::Off {
            return Ok(None);
        }
        let quarter = width / heads / 4;
        let middle = |i: usize, of: usize| 2.0 * (i as f64 + 0.5) / of as f64 - 1.0;
        let places = (0..rows * columns)
            .flat_map(|patch| [middle(patch / columns, rows), middle(patch % columns, columns)]);
        let period = |k: usize| rope_temperature.powf(k as f64 / quarter as f64);
        let angles: Vec<f64> =
            places.flat_map(|place| (0..quarter).map(move |k| TAU * place / period(k))).collect();
        let of = |function: fn(f64) -> f64| -> Result<Tensor> {
            let values: Vec<f64> = angles.iter().map(|&angle| function(angle)).collect();
            let values =
                Tensor::from_slice(&values, &[rows * columns, 2 * quarter], like.device())?;
            Ok(values.to_dtype(pass.dtype().accumulator())?)
        };
        Ok(Some(Rotation { cos: of(f64::cos)?, sin: of(f64::sin)?, heads: 2 * heads }))
    }
}

impl Model for VisionTransformer {
    fn input(&self) -> InputSpec {
        self.config.input()
    }

    fn takes(&self, size: (usize, usize)) -> bool {
        let (rows, columns) = self.config.patch_size;
        self.patch_embedding.takes(size) && (size.0 / rows) * (size.1 / columns) <= MOST_PATCHES
    }

    fn settings(&self) -> Result<Table> {
        Ok(ModelConfig::Vit(self.config.clone()).table()?)
    }

    fn forward(&self, pass: &Pass<'_>, images: &Var) -> Result<Output> {
        self.classify(pass, &self.features(pass, images)?)
    }

    fn token_grid(&self) -> Option<TokenGrid> {
        let (prefix, (rows, columns)) = (self.config.prefix_tokens(), self.config.grid());
        let reads_first = matches!(self.config.pool, Pool::ClassToken | Pool::ClassTokenAndMean);
        Some(TokenGrid { prefix, rows, columns, reads_first })
    }

    fn headed(&self) -> Option<&dyn Headed> {
        Some(self)
    }

    fn head(&self) -> &'static [&'static str] {
        Self::HEAD
    }

    /// timm's groups: embedding, blocks, and what comes after them; a norm before the pooling counts to the last block.
    fn layer(&self, parameter: &str) -> usize {
        match parameter.split_once('.') {
            Some(("blocks", rest)) => {
                let number = rest.split('.').next().and_then(|number| number.parse().ok());
                number.map_or(0, |number: usize| number + 1)
            }
            Some(("norm", _)) => self.config.depth,
            Some(("fc_norm" | "attn_pool" | "head" | "head_dist", _)) => self.config.depth + 1,
            _ => 0,
        }
    }
}

impl Headed for VisionTransformer {
    /// `[B, D]`, or `[B, 2D]` where there are two heads, or where one reads class token and mean. What lies between
    /// images and logits has the type that the parameters are computed in.
    fn features(&self, pass: &Pass<'_>, images: &Var) -> Result<Var> {
        let rounded = match images.value().dtype() == pass.dtype().accumulator() {
            true => Some(images.to_dtype(pass.dtype())?),
            false => None, // Of the pass's type, or none that fits: the first product tells.
        };
        let images = rounded.as_ref().unwrap_or(images);
        let prefix: Vec<Var> =
            self.prefix.iter().map(|&id| pass.parameter(id)).collect::<Result<_>>()?;
        let patches = self.patch_embedding.forward(pass, images)?; // [B, M, D]
        let (rows, columns) = self.config.patch_size;
        let grid = (images.shape()[2] / rows, images.shape()[3] / columns);
        let positions = self.positions(pass, grid)?;
        let mask = pass.mask(&self.embedding_dropout);
        let each: Vec<&Var> = prefix.iter().collect();
        let mut x = patches.embed_tokens(&each, positions.as_ref(), mask)?; // [B, N, D]
        drop(patches);
        let rotation = self.rotation(pass, grid, x.value())?;
        let places = Places { rotation, ..Places::default() };
        for (i, block) in (1..).zip(&self.blocks) {
            let last = i == self.blocks.len();
            let saves = last && self.saves_last_block() && !pass.explains();
            let tokens = if saves { Tokens::First } else { Tokens::All };
            // [B, N, D], at last [B, 1, D]
            x = block.run(pass, &x, &places, tokens, self.config.recompute)?;
        }
        let (batch, width) = (x.shape()[0], self.config.width);
        let first = |x: &Var, count: usize| -> Result<Var> {
            Ok(x.narrow(1, 0, count)?.reshape(&[batch, count * width])?)
        };
        let patches = |x: &Var| x.narrow(1, self.config.prefix_tokens(), grid.0 * grid.1);
        let normed = |x: &Var| self.norm.forward(pass, x);
        match self.config.pool {
            // The norm of a token is the same before and after the others are left out.
            Pool::ClassToken if self.config.distilled => first(&normed(&x.narrow(1, 0, 2)?)?, 2),
            Pool::ClassToken => normed(&first(&x, 1)?),
            Pool::Mean if self.config.has_fc_norm() => normed(&patches(&x)?.mean_axis(1)?),
            Pool::Mean => Ok(normed(&patches(&x)?)?.mean_axis(1)?),
            Pool::ClassTokenAndMean => {
                let x = normed(&x)?;
                Ok(Var::concat(&[&first(&x, 1)?, &patches(&x)?.mean_axis(1)?], 1)?)
            }
            Pool::Map => {
                let pool = |x: &Var| match &self.attention_pool {
                    Some(pool) => pool.forward(pass, x),
                    None => Ok(x.clone()),
                };
                match self.config.has_fc_norm() {
                    true => normed(&pool(&patches(&x)?)?),
                    false => pool(&normed(&patches(&x)?)?),
                }
            }
        }
    }

    fn classify(&self, pass: &Pass<'_>, features: &Var) -> Result<Output> {
        let width = self.config.width;
        let logits = |head: &Linear, features: &Var| -> Result<Var> {
            Ok(head.forward(pass, features)?.to_dtype(pass.dtype().accumulator())?) // [B, K]
        };
        Ok(match &self.distilled {
            None => logits(&self.head, features)?.into(),
            Some(distilled) => Output {
                logits: logits(&self.head, &features.narrow(1, 0, width)?)?,
                distilled: Some(logits(distilled, &features.narrow(1, width, width)?)?),
            },
        })
    }
}
