//! Residual networks (He et al. 2016a, "Deep residual learning for image recognition"), with the stride of a bottleneck
//! in its 3×3 convolution, as torchvision and timm have it. Between images and logits, channels are last.

use vitrine_autodiff::Var;
use vitrine_nn::settings::{self, Fallback, Kind, Range, SettingError, size};
use vitrine_nn::{
    Activation, BatchNorm, Convolution, Headed, Init, InputSpec, Linear, Model, Output, Pass,
    Result, Scope, Table, Windows, recompute,
};

use crate::images;
use crate::registry::{self, ModelConfig};

vitrine_nn::choices! {
    /// The form of a residual block.
    ResidualBlock {
        /// Two 3×3 convolutions.
        Basic = "basic",
        /// 1×1, 3×3 and 1×1, the last with four times the channels.
        Bottleneck = "bottleneck",
    }
}

vitrine_nn::choices! {
    /// How the first weights of convolutions are drawn.
    ConvolutionInit {
        /// N(0, 2/fan_out) (He et al. 2015); the classifier as PyTorch.
        Kaiming = "kaiming",
        /// U(−b, b) with b = √(6/(fan_in + fan_out)) (Glorot and Bengio 2010), the classifier too.
        Xavier = "xavier",
    }
}

use Fallback::{Open, Required, Toml};
use Kind::{Bool, Channels, Choice, Integer, Integers, Name, Number, Size};

vitrine_nn::settings! {
    /// Sizes and options of a residual network: section `[model]` of the family `resnet`.
    ResNetConfig in "model" {
        /// a named model; keys beside it override it
        preset: Option<String> = Name(registry::preset_names), Open, also ["name", "variant", "arch"];
        /// height and width that images are resized to
        #[serde(with = "size")]
        image_size: (usize, usize) = Size(4096), Toml("224"), also ["img_size", "resolution"];
        /// channels of an image; a single one is repeated if more are asked for
        channels: usize = Integer(1, 1024), Toml("1"), also ["in_chans"];
        /// subtracted from the pixels, which are in [0, 1]: a number, or a list with one a channel
        mean: Vec<f64> = Channels(Range::Closed(-1e3, 1e3)), Toml("0.0");
        /// what the pixels are then divided by: a number, or a list with one a channel
        std: Vec<f64> = Channels(Range::Above(0.0, 1e3)), Toml("1.0");
        /// number of classes
        classes: usize = Integer(2, 1_000_000), Toml("10"), also ["num_classes", "n_classes"];
        /// the form of the residual blocks
        block: ResidualBlock = Choice(ResidualBlock::NAMES), Required;
        /// channels of the stem and of the first stage's 3×3 convolutions
        width: usize = Integer(1, 4096), Toml("64"), also ["stem_width", "base_width"];
        /// blocks of each stage; a stage has twice the channels of the one before, and half its height and width
        layers: Vec<usize> = Integers(1, 1024), Required, also ["depths", "num_layers"];
        /// biases of the convolutions
        conv_bias: bool = Bool, Toml("false"), also ["bias"];
        /// batch norm on the shortcuts that have a convolution
        downsample_norm: bool = Bool, Toml("true");
        /// whether a block's last batch norm is drawn as zeros, so that it begins as its shortcut
        zero_init_last: bool = Bool, Toml("true"), also ["zero_init_residual"];
        /// added to the variance in batch norm
        batch_norm_eps: f64 = Number(Range::Open(0.0, 1.0)), Toml("1e-5"), also ["bn_eps"];
        /// the share by which each training step moves the running statistics
        batch_norm_momentum: f64 = Number(Range::Closed(0.0, 1.0)), Toml("0.1"), also ["bn_momentum"];
        /// how the first weights of convolutions are drawn
        init: ConvolutionInit = Choice(ConvolutionInit::NAMES), Toml("\"kaiming\""), also ["weight_init"];
        /// run the blocks again in backward, to save memory; the result is the same
        recompute: bool = Bool, Toml("false"), also ["activation_checkpointing"];
    }
}

impl ResNetConfig {
    /// Checks every key alone and all of them together.
    pub fn validate(&self) -> Result<(), SettingError> {
        settings::check(self, Self::KEYS)?;
        if self.layers.len() > 8 {
            let reason = "there can be 8 stages at most".to_owned();
            let value = format!("{:?}", self.layers);
            return Err(SettingError::conflict("model.layers", value, reason));
        }
        images::check(self.channels, &self.mean, &self.std)
    }

    /// What the model takes, and how many classes it tells apart.
    pub fn input(&self) -> InputSpec {
        images::spec(self.image_size, self.channels, &self.mean, &self.std, self.classes)
    }

    /// Channels of what each stage gives.
    pub fn outputs(&self) -> Vec<usize> {
        (0..self.layers.len()).map(|stage| (self.width << stage) * self.expansion()).collect()
    }

    /// Channels of what a block of a stage gives, over those of its 3×3 convolutions.
    fn expansion(&self) -> usize {
        match self.block {
            ResidualBlock::Basic => 1,
            ResidualBlock::Bottleneck => 4,
        }
    }

    fn convolution(
        &self,
        scope: &mut Scope<'_>,
        name: &str,
        channels: [usize; 2],
        kernel: usize,
        stride: usize,
    ) -> Convolution {
        let windows = Windows {
            kernel: (kernel, kernel),
            stride: (stride, stride),
            padding: (kernel / 2, kernel / 2),
        };
        let weight = match self.init {
            ConvolutionInit::Kaiming => Init::KaimingNormal,
            ConvolutionInit::Xavier => Init::XavierUniform,
        };
        let bias = self.conv_bias.then_some(Init::TORCH);
        Convolution::new(&mut scope.scope(name), channels, windows, &weight, bias.as_ref())
    }

    fn norm(&self, scope: &mut Scope<'_>, name: &str, channels: usize, weight: f64) -> BatchNorm {
        let Self { batch_norm_eps, batch_norm_momentum, .. } = *self;
        let scope = &mut scope.scope(name);
        BatchNorm::new(scope, channels, weight, batch_norm_eps, batch_norm_momentum)
    }
}

/// `relu(x + branch(x))`, where a convolution may stand in for x.
#[derive(Clone, Debug)]
struct Block {
    /// Convolutions with the norms after them; all but the last are followed by ReLU.
    branch: Vec<(Convolution, BatchNorm)>,
    shortcut: Option<(Convolution, Option<BatchNorm>)>,
}

impl Block {
    /// Declares `conv1`, `bn1` and so on, and `downsample` where stride or channels change.
    fn new(
        scope: &mut Scope<'_>,
        config: &ResNetConfig,
        channels: usize,
        inner: usize,
        stride: usize,
    ) -> Self {
        let outputs = inner * config.expansion();
        let branch: &[(usize, usize, usize)] = match config.block {
            ResidualBlock::Basic => &[(3, stride, inner), (3, 1, inner)],
            ResidualBlock::Bottleneck => &[(1, 1, inner), (3, stride, inner), (1, 1, outputs)],
        };
        let mut before = channels;
        let mut layers = Vec::new();
        for (i, &(kernel, stride, after)) in (1..).zip(branch) {
            let name = format!("conv{i}");
            let convolution = config.convolution(scope, &name, [before, after], kernel, stride);
            let zero = i == branch.len() && config.zero_init_last;
            let weight = if zero { 0.0 } else { 1.0 };
            layers.push((convolution, config.norm(scope, &format!("bn{i}"), after, weight)));
            before = after;
        }
        let shortcut = (stride != 1 || channels != outputs).then(|| {
            let scope = &mut scope.scope("downsample");
            let convolution = config.convolution(scope, "0", [channels, outputs], 1, stride);
            let norm = config.downsample_norm.then(|| config.norm(scope, "1", outputs, 1.0));
            (convolution, norm)
        });
        Self { branch: layers, shortcut }
    }

    /// `[B, H, W, C]` to `[B, H', W', C']`.
    fn forward(&self, pass: &Pass<'_>, x: &Var) -> Result<Var> {
        let relu = Some(Activation::Relu);
        let shortcut = match &self.shortcut {
            None => x.clone(),
            Some((convolution, None)) => convolution.forward(pass, x)?,
            Some((convolution, Some(norm))) => {
                norm.forward_after(convolution, pass, x, None, None)?
            }
        };
        let mut x = x.clone();
        for (i, (convolution, norm)) in (1..).zip(&self.branch) {
            let residual = (i == self.branch.len()).then_some(&shortcut);
            x = norm.forward_after(convolution, pass, &x, residual, relu)?;
        }
        Ok(x)
    }
}

/// A residual network.
#[derive(Clone, Debug)]
pub struct ResNet {
    config: ResNetConfig,
    stem: (Convolution, BatchNorm),
    blocks: Vec<Block>,
    head: Linear,
    /// The names' beginnings of the blocks, such as `layer1.0.`.
    names: Vec<String>,
}

impl ResNet {
    /// What the names of the parameters that tell the classes apart begin with.
    pub const HEAD: &[&str] = &["fc."];

    /// Declares all parameters and buffers under torchvision's names, which are timm's, in their order.
    pub fn new(scope: &mut Scope<'_>, config: &ResNetConfig) -> Result<Self> {
        config.validate()?;
        let stem = (
            config.convolution(scope, "conv1", [config.channels, config.width], 7, 2),
            config.norm(scope, "bn1", config.width, 1.0),
        );
        let (mut blocks, mut names, mut channels) = (Vec::new(), Vec::new(), config.width);
        for (stage, &count) in config.layers.iter().enumerate() {
            for i in 0..count {
                let name = format!("layer{}.{i}", stage + 1);
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let inner = config.width << stage;
                blocks.push(Block::new(&mut scope.scope(&name), config, channels, inner, stride));
                names.push(name + ".");
                channels = inner * config.expansion();
            }
        }
        let weight = match config.init {
            ConvolutionInit::Kaiming => Init::TORCH,
            ConvolutionInit::Xavier => Init::XavierUniform,
        };
        let bias = Some(&Init::TORCH);
        let head = Linear::new(&mut scope.scope("fc"), channels, config.classes, &weight, bias)?;
        Ok(Self { config: config.clone(), stem, blocks, head, names })
    }
}

impl Model for ResNet {
    fn input(&self) -> InputSpec {
        self.config.input()
    }

    /// The mean over all pixels has one size.
    fn takes(&self, (height, width): (usize, usize)) -> bool {
        height > 0 && width > 0
    }

    fn settings(&self) -> Result<Table> {
        Ok(ModelConfig::Resnet(self.config.clone()).table()?)
    }

    fn forward(&self, pass: &Pass<'_>, images: &Var) -> Result<Output> {
        self.classify(pass, &self.features(pass, images)?)
    }

    fn headed(&self) -> Option<&dyn Headed> {
        Some(self)
    }

    fn head(&self) -> &'static [&'static str] {
        Self::HEAD
    }

    /// The stem is 0, then each block one more, and the classifier the last.
    fn layer(&self, parameter: &str) -> usize {
        match self.names.iter().position(|name| parameter.starts_with(name)) {
            Some(block) => block + 1,
            None if parameter.starts_with("fc.") => self.names.len() + 1,
            None => 0,
        }
    }
}

impl Headed for ResNet {
    /// `[B, F]`, F the channels of the last stage: the mean over all pixels.
    fn features(&self, pass: &Pass<'_>, images: &Var) -> Result<Var> {
        let x = images.to_dtype(pass.dtype())?.permute(&[0, 2, 3, 1])?; // [B, H, W, C]
        let (convolution, norm) = &self.stem;
        let x = norm.forward_after(convolution, pass, &x, None, Some(Activation::Relu))?;
        let mut x = x.max_pool(&Windows { kernel: (3, 3), stride: (2, 2), padding: (1, 1) })?;
        for block in &self.blocks {
            x = match self.config.recompute {
                false => block.forward(pass, &x)?,
                true => {
                    let block = block.clone();
                    recompute(pass, &x, move |pass, x| block.forward(pass, x))?
                }
            };
        }
        let &[batch, height, width, channels] = x.shape() else { return Ok(x) };
        Ok(x.reshape(&[batch, height * width, channels])?.mean_axis(1)?)
    }

    fn classify(&self, pass: &Pass<'_>, features: &Var) -> Result<Output> {
        let logits = self.head.forward(pass, features)?; // [B, K]
        Ok(logits.to_dtype(pass.dtype().accumulator())?.into())
    }
}
