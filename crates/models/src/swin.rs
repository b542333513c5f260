//! The Swin Transformer (Liu et al. 2021): blocks whose attention sees windows, parted anew in every second block, and
//! stages between which four neighbours become one. Between images and logits, channels are last.
//!
//! A block works on the windows as a Vision Transformer's does on its tokens: norms and MLP take each token alone, so
//! it is parted before and put together after the whole block.

use vitrine_autodiff::Var;
use vitrine_nn::settings::{self, Fallback, Kind, Range, SettingError, size};
use vitrine_nn::{
    Activation, AttentionConfig, DropPath, Headed, Init, InputSpec, LayerNorm, Linear, MlpConfig,
    MlpLayer, Model, Output, Pass, PatchEmbedding, Places, Result, Scope, Table, WindowPairs,
};
use vitrine_tensor::Partition;

use crate::block::{Block, BlockConfig, Tokens};
use crate::config::SHARE;
use crate::images;
use crate::registry::{self, ModelConfig};

use Fallback::{Open, Required, Toml};
use Kind::{Bool, Channels, Integer, Integers, Name, Number, Size};

vitrine_nn::settings! {
    /// Sizes and options of a Swin Transformer: section `[model]` of the family `swin`.
    SwinConfig in "model" {
        /// a named model; keys beside it override it
        preset: Option<String> = Name(registry::preset_names), Open, also ["name", "variant", "arch"];
        /// height and width that images are resized to
        #[serde(with = "size")]
        image_size: (usize, usize) = Size(4096), Toml("224"), also ["img_size", "resolution"];
        /// height and width of a patch
        #[serde(with = "size")]
        patch_size: (usize, usize) = Size(4096), Toml("4"), also ["patch"];
        /// height and width of a window, in patches; a stage that is smaller is one window
        #[serde(with = "size")]
        window_size: (usize, usize) = Size(64), Toml("7"), also ["window"];
        /// channels of an image; a single one is repeated if more are asked for
        channels: usize = Integer(1, 1024), Toml("1"), also ["in_chans"];
        /// subtracted from the pixels, which are in [0, 1]: a number, or a list with one a channel
        mean: Vec<f64> = Channels(Range::Closed(-1e3, 1e3)), Toml("0.0");
        /// what the pixels are then divided by: a number, or a list with one a channel
        std: Vec<f64> = Channels(Range::Above(0.0, 1e3)), Toml("1.0");
        /// number of classes
        classes: usize = Integer(2, 1_000_000), Toml("10"), also ["num_classes", "n_classes"];
        /// length of a token in the first stage; each stage doubles it
        width: usize = Integer(1, 65_536), Required, also ["dim", "embed_dim", "hidden_size"];
        /// blocks of each stage
        depths: Vec<usize> = Integers(1, 1024), Required, also ["layers", "depth"];
        /// attention heads of each stage; they divide its width
        heads: Vec<usize> = Integers(1, 65_536), Required, also ["num_heads", "n_heads"];
        /// length of the MLP's hidden layer, over that of a token
        mlp_ratio: f64 = Number(Range::Above(0.0, 1e3)), Toml("4.0");
        /// biases of the query, key and value projections
        qkv_bias: bool = Bool, Toml("true"), also ["use_bias", "bias"];
        /// dropout after both linear maps of the MLP
        dropout: f64 = SHARE, Toml("0.0"), also ["drop_rate", "proj_drop"];
        /// dropout on the attention weights
        attention_dropout: f64 = SHARE, Toml("0.0"), also ["attn_drop", "attn_dropout"];
        /// share of images that the last block's branches are left out for in training; earlier blocks' by even steps
        /// less, down to 0 at the first
        drop_path: f64 = SHARE, Toml("0.0"), also ["drop_path_rate", "stochastic_depth"];
        /// added to the variance in layer norm
        layer_norm_eps: f64 = Number(Range::Open(0.0, 1.0)), Toml("1e-5");
        /// run the blocks again in backward, to save memory; the result is the same
        recompute: bool = Bool, Toml("false"), also ["activation_checkpointing"];
    }
}

/// timm's first weights.
const WEIGHT: Init = Init::Normal { std: 0.02 };

/// One stage: what comes out of it has this many rows and columns of tokens, of this width.
struct Stage {
    grid: (usize, usize),
    width: usize,
    window: (usize, usize),
    /// Where every second block's windows begin.
    shift: (usize, usize),
}

impl SwinConfig {
    /// Checks every key alone and all of them together.
    pub fn validate(&self) -> Result<(), SettingError> {
        settings::check(self, Self::KEYS)?;
        let conflict = |key, value: String, reason| Err(SettingError::conflict(key, value, reason));
        let (stages, heads) = (self.depths.len(), format!("{:?}", self.heads));
        if stages > 8 || self.heads.len() != stages {
            let reason = format!("there must be one for each of {stages} stages, 8 at most");
            return conflict("model.heads", heads, reason);
        }
        let (size, patch) = (self.image_size, self.patch_size);
        for (stage, (of_stage, &count)) in self.stages().iter().zip(&self.heads).enumerate() {
            if !of_stage.width.is_multiple_of(count) {
                let reason =
                    format!("the heads must divide the width {} of their stage", of_stage.width);
                return conflict("model.heads", heads, reason);
            }
            let along = |extent: usize, patch: usize, grid: usize, window: usize| {
                grid > 0 && extent == grid * (patch << stage) && grid.is_multiple_of(window)
            };
            let (grid, window) = (of_stage.grid, of_stage.window);
            if !along(size.0, patch.0, grid.0, window.0)
                || !along(size.1, patch.1, grid.1, window.1)
            {
                let reason = format!(
                    "in stage {} of {stages}, patches of {}x{} pixels must cover the image, and windows of {}x{} \
                     patches the stage",
                    stage + 1,
                    patch.0 << stage,
                    patch.1 << stage,
                    self.window_size.0,
                    self.window_size.1
                );
                return conflict("model.image_size", size::text(size), reason);
            }
        }
        images::check(self.channels, &self.mean, &self.std)
    }

    /// What the model takes, and how many classes it tells apart.
    pub fn input(&self) -> InputSpec {
        images::spec(self.image_size, self.channels, &self.mean, &self.std, self.classes)
    }

    fn stages(&self) -> Vec<Stage> {
        let along = |extent: usize, patch: usize, window: usize, stage: usize| {
            let grid = extent / (patch << stage).max(1);
            // A stage that is no larger than a window is one, and stays as it is.
            let whole = grid <= window;
            (grid, if whole { grid.max(1) } else { window }, if whole { 0 } else { window / 2 })
        };
        let stage = |i| {
            let down = along(self.image_size.0, self.patch_size.0, self.window_size.0, i);
            let across = along(self.image_size.1, self.patch_size.1, self.window_size.1, i);
            Stage {
                grid: (down.0, across.0),
                width: self.width << i,
                window: (down.1, across.1),
                shift: (down.2, across.2),
            }
        };
        (0..self.depths.len()).map(stage).collect()
    }

    /// Rows and columns of patches of each stage, and the window of its blocks.
    pub fn windows(&self) -> Vec<[(usize, usize); 2]> {
        self.stages().iter().map(|stage| [stage.grid, stage.window]).collect()
    }

    fn block(&self, stage: &Stage, heads: usize, drop_path: f64) -> BlockConfig {
        let mlp = MlpConfig {
            layer: MlpLayer::Mlp,
            width: stage.width,
            hidden: (stage.width as f64 * self.mlp_ratio) as usize,
            activation: Activation::GeluErf,
            dropout: self.dropout,
            weight: WEIGHT,
            bias: Init::ZEROS,
        };
        let attention = AttentionConfig {
            attention_dropout: self.attention_dropout,
            projection_dropout: self.dropout,
            weight: WEIGHT,
            qkv_bias: self.qkv_bias.then_some(Init::ZEROS),
            window: Some(stage.window),
            projection_bias: Some(Init::ZEROS),
            ..AttentionConfig::new(stage.width, heads)
        };
        let ((height, width), (p, q)) = (stage.grid, stage.window);
        let windows = height / p * (width / q);
        let layer_norm_eps = self.layer_norm_eps;
        BlockConfig { attention, mlp, layer_norm_eps, init_values: None, drop_path, windows }
    }
}

/// Four neighbours side by side, normed and mapped to twice the width (Liu et al. 2021, section 3.1).
#[derive(Clone, Copy, Debug)]
struct PatchMerging {
    norm: LayerNorm,
    reduction: Linear,
}

impl PatchMerging {
    /// Declares `norm` and `reduction.weight [2D, 4D]`.
    fn new(scope: &mut Scope<'_>, width: usize, epsilon: f64) -> Result<Self> {
        Ok(Self {
            norm: LayerNorm::new(&mut scope.scope("norm"), 4 * width, epsilon),
            reduction: Linear::new(
                &mut scope.scope("reduction"),
                4 * width,
                2 * width,
                &WEIGHT,
                None,
            )?,
        })
    }

    /// `[B, H, W, D]` to `[B, H/2, W/2, 2D]`: first the two of a column, then the next column's.
    fn forward(&self, pass: &Pass<'_>, x: &Var) -> Result<Var> {
        let &[batch, height, width, depth] = x.shape() else { return Ok(x.clone()) };
        let fours = x.reshape(&[batch, height / 2, 2, width / 2, 2, depth])?;
        let fours = fours.permute(&[0, 1, 3, 4, 2, 5])?;
        let fours = fours.reshape(&[batch, height / 2, width / 2, 4 * depth])?;
        self.reduction.forward(pass, &self.norm.forward(pass, &fours)?)
    }
}

/// A Swin Transformer.
#[derive(Clone, Debug)]
pub struct SwinTransformer {
    config: SwinConfig,
    patch_embedding: PatchEmbedding,
    patch_norm: LayerNorm,
    /// Each stage's way in, where there is one, and blocks.
    stages: Vec<(Option<PatchMerging>, Vec<Block>)>,
    norm: LayerNorm,
    head: Linear,
}

impl SwinTransformer {
    /// What the names of the parameters that tell the classes apart begin with.
    pub const HEAD: &[&str] = &["head."];

    /// Declares all parameters under timm's names, in timm's order.
    pub fn new(scope: &mut Scope<'_>, config: &SwinConfig) -> Result<Self> {
        config.validate()?;
        let (eps, zeros) = (config.layer_norm_eps, Init::ZEROS);
        let mut embed = scope.scope("patch_embed");
        let patch_embedding = PatchEmbedding::new(
            &mut embed,
            config.image_size,
            config.patch_size,
            config.channels,
            config.width,
            &Init::TORCH,
            &Init::TORCH,
        )?;
        let patch_norm = LayerNorm::new(&mut embed.scope("norm"), config.width, eps);
        let mut stages = Vec::new();
        let mut rates = DropPath::rates(config.drop_path, config.depths.iter().sum());
        for (i, stage) in config.stages().iter().enumerate() {
            let mut scope = scope.scope(&format!("layers.{i}"));
            let downsample = (i > 0)
                .then(|| PatchMerging::new(&mut scope.scope("downsample"), stage.width / 2, eps));
            let blocks = rates.by_ref().take(config.depths[i]).enumerate().map(|(block, rate)| {
                let scope = &mut scope.scope(&format!("blocks.{block}"));
                Block::new(scope, &config.block(stage, config.heads[i], rate))
            });
            stages.push((downsample.transpose()?, blocks.collect::<Result<_>>()?));
        }
        let width = config.width << (config.depths.len() - 1);
        Ok(Self {
            patch_embedding,
            patch_norm,
            stages,
            norm: LayerNorm::new(&mut scope.scope("norm"), width, eps),
            head: Linear::new(
                &mut scope.scope("head.fc"),
                width,
                config.classes,
                &WEIGHT,
                Some(&zeros),
            )?,
            config: config.clone(),
        })
    }
}

impl Model for SwinTransformer {
    fn input(&self) -> InputSpec {
        self.config.input()
    }

    fn settings(&self) -> Result<Table> {
        Ok(ModelConfig::Swin(self.config.clone()).table()?)
    }

    fn forward(&self, pass: &Pass<'_>, images: &Var) -> Result<Output> {
        self.classify(pass, &self.features(pass, images)?)
    }

    fn headed(&self) -> Option<&dyn Headed> {
        Some(self)
    }

    /// timm's groups: the embedding is 0, then each block one more, a stage's way in with its first; then the head. The
    /// last norm counts to the last block.
    fn layer(&self, parameter: &str) -> usize {
        let depths = &self.config.depths;
        let mut parts = parameter.split('.');
        let mut number = || parts.nth(1).and_then(|part| part.parse::<usize>().ok());
        match parameter.split('.').next() {
            Some("layers") => {
                let stage = number().unwrap_or(0);
                1 + depths[..stage].iter().sum::<usize>() + number().unwrap_or(0)
            }
            Some("norm") => depths.iter().sum(),
            Some("head") => depths.iter().sum::<usize>() + 1,
            _ => 0,
        }
    }
}

impl Headed for SwinTransformer {
    /// `[B, F]`, F the width of the last stage: the mean over all tokens.
    fn features(&self, pass: &Pass<'_>, images: &Var) -> Result<Var> {
        let images = images.to_dtype(pass.dtype())?;
        let (batch, device) = (images.shape()[0], images.value().device().clone());
        let mut x = self.patch_norm.forward(pass, &self.patch_embedding.forward(pass, &images)?)?;
        for (stage, (downsample, blocks)) in self.config.stages().iter().zip(&self.stages) {
            let (height, width) = stage.grid;
            match downsample {
                Some(merging) => x = merging.forward(pass, &x)?,
                None => x = x.reshape(&[batch, height, width, stage.width])?,
            }
            let ways = [(0, 0), stage.shift].map(|shift| Partition { window: stage.window, shift });
            let places = ways.each_ref().map(|partition| {
                let window = Some(WindowPairs::new(partition, stage.grid, &device)?);
                Ok::<_, vitrine_nn::Error>(Places { window, ..Places::default() })
            });
            let [plain, shifted] = places;
            let places = [plain?, shifted?];
            let images = [batch, height, width, stage.width];
            for (i, block) in blocks.iter().enumerate() {
                let (partition, places) = (&ways[i % 2], &places[i % 2]);
                let windows = x.window_partition(partition)?; // [B·M, N, D]
                let windows =
                    block.run(pass, &windows, places, Tokens::All, self.config.recompute)?;
                x = windows.window_reverse(partition, &images)?;
            }
        }
        let x = self.norm.forward(pass, &x)?;
        let &[_, height, width, depth] = x.shape() else { return Ok(x) };
        Ok(x.reshape(&[batch, height * width, depth])?.mean_axis(1)?)
    }

    fn classify(&self, pass: &Pass<'_>, features: &Var) -> Result<Output> {
        let logits = self.head.forward(pass, features)?; // [B, K]
        Ok(logits.to_dtype(pass.dtype().accumulator())?.into())
    }
}
