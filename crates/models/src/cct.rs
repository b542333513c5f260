//! Compact transformers (Hassani et al. 2021, "Escaping the big data paradigm with compact transformers"): tokens from
//! convolutions (CCT) or from patches (CVT), and a learned mean over them in place of a class token.

use vitrine_autodiff::Var;
use vitrine_nn::settings::{self, Fallback, Kind, Range, SettingError, size};
use vitrine_nn::{
    Activation, AttentionConfig, Convolution, DropPath, Dropout, Epilogue, Headed, Init, InputSpec,
    LayerNorm, Linear, Model, MultiHeadAttention, Output, ParameterId, Pass, Places, Result, Scope,
    Table, TokenGrid, Windows, recompute,
};

use crate::block::join;
use crate::config::{PosEmbed, SHARE};
use crate::images;
use crate::registry::{self, ModelConfig};

vitrine_nn::choices! {
    /// What makes tokens of an image.
    Tokenizer {
        /// Convolutions, each followed by ReLU and by max pooling of 3×3 pixels, two pixels apart.
        Convolution = "convolution",
        /// One convolution whose kernel and stride are a patch, with a bias.
        Patch = "patch",
    }
}

use Fallback::{Open, Required, Toml};
use Kind::{Bool, Channels, Choice, Integer, Name, Number, Size};

vitrine_nn::settings! {
    /// Sizes and options of a compact transformer: section `[model]` of the family `cct`.
    CctConfig in "model" {
        /// a named model; keys beside it override it
        preset: Option<String> = Name(registry::preset_names), Open, also ["name", "variant", "arch"];
        /// height and width that images are resized to
        #[serde(with = "size")]
        image_size: (usize, usize) = Size(4096), Toml("32"), also ["img_size", "resolution"];
        /// channels of an image; a single one is repeated if more are asked for
        channels: usize = Integer(1, 1024), Toml("1"), also ["in_chans", "n_input_channels"];
        /// subtracted from the pixels, which are in [0, 1]: a number, or a list with one a channel
        mean: Vec<f64> = Channels(Range::Closed(-1e3, 1e3)), Toml("0.0");
        /// what the pixels are then divided by: a number, or a list with one a channel
        std: Vec<f64> = Channels(Range::Above(0.0, 1e3)), Toml("1.0");
        /// number of classes
        classes: usize = Integer(2, 1_000_000), Toml("10"), also ["num_classes", "n_classes"];
        /// what makes tokens of an image
        tokenizer: Tokenizer = Choice(Tokenizer::NAMES), Toml("\"convolution\"");
        /// height and width of a convolution's kernel, or of a patch, in pixels
        kernel_size: usize = Integer(1, 4096), Toml("3"), also ["patch_size"];
        /// pixels from one window of a convolution to the next; those of patches lie side by side
        stride: usize = Integer(1, 4096), Toml("1");
        /// rows and columns of zeros around the image of a convolution; patches have none
        padding: usize = Integer(0, 4096), Toml("1");
        /// convolutions, one after the other; there is one for patches
        conv_layers: usize = Integer(1, 16), Toml("1"), also ["n_conv_layers"];
        /// channels between convolutions
        conv_width: usize = Integer(1, 65_536), Toml("64"), also ["in_planes"];
        /// length of a token, D
        width: usize = Integer(1, 65_536), Required, also ["dim", "embedding_dim", "hidden_size"];
        /// number of blocks
        depth: usize = Integer(1, 1024), Required, also ["blocks", "layers", "num_layers"];
        /// attention heads; they divide the width
        heads: usize = Integer(1, 65_536), Required, also ["num_heads", "n_heads"];
        /// length of the MLP's hidden layer, over that of a token
        mlp_ratio: f64 = Number(Range::Above(0.0, 1e3)), Toml("2.0");
        /// learned positions
        pos_embed: PosEmbed = Choice(PosEmbed::NAMES), Toml("\"learn\""), also ["positional_embedding"];
        /// dropout after the positions, after the attention's projection and after both linear maps of the MLP
        dropout: f64 = SHARE, Toml("0.0"), also ["drop_rate"];
        /// dropout on the attention weights
        attention_dropout: f64 = SHARE, Toml("0.1"), also ["attn_drop", "attn_dropout"];
        /// share of images that the last block's branches are left out for in training; earlier blocks' by even steps
        /// less, down to 0 at the first
        drop_path: f64 = SHARE, Toml("0.0"), also ["drop_path_rate", "stochastic_depth"];
        /// added to the variance in layer norm
        layer_norm_eps: f64 = Number(Range::Open(0.0, 1.0)), Toml("1e-5");
        /// run the blocks again in backward, to save memory; the result is the same
        recompute: bool = Bool, Toml("false"), also ["activation_checkpointing"];
    }
}

/// The authors' first weights.
const WEIGHT: Init = Init::Normal { std: 0.02 };

/// Of the max pooling after a convolution.
const POOL: Windows = Windows { kernel: (3, 3), stride: (2, 2), padding: (1, 1) };

impl CctConfig {
    /// Checks every key alone and all of them together.
    pub fn validate(&self) -> Result<(), SettingError> {
        settings::check(self, Self::KEYS)?;
        let conflict = |key, value: String, reason| Err(SettingError::conflict(key, value, reason));
        if !self.width.is_multiple_of(self.heads) {
            let reason = format!("the heads must divide `model.width = {}`", self.width);
            return conflict("model.heads", self.heads.to_string(), reason);
        }
        if self.grid().is_none() {
            let reason = "no window of the tokenizer fits into it".to_owned();
            return conflict("model.image_size", size::text(self.image_size), reason);
        }
        images::check(self.channels, &self.mean, &self.std)
    }

    /// What the model takes, and how many classes it tells apart.
    pub fn input(&self) -> InputSpec {
        images::spec(self.image_size, self.channels, &self.mean, &self.std, self.classes)
    }

    /// The windows of each of the tokenizer's convolutions.
    fn windows(&self) -> Windows {
        let kernel = (self.kernel_size, self.kernel_size);
        match self.tokenizer {
            Tokenizer::Patch => Windows::patches(kernel),
            Tokenizer::Convolution => Windows {
                kernel,
                stride: (self.stride, self.stride),
                padding: (self.padding, self.padding),
            },
        }
    }

    fn convolutions(&self) -> usize {
        if self.tokenizer == Tokenizer::Patch { 1 } else { self.conv_layers }
    }

    /// Rows and columns of tokens; `None` if there are none.
    pub fn grid(&self) -> Option<(usize, usize)> {
        let pools = self.tokenizer == Tokenizer::Convolution;
        (0..self.convolutions()).try_fold(self.image_size, |(height, width), _| {
            let (height, width) = self.windows().count(height, width)?;
            if pools { POOL.count(height, width) } else { Some((height, width)) }
        })
    }
}

/// `x = norm1(x + attention(pre_norm(x)))`, `x = x + linear2(gelu(linear1(x)))`
#[derive(Clone, Debug)]
struct Block {
    pre_norm: LayerNorm,
    attention: MultiHeadAttention,
    norm: LayerNorm,
    linear1: Linear,
    linear2: Linear,
    dropouts: [Dropout; 2],
    drop_paths: [DropPath; 2],
}

impl Block {
    fn new(scope: &mut Scope<'_>, config: &CctConfig, drop_path: f64) -> Result<Self> {
        let CctConfig { width, heads, dropout, attention_dropout, layer_norm_eps, .. } = *config;
        let hidden = (width as f64 * config.mlp_ratio) as usize;
        let attention = AttentionConfig {
            attention_dropout,
            projection_dropout: dropout,
            weight: WEIGHT,
            qkv_bias: None,
            projection_bias: Some(Init::ZEROS),
            ..AttentionConfig::new(width, heads)
        };
        let zeros = Some(&Init::ZEROS);
        Ok(Self {
            pre_norm: LayerNorm::new(&mut scope.scope("pre_norm"), width, layer_norm_eps),
            attention: MultiHeadAttention::new(&mut scope.scope("self_attn"), &attention)?,
            linear1: Linear::new(&mut scope.scope("linear1"), width, hidden, &WEIGHT, zeros)?,
            norm: LayerNorm::new(&mut scope.scope("norm1"), width, layer_norm_eps),
            linear2: Linear::new(&mut scope.scope("linear2"), hidden, width, &WEIGHT, zeros)?,
            dropouts: [Dropout::new(scope, dropout)?, Dropout::new(scope, dropout)?],
            drop_paths: [DropPath::new(scope, drop_path, 1)?, DropPath::new(scope, drop_path, 1)?],
        })
    }

    /// `[B, N, D]` to `[B, N, D]`.
    fn forward(&self, pass: &Pass<'_>, x: &Var) -> Result<Var> {
        let normed = self.pre_norm.forward(pass, x)?;
        let x = join(pass, &self.drop_paths[0], None, x, |residual| {
            self.attention.forward(pass, &normed, &Places::default(), residual)
        })?;
        let x = self.norm.forward(pass, &x)?;
        let [inner, outer] = self.dropouts.each_ref().map(|dropout| pass.mask(dropout));
        let activation = Some(Activation::GeluErf);
        let epilogue = Epilogue { activation, dropout: inner, ..Epilogue::default() };
        let hidden = self.linear1.forward_with(pass, &x, &epilogue)?;
        join(pass, &self.drop_paths[1], None, &x, |residual| {
            let epilogue = Epilogue { dropout: outer, residual, ..Epilogue::default() };
            self.linear2.forward_with(pass, &hidden, &epilogue)
        })
    }
}

/// A compact transformer.
#[derive(Clone, Debug)]
pub struct CompactTransformer {
    config: CctConfig,
    convolutions: Vec<Convolution>,
    positions: Option<ParameterId>,
    dropout: Dropout,
    attention_pool: Linear,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl CompactTransformer {
    /// What the names of the parameters that tell the classes apart begin with.
    pub const HEAD: &[&str] = &["classifier.fc."];

    /// Declares all parameters under the authors' names.
    pub fn new(scope: &mut Scope<'_>, config: &CctConfig) -> Result<Self> {
        config.validate()?;
        let CctConfig { width, layer_norm_eps, .. } = *config;
        let count = config.convolutions();
        let bias = (config.tokenizer == Tokenizer::Patch).then_some(Init::TORCH);
        let mut convolutions = Vec::with_capacity(count);
        let mut channels = config.channels;
        for i in 0..count {
            let outputs = if i + 1 == count { width } else { config.conv_width };
            let scope = &mut scope.scope(&format!("tokenizer.conv_layers.{i}.0"));
            let (windows, weight) = (config.windows(), &Init::KaimingNormal);
            let both = [channels, outputs];
            convolutions.push(Convolution::new(scope, both, windows, weight, bias.as_ref()));
            channels = outputs;
        }
        let mut scope = scope.scope("classifier");
        let (rows, columns) = config.grid().unwrap_or((0, 0));
        let places = [1, rows * columns, width];
        let positions = (config.pos_embed == PosEmbed::Learn)
            .then(|| scope.vector("positional_emb", &places, &Init::Normal { std: 0.2 }, width));
        let zeros = Some(&Init::ZEROS);
        let attention_pool =
            Linear::new(&mut scope.scope("attention_pool"), width, 1, &WEIGHT, zeros)?;
        let dropout = Dropout::new(&mut scope, config.dropout)?;
        let blocks = DropPath::rates(config.drop_path, config.depth)
            .enumerate()
            .map(|(i, rate)| Block::new(&mut scope.scope(&format!("blocks.{i}")), config, rate))
            .collect::<Result<_>>()?;
        let norm = LayerNorm::new(&mut scope.scope("norm"), width, layer_norm_eps);
        let head = Linear::new(&mut scope.scope("fc"), width, config.classes, &WEIGHT, zeros)?;
        let config = config.clone();
        Ok(Self { config, convolutions, positions, dropout, attention_pool, blocks, norm, head })
    }
}

impl Model for CompactTransformer {
    fn input(&self) -> InputSpec {
        self.config.input()
    }

    fn settings(&self) -> Result<Table> {
        Ok(ModelConfig::Cct(self.config.clone()).table()?)
    }

    fn forward(&self, pass: &Pass<'_>, images: &Var) -> Result<Output> {
        self.classify(pass, &self.features(pass, images)?)
    }

    fn token_grid(&self) -> Option<TokenGrid> {
        let (rows, columns) = self.config.grid()?;
        Some(TokenGrid { prefix: 0, rows, columns, reads_first: false })
    }

    fn headed(&self) -> Option<&dyn Headed> {
        Some(self)
    }

    fn head(&self) -> &'static [&'static str] {
        Self::HEAD
    }

    /// Tokenizer and positions are 0, then each block one more, and what comes after them the last.
    fn layer(&self, parameter: &str) -> usize {
        let mut parts = parameter.split('.').skip(1);
        match (parts.next(), parts.next().and_then(|part| part.parse::<usize>().ok())) {
            (Some("blocks"), Some(block)) => block + 1,
            (Some("attention_pool" | "norm" | "fc"), _) => self.config.depth + 1,
            _ => 0,
        }
    }
}

impl Headed for CompactTransformer {
    /// `[B, D]`: the mean over the tokens, each weighed by what it holds (Hassani et al. 2021, section 3.2, "SeqPool").
    fn features(&self, pass: &Pass<'_>, images: &Var) -> Result<Var> {
        let mut x = images.to_dtype(pass.dtype())?.permute(&[0, 2, 3, 1])?; // [B, H, W, C]
        for convolution in &self.convolutions {
            x = convolution.forward(pass, &x)?;
            if self.config.tokenizer == Tokenizer::Convolution {
                x = x.activate(Activation::Relu)?.max_pool(&POOL)?;
            }
        }
        let &[batch, height, width, depth] = x.shape() else { return Ok(x) };
        let tokens = height * width;
        let positions = self.positions.map(|id| pass.parameter(id)).transpose()?;
        let x = x.reshape(&[batch, tokens, depth])?;
        let mut x = x.embed_tokens(&[], positions.as_ref(), pass.mask(&self.dropout))?;
        for block in &self.blocks {
            x = match self.config.recompute {
                false => block.forward(pass, &x)?,
                true => {
                    let block = block.clone();
                    recompute(pass, &x, move |pass, x| block.forward(pass, x))?
                }
            };
        }
        let x = self.norm.forward(pass, &x)?;
        let scores = self.attention_pool.forward(pass, &x)?.reshape(&[batch, 1, tokens])?;
        Ok(scores.softmax()?.matmul(&x)?.reshape(&[batch, depth])?)
    }

    fn classify(&self, pass: &Pass<'_>, features: &Var) -> Result<Output> {
        let logits = self.head.forward(pass, features)?; // [B, K]
        Ok(logits.to_dtype(pass.dtype().accumulator())?.into())
    }
}
