//! Models for images, under the parameter names and layouts of timm, and the registry of those that can be built by
//! name.
//!
//! ```
//! use vitrine_nn::{Model, ParameterBuilder, Pass};
//! use vitrine_tensor::{DType, Device, Tensor};
//! use vitrine_models::{VisionTransformer, VitConfig};
//!
//! let config = VitConfig { image_size: (8, 8), patch_size: (4, 4), width: 16, heads: 2, mlp_width: 32,
//!     ..VitConfig::preset("d2l").unwrap() };
//! let mut builder = ParameterBuilder::new(0);
//! let model = VisionTransformer::new(&mut builder.scope(""), &config)?;
//! let parameters = builder.build(DType::F32, &Device::cpu())?;
//!
//! let images = Tensor::zeros(&[2, 1, 8, 8], DType::F32, &Device::cpu())?;
//! let pass = Pass::inference(&parameters);
//! let output = model.forward(&pass, &pass.constant(images))?;
//! assert_eq!(output.logits.shape(), [2, 10]);
//! # Ok::<(), vitrine_nn::Error>(())
//! ```
//!
//! The layers are in `vitrine-nn`; training is in `vitrine-train`.

mod block;
mod cct;
mod config;
mod dialect;
mod images;
mod lora;
pub mod published;
mod registry;
mod resample;
mod resnet;
mod swin;
mod vision_transformer;

pub use block::{Block, BlockConfig, Tokens};
pub use cct::{CctConfig, CompactTransformer, Tokenizer};
pub use config::{Gelu, Initialisation, MOST_PATCHES, Pool, PosEmbed, RopeType, VitConfig};
pub use dialect::{Dialect, Group};
pub use registry::{FAMILY, ModelConfig, families, is_preset_key, keys, preset, preset_names};
pub use resample::{Grids, resample_distances, resample_positions};
pub use resnet::{ConvolutionInit, ResNet, ResNetConfig, ResidualBlock};
pub use swin::{SwinConfig, SwinTransformer};
pub use vision_transformer::VisionTransformer;
