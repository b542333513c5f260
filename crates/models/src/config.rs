//! Sizes and options of a Vision Transformer, and the table of presets.

use vitrine_nn::{Activation, Init};

/// What the classifier reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// A learned token in front of the patches, after the final norm.
    ClassToken,
    /// The mean over the patches, then the norm; there is no class token (timm's `global_pool="avg"`).
    Mean,
}

/// How the first weights are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initialisation {
    /// PyTorch's defaults, positions N(0, 1).
    Torch,
    /// Flax's defaults: lecun-normal weights, zero biases, positions N(0, 0.01²).
    Flax,
}

/// Sizes and options of a Vision Transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct VitConfig {
    /// Height and width of an image, in pixels.
    pub image_size: (usize, usize),
    /// Height and width of a patch, in pixels.
    pub patch_size: (usize, usize),
    /// Channels of an image.
    pub channels: usize,
    /// Classes K.
    pub classes: usize,
    /// The width D of a token.
    pub width: usize,
    /// The number of blocks.
    pub depth: usize,
    /// Attention heads of a block.
    pub heads: usize,
    /// Hidden units of a block's MLP.
    pub mlp_width: usize,
    /// Dropout in the MLP and after the attention's projection.
    pub dropout: f64,
    /// Dropout on the attention weights.
    pub attention_dropout: f64,
    /// Dropout on the embedded tokens.
    pub embedding_dropout: f64,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub projection_bias: bool,
    /// What the classifier reads.
    pub pool: Pool,
    /// The MLP's activation.
    pub activation: Activation,
    /// ε of all layer norms.
    pub layer_norm_eps: f64,
    /// How the first weights are drawn.
    pub initialisation: Initialisation,
    /// With a class token, compute the last block for that token alone, which is all the classifier reads. The result,
    /// every gradient and every mask are the same, but for rounding.
    pub last_block_saving: bool,
    /// Keep nothing but each block's input for backward, which runs the blocks again: less memory, a third more
    /// arithmetic, the same bits.
    pub recompute: bool,
}

/// Name, width, depth, heads of the published sizes (Touvron et al. 2021, table 1; Dosovitskiy et al. 2021, table 1).
const SIZES: [(&str, usize, usize, usize); 4] =
    [("ti", 192, 12, 3), ("s", 384, 12, 6), ("b", 768, 12, 12), ("l", 1024, 24, 16)];

impl VitConfig {
    /// A preset by name; see [`VitConfig::preset_names`].
    ///
    /// `d2l` is the model of Zhang et al., "Dive into Deep Learning", section "Transformers for Vision" (PyTorch tab);
    /// `d2l-jax` that of its JAX tab; `vit-s-16` is ViT-S with patches of 16 for ImageNet.
    pub fn preset(name: &str) -> Option<Self> {
        let d2l = Self {
            image_size: (96, 96),
            patch_size: (16, 16),
            channels: 1,
            classes: 10,
            width: 512,
            depth: 2,
            heads: 8,
            mlp_width: 2048,
            dropout: 0.1,
            attention_dropout: 0.1,
            embedding_dropout: 0.1,
            qkv_bias: false,
            projection_bias: false,
            pool: Pool::ClassToken,
            activation: Activation::GeluErf,
            layer_norm_eps: 1e-5,
            initialisation: Initialisation::Torch,
            last_block_saving: true,
            recompute: false,
        };
        match name {
            "d2l" => return Some(d2l),
            "d2l-jax" => {
                return Some(Self {
                    activation: Activation::GeluTanh,
                    layer_norm_eps: 1e-6,
                    initialisation: Initialisation::Flax,
                    ..d2l
                });
            }
            _ => {}
        }
        let (size, patch) = name.strip_prefix("vit-")?.split_once('-')?;
        let &(_, width, depth, heads) = SIZES.iter().find(|(known, ..)| *known == size)?;
        let patch = match patch {
            "16" => 16,
            "32" => 32,
            _ => return None,
        };
        Some(Self {
            image_size: (224, 224),
            patch_size: (patch, patch),
            channels: 3,
            classes: 1000,
            width,
            depth,
            heads,
            mlp_width: 4 * width,
            dropout: 0.0,
            attention_dropout: 0.0,
            embedding_dropout: 0.0,
            qkv_bias: true,
            projection_bias: true,
            layer_norm_eps: 1e-6,
            initialisation: Initialisation::Flax,
            ..d2l
        })
    }

    /// The names of all presets.
    pub fn preset_names() -> Vec<String> {
        let sizes = SIZES
            .iter()
            .flat_map(|(size, ..)| ["16", "32"].map(|patch| format!("vit-{size}-{patch}")));
        ["d2l", "d2l-jax"].map(str::to_owned).into_iter().chain(sizes).collect()
    }

    /// The number of patches M of an image.
    pub fn patches(&self) -> usize {
        self.image_size.0 / self.patch_size.0.max(1)
            * (self.image_size.1 / self.patch_size.1.max(1))
    }

    /// The number of tokens N: patches, and the class token where there is one.
    pub fn tokens(&self) -> usize {
        self.patches() + usize::from(self.pool == Pool::ClassToken)
    }

    pub(crate) fn weight_init(&self) -> Init {
        match self.initialisation {
            Initialisation::Torch => Init::TORCH,
            Initialisation::Flax => Init::LecunNormal,
        }
    }

    pub(crate) fn bias_init(&self) -> Init {
        match self.initialisation {
            Initialisation::Torch => Init::TORCH,
            Initialisation::Flax => Init::ZEROS,
        }
    }

    pub(crate) fn position_init(&self) -> Init {
        match self.initialisation {
            Initialisation::Torch => Init::Normal { std: 1.0 },
            Initialisation::Flax => Init::Normal { std: 0.01 },
        }
    }
}
