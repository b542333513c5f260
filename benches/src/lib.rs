//! What the benchmarks share: the textbook model's sizes, its products, and inputs that are the same in every run.
//! The benchmarks themselves are in `benches/`, one file a group.
//!
//! ```
//! use vitrine_benches::{BATCH, ProductShape, normal, textbook};
//!
//! let config = textbook();
//! let [qkv, ..] = ProductShape::of_block(&config);
//! assert_eq!((qkv.inputs, qkv.outputs), (512, 1536));
//! assert_eq!(BATCH * config.tokens(), 128 * 37);
//! assert_eq!(normal(1, &[2, 3])?.to_vec::<f32>()?, normal(1, &[2, 3])?.to_vec::<f32>()?);
//! # Ok::<(), vitrine_tensor::Error>(())
//! ```

mod peak;

pub use peak::{Peak, peaks};
use vitrine_models::VitConfig;
use vitrine_tensor::{Device, Dropout, Result, StreamKey, Tensor};

/// Images in a batch of the `d2l` recipe.
pub const BATCH: usize = 128;

/// A batch so small that what a step costs beside its arithmetic shows.
pub const SMALL_BATCH: usize = 8;

/// The seed of everything that is drawn.
pub const SEED: u64 = 0;

/// The model of the `d2l` recipe.
pub fn textbook() -> VitConfig {
    VitConfig::preset("d2l").expect("d2l is a built-in preset")
}

/// One of the four linear layers of a block, or the one before all blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductShape {
    /// The layer's name in the model, `qkv`, `proj`, `fc1` or `fc2`; or `patch`.
    pub name: &'static str,
    /// The width I of its input.
    pub inputs: usize,
    /// The width O of its output.
    pub outputs: usize,
}

impl ProductShape {
    /// The four products of a block, in the order in which it makes them.
    pub fn of_block(config: &VitConfig) -> [Self; 4] {
        let (width, hidden) = (config.width, config.mlp_width);
        [
            Self { name: "qkv", inputs: width, outputs: 3 * width },
            Self { name: "proj", inputs: width, outputs: width },
            Self { name: "fc1", inputs: width, outputs: hidden },
            Self { name: "fc2", inputs: hidden, outputs: width },
        ]
    }

    /// The product that makes tokens of patches.
    pub fn of_patches(config: &VitConfig) -> Self {
        let (height, width) = config.patch_size;
        Self { name: "patch", inputs: config.channels * height * width, outputs: config.width }
    }

    /// Floating-point operations for so many rows: forward, or either of the two gradients.
    pub fn flops(&self, rows: usize) -> u64 {
        flops(rows, self.inputs, self.outputs)
    }
}

/// Floating-point operations of a matrix product `[M, K]` by `[K, N]`: a multiplication and an addition each.
pub fn flops(m: usize, k: usize, n: usize) -> u64 {
    2 * (m * k * n) as u64
}

/// The bytes of these tensors: what an operation that reads or writes each of them once moves at least.
pub fn bytes(tensors: &[&Tensor]) -> u64 {
    tensors.iter().map(|tensor| (tensor.elements() * tensor.dtype().size()) as u64).sum()
}

/// A tensor of `f32` from N(0, 1), as activations are after a layer norm. Each stream gives other values.
pub fn normal(stream: u32, shape: &[usize]) -> Result<Tensor> {
    tensor(key(stream).normal().take(shape.iter().product()).collect(), shape)
}

/// A tensor of `f32` from U(0, 1), as images are. Each stream gives other values.
pub fn uniform(stream: u32, shape: &[usize]) -> Result<Tensor> {
    tensor(key(stream).uniform().take(shape.iter().product()).collect(), shape)
}

/// Labels `[batch]`: each class in turn.
pub fn labels(batch: usize, classes: usize) -> Result<Tensor> {
    let labels: Vec<i64> = (0..batch).map(|i| (i % classes.max(1)) as i64).collect();
    Tensor::from_slice(&labels, &[batch], &Device::cpu())
}

/// A dropout mask with this probability.
pub fn mask(stream: u32, probability: f64) -> Dropout {
    Dropout::new(probability, key(stream))
}

fn key(stream: u32) -> StreamKey {
    StreamKey { seed: SEED, step: 0, stream }
}

fn tensor(values: Vec<f64>, shape: &[usize]) -> Result<Tensor> {
    let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
    Tensor::from_slice(&values, shape, &Device::cpu())
}

#[cfg(test)]
mod tests {
    use vitrine_models::VisionTransformer;
    use vitrine_nn::ParameterBuilder;
    use vitrine_tensor::DType;

    use super::*;

    #[test]
    fn the_products_are_those_of_the_model() {
        let config = textbook();
        let mut builder = ParameterBuilder::new(SEED);
        VisionTransformer::new(&mut builder.scope(""), &config).unwrap();
        let parameters = builder.build(DType::F32, &Device::cpu()).unwrap();
        let names = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"];
        for (product, name) in ProductShape::of_block(&config).iter().zip(names) {
            assert!(name.ends_with(product.name));
            let weight = parameters.find(&format!("blocks.0.{name}.weight")).unwrap();
            let weight = parameters.value(weight).unwrap();
            assert_eq!(weight.shape(), [product.outputs, product.inputs]);
        }
    }

    #[test]
    fn flops_add_up_to_the_published_step() {
        // 1.44 GFLOP an image for a training step, matrix products only, forward ×3.
        let config = textbook();
        let (tokens, width) = (config.tokens(), config.width);
        let block: u64 = ProductShape::of_block(&config).iter().map(|p| p.flops(tokens)).sum();
        let attention = 2 * flops(tokens, width, tokens);
        let patches = ProductShape::of_patches(&config).flops(config.patches());
        let rest = patches + flops(1, width, config.classes);
        let step = 3 * (config.depth as u64 * (block + attention) + rest);
        assert_eq!((step as f64 / 1e7).round(), 144.0);
    }

    #[test]
    fn inputs_have_their_range_and_streams_differ() {
        let values = |tensor: Result<Tensor>| tensor.unwrap().to_vec::<f32>().unwrap();
        let images = values(uniform(1, &[4, 100]));
        assert!(images.iter().all(|value| (0.0..=1.0).contains(value)));
        assert!(values(normal(1, &[400])).iter().any(|value| *value < 0.0));
        assert_ne!(values(normal(1, &[400])), values(normal(2, &[400])));
        assert_eq!(labels(5, 3).unwrap().to_vec::<i64>().unwrap(), [0, 1, 2, 0, 1]);
    }

    #[test]
    fn bytes_count_the_element_type() {
        let pair = [&normal(1, &[3, 5]).unwrap(), &labels(7, 2).unwrap()];
        assert_eq!(bytes(&pair), 15 * 4 + 7 * 8);
    }
}
