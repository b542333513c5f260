//! Sizes and options of a Vision Transformer.

use vitrine_nn::settings::{self, Fallback, Kind, Range, SettingError, size};
use vitrine_nn::{Activation, AttentionConfig, Init, InputSpec, LoraConfig, MlpConfig, MlpLayer};

use crate::block::BlockConfig;
use crate::images;
use crate::registry::{self, ModelConfig};

vitrine_nn::choices! {
    /// What the classifier reads.
    Pool {
        /// A learned token in front of the patches (timm's `global_pool="token"`).
        ClassToken = "class-token",
        /// The mean over the patches (timm's `"avg"`).
        Mean = "mean",
        /// One beside the other (Oquab et al. 2024, "DINOv2", for its linear classifiers).
        ClassTokenAndMean = "class-token-and-mean",
        /// Attention of one learned query to all patches (timm's `"map"`).
        Map = "map",
    }
}

vitrine_nn::choices! {
    /// The learned positions.
    PosEmbed {
        /// One a token, added to it.
        Learn = "learn",
        /// There are none.
        Off = "none",
    }
}

vitrine_nn::choices! {
    /// The rotary positions, by which queries and keys of patches are turned (Su et al. 2021).
    RopeType {
        /// There are none.
        Off = "none",
        /// By the place of the patch's middle, from −1 to 1 in height and in width (Siméoni et al. 2025, "DINOv3").
        DinoV3 = "dinov3",
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

/// The kind of a key that is a probability of dropping something.
pub(crate) const SHARE: Kind = Number(Range::Below(0.0, 1.0));

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
        /// share of images that the last block's branches are left out for in training; earlier blocks' by even steps
        /// less, down to 0 at the first
        drop_path: f64 = SHARE, Toml("0.0"), also ["drop_path_rate", "stochastic_depth"];
        /// biases of the query, key and value projections
        qkv_bias: bool = Bool, Toml("true"), also ["use_bias", "bias"];
        /// whether keys have one of them
        key_bias: bool = Bool, Toml("true");
        /// layer norm of each head's queries and keys
        qk_norm: bool = Bool, Toml("false");
        /// bias of the attention's output projection
        projection_bias: bool = Bool, Toml("true"), also ["proj_bias"];
        /// form of the MLP; with a gate, its length is that of each half
        mlp_layer: MlpLayer = Choice(MlpLayer::NAMES), Toml("\"mlp\"");
        /// first value of each block's factors for its two branches (LayerScale); without it, there are none
        init_values: Option<f64> = Number(Range::Closed(0.0, 1e3)), Open, also ["layer_scale", "layerscale_value"];
        /// take images of other sizes as well, for which learned positions are resampled
        dynamic_img_size: bool = Bool, Toml("false");
        /// a learned token in front of the patches; without this key, where the head reads it
        class_token: Option<bool> = Bool, Open;
        /// a second token and head, which learn from a teacher (DeiT)
        distilled: bool = Bool, Toml("false");
        /// tokens in front of the patches that nobody reads (registers)
        reg_tokens: usize = Integer(0, 1024), Toml("0"), also ["num_reg_tokens", "num_register_tokens"];
        /// learned positions
        pos_embed: PosEmbed = Choice(PosEmbed::NAMES), Toml("\"learn\"");
        /// learned positions for the patches alone
        no_embed_class: bool = Bool, Toml("false");
        /// rotary positions
        rope_type: RopeType = Choice(RopeType::NAMES), Toml("\"none\"");
        /// largest period of the rotary positions, nearly
        rope_temperature: f64 = Number(Range::Above(0.0, 1e9)), Toml("100.0"), also ["rope_theta"];
        /// what the head reads
        pool: Pool = Choice(Pool::NAMES), Toml("\"class-token\""), also ["pooling", "global_pool"];
        /// the norm after the pooling, not before; without this key, where the mean is read
        fc_norm: Option<bool> = Bool, Open, also ["use_fc_norm"];
        /// the form of GELU
        gelu: Gelu = Choice(Gelu::NAMES), Toml("\"erf\""), also ["activation"];
        /// added to the variance in layer norm
        layer_norm_eps: f64 = Number(Range::Open(0.0, 1.0)), Toml("1e-6");
        /// whose initial weights
        init: Initialisation = Choice(Initialisation::NAMES), Toml("\"torch\""), also ["weight_init"];
        /// rank of what is added to queries and values when the rest is frozen (LoRA); 0 for nothing
        lora_rank: usize = Integer(0, 1024), Toml("0"), also ["lora_r"];
        /// what is added is scaled by this number over the rank
        lora_alpha: f64 = Number(Range::Above(0.0, 1e6)), Toml("16.0");
        /// skip what the head does not read in the last block; the result is the same
        last_block_saving: bool = Bool, Toml("true");
        /// run the blocks again in backward, to save memory; the result is the same
        recompute: bool = Bool, Toml("false"), also ["activation_checkpointing"];
    }
}

/// More patches than this make attention matrices that no machine holds.
pub const MOST_PATCHES: usize = 65_536;

impl VitConfig {
    /// A preset by name (see [`crate::preset_names`]), with the defaults of the keys that it leaves open.
    pub fn preset(name: &str) -> Option<Self> {
        match ModelConfig::preset(name)? {
            ModelConfig::Vit(config) => Some(config),
            _ => None,
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
        if self.rope_type != RopeType::Off && !(self.width / self.heads).is_multiple_of(4) {
            let each = self.width / self.heads;
            let reason = format!("a head's width must be a multiple of 4, and is {each}");
            return conflict("model.rope_type", self.rope_type.to_string(), reason);
        }
        if self.reads_class_token() && !self.has_class_token() {
            let reason = format!("`model.pool = \"{}\"` reads the class token", self.pool);
            return conflict("model.class_token", "false".to_owned(), reason);
        }
        if self.has_fc_norm() && self.pool == Pool::ClassTokenAndMean {
            let reason = format!("with `model.pool = \"{}\"` the norm comes before", self.pool);
            return conflict("model.fc_norm", "true".to_owned(), reason);
        }
        if self.distilled && self.pool != Pool::ClassToken {
            let reason = format!("with `model.pool = \"{}\"` there is no second head", self.pool);
            return conflict("model.distilled", "true".to_owned(), reason);
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
        images::check(self.channels, &self.mean, &self.std)
    }

    /// What the model takes, and how many classes it tells apart.
    pub fn input(&self) -> InputSpec {
        images::spec(self.image_size, self.channels, &self.mean, &self.std, self.classes)
    }

    /// The number of patches M of an image.
    pub fn patches(&self) -> usize {
        self.image_size.0 / self.patch_size.0.max(1)
            * (self.image_size.1 / self.patch_size.1.max(1))
    }

    /// Height and width of an image, in patches.
    pub fn grid(&self) -> (usize, usize) {
        (self.image_size.0 / self.patch_size.0, self.image_size.1 / self.patch_size.1)
    }

    fn reads_class_token(&self) -> bool {
        matches!(self.pool, Pool::ClassToken | Pool::ClassTokenAndMean)
    }

    /// Whether there is a class token.
    pub fn has_class_token(&self) -> bool {
        self.class_token.unwrap_or(self.reads_class_token())
    }

    /// Whether the norm comes after the pooling.
    pub fn has_fc_norm(&self) -> bool {
        self.fc_norm.unwrap_or(self.pool == Pool::Mean)
    }

    /// The number of tokens P in front of the patches.
    pub fn prefix_tokens(&self) -> usize {
        usize::from(self.has_class_token()) + usize::from(self.distilled) + self.reg_tokens
    }

    /// The number of tokens N = P + M.
    pub fn tokens(&self) -> usize {
        self.prefix_tokens() + self.patches()
    }

    /// Those of the tokens in front that have a learned position.
    pub fn prefix_positions(&self) -> usize {
        if self.no_embed_class { 0 } else { self.prefix_tokens() }
    }

    pub(crate) fn block(&self, drop_path: f64) -> BlockConfig {
        let Self { layer_norm_eps, init_values, .. } = *self;
        let (attention, mlp, windows) = (self.attention(), self.mlp(), 1);
        BlockConfig { attention, mlp, layer_norm_eps, init_values, drop_path, windows }
    }

    fn attention(&self) -> AttentionConfig {
        let bias = self.bias_init();
        let lora = LoraConfig { rank: self.lora_rank, alpha: self.lora_alpha };
        AttentionConfig {
            width: self.width,
            heads: self.heads,
            attention_dropout: self.attention_dropout,
            projection_dropout: 0.0,
            weight: self.weight_init(),
            qkv_bias: self.qkv_bias.then(|| bias.clone()),
            key_bias: self.key_bias,
            qk_norm: self.qk_norm.then_some(self.layer_norm_eps),
            window: None,
            lora: (lora.rank > 0).then_some(lora),
            projection_bias: self.projection_bias.then_some(bias),
        }
    }

    pub(crate) fn mlp(&self) -> MlpConfig {
        MlpConfig {
            layer: self.mlp_layer,
            width: self.width,
            hidden: self.mlp_width,
            activation: match self.gelu {
                Gelu::Erf => Activation::GeluErf,
                Gelu::Tanh => Activation::GeluTanh,
            },
            dropout: self.dropout,
            weight: self.weight_init(),
            bias: self.bias_init(),
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
