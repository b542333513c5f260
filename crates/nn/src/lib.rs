//! Layers, initialisers, losses, optimizers and learning-rate schedules for vision transformers.
//!
//! ```
//! use vitrine_nn::{Init, Linear, Optimizer, ParameterBuilder, Pass, Sgd};
//! use vitrine_tensor::{DType, Device, Tensor};
//!
//! let device = Device::cpu();
//! let mut builder = ParameterBuilder::new(0);
//! let layer = Linear::new(&mut builder.scope("head"), 3, 2, &Init::TORCH, Some(&Init::TORCH))?;
//! let parameters = builder.build(DType::F32, &device)?;
//! assert_eq!(parameters.names().collect::<Vec<_>>(), ["head.weight", "head.bias"]);
//!
//! let mut optimizer = Sgd::new(0.9, false, 0.0)?;
//! let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0], &[1, 3], &device)?;
//! let labels = Tensor::from_slice(&[1i64], &[1], &device)?;
//! for step in 0..3 {
//!     let pass = Pass::training(&parameters, 0, step);
//!     let logits = layer.forward(&pass, &pass.constant(x.clone()))?;
//!     let loss = logits.cross_entropy(&labels, 0.0)?;
//!     parameters.zero_grads()?;
//!     pass.backward(&loss)?;
//!     optimizer.step(&parameters, 0.1)?;
//! }
//! # Ok::<(), vitrine_nn::Error>(())
//! ```
//!
//! - [`Parameters`] holds all parameters of a model in one flat buffer, in declaration order, and their gradients in
//!   another; each named parameter is a view.
//! - A layer holds the ids of its parameters and no values, so it can be shared and costs nothing to copy.
//! - A [`Pass`] is one way through the model: for training (recorded, dropout on, its masks addressed by seed and step)
//!   or for inference.
//! - Parameter names and layouts are PyTorch's: `weight [out, in]`.
//! - A [`Model`] is what a trainer takes; [`mod@settings`] is how its configuration is declared. The models themselves
//!   are in `vitrine-models`.

mod attention;
mod attention_pool;
mod batch_norm;
mod convolution;
mod drop_path;
mod dropout;
mod error;
mod init;
mod layer_norm;
mod layer_scale;
mod linalg;
mod linear;
mod lora;
mod mlp;
mod model;
mod optimizer;
mod parameters;
mod pass;
mod patch_embedding;
mod recompute;
mod relative_position;
pub mod schedule;
pub mod settings;

pub use attention::{AttentionConfig, MultiHeadAttention, Places};
pub use attention_pool::AttentionPool;
pub use batch_norm::BatchNorm;
pub use convolution::Convolution;
pub use drop_path::DropPath;
pub use dropout::Dropout;
pub use error::{Error, Result};
pub use init::Init;
pub use layer_norm::LayerNorm;
pub use layer_scale::LayerScale;
pub use linear::Linear;
pub use lora::{Lora, LoraConfig};
pub use mlp::{Mlp, MlpConfig, MlpLayer};
pub use model::{Headed, InputSpec, Model, Output, TokenGrid};
pub use optimizer::{
    AdamW, Ema, Muon, Optimizer, ScheduleFreeAdamW, Sgd, Soap, State, clip_grad_norm,
};
pub use parameters::{BufferId, ParameterBuilder, ParameterId, ParameterInfo, Parameters, Scope};
pub use pass::{AttentionWeights, Pass};
pub use patch_embedding::PatchEmbedding;
pub use recompute::recompute;
pub use relative_position::{RelativePositionBias, WindowPairs};
pub use toml::Table;
pub use vitrine_tensor::{Activation, Epilogue, ParameterGroup, Windows};
