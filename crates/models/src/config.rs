//! Sizes and options of a Vision Transformer.

use vitrine_nn::settings::{self, Fallback, Kind, Range, SettingError, size};
use vitrine_nn::{Activation, Init};

use crate::registry::{self, ModelConfig};

vitrine_nn::choices! {
    /// What the classifier reads.
    Pool {
        /// A learned token in front of the patches, after the final norm.
        ClassToken = "class-token",
        /// The mean over the patches, then the norm; there is no class token (timm's `global_pool="avg"`).
        Mean = "mean",
    }
}

vitrine_nn::choices! {
    /// The form of GELU (Hendrycks and Gimpel 2016).
    Gelu {
        /// Exact, with the error function.
        Erf = "erf",
        /// The approximation with tanh.
        Tanh = "tanh",
    }
}

vitrine_nn::choices! {
    /// How the first weights are drawn.
    Initialisation {
        /// PyTorch's defaults: U(−1/√in, 1/√in); positions N(0, 1).
        Torch = "torch",
        /// Flax's defaults: lecun-normal weights, zero biases; positions N(0, 0.01²).
        Flax = "flax",
    }
}

use Fallback::{Open, Required, Toml};
use Kind::{Bool, Channels, Choice, Integer, Name, Number, Size};

const SHARE: Kind = Number(Range::Below(0.0, 1.0));

vitrine_nn::settings! {
    /// Sizes and options of a Vision Transformer: section `[model]` of the family `vit`.
    VitConfig in "model" {
        /// a named model; keys beside it override it
        preset: Option<String> = Name(registry::preset_names), Open, also ["name", "variant", "arch"];
        /// height and width that images are resized to
        #[serde(with = "size")]
        image_size: (usize, usize) = Size(4096), Required, also ["img_size", "resolution"];
        /// height and width of a patch
        #[serde(with = "size")]
        patch_size: (usize, usize) = Size(4096), Required, also ["patch"];
        /// channels of an image; a single one is repeated if more are asked for
        channels: usize = Integer(1, 1024), Toml("1"), also ["in_chans"];
        /// subtracted from the pixels, which are in [0, 1]: a number, or a list with one a channel
        mean: Vec<f64> = Channels(Range::Closed(-1e3, 1e3)), Toml("0.0");
        /// what the pixels are then divided by: a number, or a list with one a channel
        std: Vec<f64> = Channels(Range::Above(0.0, 1e3)), Toml("1.0");
        /// number of classes
        classes: usize = Integer(2, 1_000_000), Toml("10"), also ["num_classes", "n_classes"];
        /// length of a token, D
        width: usize = Integer(1, 65_536), Required, also ["dim", "embed_dim", "hidden_size", "num_hiddens", "d_model"];
        /// number of blocks
        depth: usize = Integer(1, 1024), Required, also ["blocks", "layers", "num_layers", "num_blks"];
        /// attention heads; they divide the width
        heads: usize = Integer(1, 65_536), Required, also ["num_heads", "n_heads"];
        /// length of the MLP's hidden layer
        mlp_width: usize = Integer(1, 262_144), Required, also ["mlp_dim", "mlp_hidden", "mlp_num_hiddens"];
        /// dropout after both linear maps of the MLP
        dropout: f64 = SHARE, Toml("0.0"), also ["mlp_dropout", "blk_dropout", "drop_rate", "proj_drop"];
        /// dropout on the attention weights
        attention_dropout: f64 = SHARE, Toml("0.0"), also ["attn_drop", "attn_dropout"];
        /// dropout after the positions are added
        embedding_dropout: f64 = SHARE, Toml("0.0"), also ["emb_dropout", "pos_drop", "position_dropout"];
        /// biases of the query, key and value projections
        qkv_bias: bool = Bool, Toml("true"), also ["use_bias", "bias"];
        /// bias of the attention's output projection
        projection_bias: bool = Bool, Toml("true"), also ["proj_bias"];
        /// what the head reads
        pool: Pool = Choice(Pool::NAMES), Toml("\"class-token\""), also ["pooling", "global_pool"];
        /// the form of GELU
        gelu: Gelu = Choice(Gelu::NAMES), Toml("\"erf\""), also ["activation"];
        /// added to the variance in layer norm
        layer_norm_eps: f64 = Number(Range::Open(0.0, 1.0)), Toml("1e-6");
        /// whose initial weights
        init: Initialisation = Choice(Initialisation::NAMES), Toml("\"torch\""), also ["weight_init"];
        /// skip what the head does not read in the last block; the result is the same
        last_block_saving: bool = Bool, Toml("true");
        /// run the blocks again in backward, to save memory; the result is the same
        recompute: bool = Bool, Toml("false"), also ["activation_checkpointing"];
    }
}

/// More patches than this make attention matrices that no machine holds.
const MOST_PATCHES: usize = 65_536;

impl VitConfig {
    /// A preset by name (see [`crate::preset_names`]), with the defaults of the keys that it leaves open.
    pub fn preset(name: &str) -> Option<Self> {
        match ModelConfig::preset(name)? {
            ModelConfig::Vit(config) => Some(config),
        }
    }

    /// Checks every key alone and all of them together.
    pub fn validate(&self) -> Result<(), SettingError> {
        settings::check(self, Self::KEYS)?;
        let conflict = |key, value: String, reason| Err(SettingError::conflict(key, value, reason));
        if !self.width.is_multiple_of(self.heads) {
            let reason = format!("the heads must divide `model.width = {}`", self.width);
            return conflict("model.heads", self.heads.to_string(), reason);
        }
        let (image, patch) = (self.image_size, self.patch_size);
        let [image_text, patch_text] = [image, patch].map(size::text);
        if !image.0.is_multiple_of(patch.0) || !image.1.is_multiple_of(patch.1) {
            let reason = format!(
                "the patch must divide `model.image_size = {image_text}` in both directions"
            );
            return conflict("model.patch_size", patch_text, reason);
        }
        if self.patches() > MOST_PATCHES {
            let reason = format!(
                "it cuts an image of `model.image_size = {image_text}` into {} patches; \
                 at most {MOST_PATCHES} are allowed",
                self.patches()
            );
            return conflict("model.patch_size", patch_text, reason);
        }
        for (key, numbers) in [("model.mean", &self.mean), ("model.std", &self.std)] {
            if numbers.len() != 1 && numbers.len() != self.channels {
                let reason = format!(
                    "it must be one number, or one for each of `model.channels = {}`",
                    self.channels
                );
                return conflict(key, format!("{numbers:?}"), reason);
            }
        }
        Ok(())
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

    pub(crate) fn activation(&self) -> Activation {
        match self.gelu {
            Gelu::Erf => Activation::GeluErf,
            Gelu::Tanh => Activation::GeluTanh,
        }
    }

    pub(crate) fn weight_init(&self) -> Init {
        match self.init {
            Initialisation::Torch => Init::TORCH,
            Initialisation::Flax => Init::LecunNormal,
        }
    }

    pub(crate) fn bias_init(&self) -> Init {
        match self.init {
            Initialisation::Torch => Init::TORCH,
            Initialisation::Flax => Init::ZEROS,
        }
    }

    pub(crate) fn position_init(&self) -> Init {
        match self.init {
            Initialisation::Torch => Init::Normal { std: 1.0 },
            Initialisation::Flax => Init::Normal { std: 0.01 },
        }
    }
}
