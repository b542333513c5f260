//! The training step in candle, to time `vitrine bench train-step` against: the step and the options of
//! `torch_step.py`.
//!
//! Layer norm and softmax are candle's fused ones in the forward pass alone, and the composed ones in training: the
//! fused ones pass no gradient on. Patches are cut and multiplied, which is cheaper here than `Conv2d`. bf16 is bf16
//! throughout, parameters too; candle's CPU backend widens each product's operands to f32.

#[path = "../../timing.rs"]
mod timing;

use candle_core::{DType, Device, Module, Result, Tensor, D};
use candle_nn::{
    linear, linear_b, loss, ops, LayerNorm, Linear, Optimizer, VarBuilder, VarMap, SGD,
};
use timing::{not_available, Given, Sizes, LEARNING_RATE};

struct Norm {
    fused: LayerNorm,
    training: bool,
}

impl Norm {
    fn new(width: usize, training: bool, vb: VarBuilder) -> Result<Self> {
        Ok(Self { fused: candle_nn::layer_norm(width, 1e-5, vb)?, training })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match (self.training, self.fused.bias()) {
            (true, Some(bias)) => ops::layer_norm_slow(x, self.fused.weight(), bias, 1e-5),
            _ => self.fused.forward(x),
        }
    }
}

struct Block {
    norm1: Norm,
    qkv: Linear,
    proj: Linear,
    norm2: Norm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    dropout: Dropout,
}

#[derive(Clone, Copy)]
struct Dropout(f32);

impl Dropout {
    fn forward(self, x: Tensor) -> Result<Tensor> {
        if self.0 > 0.0 {
            ops::dropout(&x, self.0)
        } else {
            Ok(x)
        }
    }
}

impl Block {
    fn new(sizes: &Sizes, training: bool, dropout: Dropout, vb: VarBuilder) -> Result<Self> {
        let (width, mlp_width, bias) = (sizes.width, sizes.mlp_width, sizes.attention_bias);
        Ok(Self {
            norm1: Norm::new(width, training, vb.pp("norm1"))?,
            qkv: linear_b(width, 3 * width, bias, vb.pp("qkv"))?,
            proj: linear_b(width, width, bias, vb.pp("proj"))?,
            norm2: Norm::new(width, training, vb.pp("norm2"))?,
            fc1: linear(width, mlp_width, vb.pp("fc1"))?,
            fc2: linear(mlp_width, width, vb.pp("fc2"))?,
            heads: sizes.heads,
            dropout,
        })
    }

    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let length = width / self.heads;
        let qkv = self.qkv.forward(x)?.reshape((batch, tokens, 3, self.heads, length))?;
        let qkv = qkv.permute((2, 0, 3, 1, 4))?;
        let (q, k, v) = (qkv.get(0)?.contiguous()?, qkv.get(1)?, qkv.get(2)?.contiguous()?);
        let scores = (q.matmul(&k.t()?)? * (length as f64).powf(-0.5))?;
        let weights = match self.norm1.training {
            true => ops::softmax(&scores, D::Minus1)?,
            false => ops::softmax_last_dim(&scores)?,
        };
        let x = self.dropout.forward(weights)?.matmul(&v)?.transpose(1, 2)?;
        self.proj.forward(&x.reshape((batch, tokens, width))?)
    }

    fn mlp(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.dropout.forward(self.fc1.forward(x)?.gelu_erf()?)?;
        self.dropout.forward(self.fc2.forward(&x)?)
    }

    fn forward(&self, x: Tensor) -> Result<Tensor> {
        let x = (&x + self.attention(&self.norm1.forward(&x)?)?)?;
        &x + self.mlp(&self.norm2.forward(&x)?)?
    }
}

struct Vit {
    sizes: Sizes,
    patch: Linear,
    cls_token: Tensor,
    pos_embed: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
    head: Linear,
    dropout: Dropout,
}

impl Vit {
    fn new(sizes: Sizes, training: bool, vb: VarBuilder) -> Result<Self> {
        let width = sizes.width;
        let dropout = Dropout(if training { sizes.dropout as f32 } else { 0.0 });
        let normal = candle_nn::Init::Randn { mean: 0.0, stdev: 1.0 };
        let blocks = 0..sizes.blocks;
        let blocks = blocks
            .map(|index| Block::new(&sizes, training, dropout, vb.pp(format!("blocks.{index}"))));
        Ok(Self {
            patch: linear(sizes.patch_length(), width, vb.pp("patch_embed"))?,
            cls_token: vb.get_with_hints((1, 1, width), "cls_token", candle_nn::init::ZERO)?,
            pos_embed: vb.get_with_hints((1, sizes.patches() + 1, width), "pos_embed", normal)?,
            blocks: blocks.collect::<Result<_>>()?,
            norm: Norm::new(width, training, vb.pp("norm"))?,
            head: linear(width, sizes.classes, vb.pp("head"))?,
            dropout,
            sizes,
        })
    }

    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let Sizes { channels, patch, width, .. } = self.sizes;
        let (batch, side) = (images.dim(0)?, self.sizes.side());
        let x = images.reshape(&[batch, channels, side, patch, side, patch][..])?;
        let x = x.permute(vec![0, 2, 4, 1, 3, 5])?;
        let x = x.reshape((batch, self.sizes.patches(), self.sizes.patch_length()))?;
        let x = self.patch.forward(&x)?;
        let x = Tensor::cat(&[&self.cls_token.expand((batch, 1, width))?, &x], 1)?;
        let mut x = self.dropout.forward(x.broadcast_add(&self.pos_embed)?)?;
        for block in &self.blocks {
            x = block.forward(x)?;
        }
        let x = x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
        self.head.forward(&self.norm.forward(&x)?)
    }
}

fn main() -> Result<()> {
    let given = Given::from_command_line();
    // candle reads its number of threads from here. No other thread runs yet.
    std::env::set_var("RAYON_NUM_THREADS", given.threads.to_string());

    let device = Device::Cpu;
    let dtype = if given.bf16 { DType::BF16 } else { DType::F32 };
    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, dtype, &device);
    let (expected, classes) = (given.sizes.parameters, given.sizes.classes);
    let shape = (given.batch_size, given.sizes.channels, given.sizes.image, given.sizes.image);
    let images = Tensor::rand(0f32, 1f32, shape, &device)?.to_dtype(dtype)?;
    let labels = (0..given.batch_size).map(|index| (index % classes) as u32);
    let labels = Tensor::from_iter(labels, &device)?;
    let model = Vit::new(Sizes { ..given.sizes }, !given.forward, vb)?;
    let count: usize = variables.all_vars().iter().map(|variable| variable.elem_count()).sum();
    assert_eq!(count, expected, "parameters");
    let tensors = given.sizes.tensors();
    let mut optimizer = SGD::new(variables.all_vars(), LEARNING_RATE)?;

    let mut train_step = || -> Result<()> {
        let logits = model.forward(&images)?.to_dtype(DType::F32)?;
        let gradients = loss::cross_entropy(&logits, &labels)?.backward()?;
        let trained = variables.all_vars().iter().filter(|v| gradients.get(v).is_some()).count();
        assert_eq!(trained, tensors, "parameters with a gradient");
        optimizer.step(&gradients)
    };
    let mut step = || if given.forward { model.forward(&images).map(drop) } else { train_step() };
    // The first step tells whether the framework can do it at all.
    if let Err(error) = step() {
        not_available(&format!("candle cannot do this: {error}"));
    }
    given.report(concat!("candle ", env!("CARGO_PKG_VERSION")), || {
        step().expect("it did it before");
    });
    Ok(())
}
