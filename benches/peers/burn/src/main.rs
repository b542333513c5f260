//! The training step in burn, to time `vitrine bench train-step` against: the step and the options of
//! `torch_step.py`, on burn's CPU backend flex (its ndarray backend is deprecated in favour of it).
//!
//! Attention is burn's fused one in the forward pass alone; it knows no dropout, so training composes it. Patches are
//! cut and multiplied. bf16 is bf16 throughout, parameters too; flex widens each product's operands to f32.

#[path = "../../timing.rs"]
mod timing;

use burn::module::{Initializer, Param};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Dropout, DropoutConfig, Gelu, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::prelude::*;
use burn::tensor::activation::softmax;
use burn::tensor::module::attention;
use burn::tensor::{Distribution, FloatDType};
use timing::{Given, LEARNING_RATE, Sizes, not_available};

#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    dropout: Dropout,
    heads: usize,
}

impl Block {
    fn new(sizes: &Sizes, device: &Device) -> Self {
        let linear = |from, to, bias| LinearConfig::new(from, to).with_bias(bias).init(device);
        let norm = || LayerNormConfig::new(sizes.width).with_epsilon(1e-5).init(device);
        Self {
            norm1: norm(),
            qkv: linear(sizes.width, 3 * sizes.width, sizes.attention_bias),
            proj: linear(sizes.width, sizes.width, sizes.attention_bias),
            norm2: norm(),
            fc1: linear(sizes.width, sizes.mlp_width, true),
            fc2: linear(sizes.mlp_width, sizes.width, true),
            dropout: DropoutConfig::new(sizes.dropout).init(),
            heads: sizes.heads,
        }
    }

    fn attention(&self, x: Tensor<3>) -> Tensor<3> {
        let training = x.device().is_autodiff();
        let [batch, tokens, width] = x.dims();
        let length = width / self.heads;
        let qkv = self.qkv.forward(x).reshape([batch, tokens, 3, self.heads, length]);
        let qkv = qkv.permute([2, 0, 3, 1, 4]);
        let [q, k, v] = [0, 1, 2].map(|part| qkv.clone().narrow(0, part, 1).squeeze_dim::<4>(0));
        let x = if training {
            let scores = q.matmul(k.transpose()) * (length as f64).powf(-0.5);
            self.dropout.forward(softmax(scores, 3)).matmul(v)
        } else {
            attention(q, k, v, None, None, Default::default())
        };
        self.proj.forward(x.swap_dims(1, 2).reshape([batch, tokens, width]))
    }

    fn mlp(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.dropout.forward(Gelu::new().forward(self.fc1.forward(x)));
        self.dropout.forward(self.fc2.forward(x))
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.attention(self.norm1.forward(x));
        x.clone() + self.mlp(self.norm2.forward(x))
    }
}

#[derive(Module, Debug)]
struct Vit {
    patch: Linear,
    cls_token: Param<Tensor<3>>,
    pos_embed: Param<Tensor<3>>,
    dropout: Dropout,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
    patch_size: usize,
}

impl Vit {
    fn new(sizes: &Sizes, device: &Device) -> Self {
        let width = sizes.width;
        let positions = Initializer::Normal { mean: 0.0, std: 1.0 };
        Self {
            patch: LinearConfig::new(sizes.patch_length(), width).init(device),
            cls_token: Initializer::Zeros.init([1, 1, width], device),
            pos_embed: positions.init([1, sizes.patches() + 1, width], device),
            dropout: DropoutConfig::new(sizes.dropout).init(),
            blocks: (0..sizes.blocks).map(|_| Block::new(sizes, device)).collect(),
            norm: LayerNormConfig::new(width).with_epsilon(1e-5).init(device),
            head: LinearConfig::new(width, sizes.classes).init(device),
            patch_size: sizes.patch,
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let [batch, channels, height, _] = images.dims();
        let (patch, side) = (self.patch_size, height / self.patch_size);
        let x = images.reshape([batch, channels, side, patch, side, patch]);
        let x = x.permute([0, 2, 4, 1, 3, 5]);
        let x = self.patch.forward(x.reshape([batch, side * side, channels * patch * patch]));
        let token = self.cls_token.val().repeat_dim(0, batch);
        let x = Tensor::cat(vec![token, x], 1) + self.pos_embed.val();
        let mut x = self.dropout.forward(x);
        for block in &self.blocks {
            x = block.forward(x);
        }
        let x = x.narrow(1, 0, 1).squeeze_dim::<2>(1);
        self.head.forward(self.norm.forward(x))
    }
}

fn main() {
    let given = Given::from_command_line();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(given.threads).build_global();
    pool.expect("no other pool was built before");
    let mut device = Device::flex();
    if given.bf16
        && let Err(error) = device.configure(FloatDType::BF16)
    {
        not_available(&format!("burn's flex backend refuses bf16: {error}"));
    }
    let sizes = &given.sizes;
    let device = if given.forward { device } else { device.autodiff() };
    let mut model = Some(Vit::new(sizes, &device));
    assert_eq!(model.as_ref().map(Vit::num_params), Some(sizes.parameters), "parameters");
    let inputs = device.clone().inner();
    let shape = [given.batch_size, sizes.channels, sizes.image, sizes.image];
    let images = Tensor::<4>::random(shape, Distribution::Uniform(0.0, 1.0), &inputs);
    let labels = (0..given.batch_size).map(|index| (index % sizes.classes) as i64);
    let labels = Tensor::<1, Int>::from_data(labels.collect::<Vec<_>>().as_slice(), &device);
    let images = if given.forward { images } else { Tensor::from_inner(images) };
    let loss = CrossEntropyLossConfig::new().init(&device);
    let mut optimizer = SgdConfig::new().init();

    given.report(concat!("burn ", env!("CARGO_PKG_VERSION"), " (flex)"), || {
        let Some(vit) = model.take() else { return };
        let logits = vit.forward(images.clone());
        let vit = if given.forward {
            vit
        } else {
            let gradients = loss.forward(logits, labels.clone()).backward();
            let gradients = GradientsParams::from_grads(gradients, &vit);
            assert_eq!(gradients.len(), sizes.tensors(), "parameters with a gradient");
            optimizer.step(LEARNING_RATE, vit, gradients)
        };
        device.sync().expect("the device can be waited for");
        model = Some(vit);
    });
}
