//! One step gives every parameter a finite gradient that is not zero, whatever the options.

use vitrine_models::{Gelu, Initialisation, Pool, VisionTransformer, VitConfig};
use vitrine_nn::{Model, ParameterBuilder, Pass};
use vitrine_tensor::{DType, Device, StreamKey, Tensor};

/// All variants of one small model.
fn variants() -> Vec<VitConfig> {
    let mut variants = Vec::new();
    for pool in [Pool::ClassToken, Pool::Mean] {
        for (qkv_bias, projection_bias) in
            [(false, false), (true, false), (false, true), (true, true)]
        {
            for gelu in [Gelu::Erf, Gelu::Tanh] {
                for init in [Initialisation::Torch, Initialisation::Flax] {
                    for last_block_saving in [true, false] {
                        variants.push(VitConfig {
                            image_size: (12, 8),
                            patch_size: (4, 4),
                            channels: 3,
                            classes: 4,
                            width: 8,
                            depth: 2,
                            heads: 2,
                            mlp_width: 16,
                            dropout: 0.1,
                            attention_dropout: 0.1,
                            embedding_dropout: 0.1,
                            qkv_bias,
                            projection_bias,
                            pool,
                            gelu,
                            layer_norm_eps: 1e-5,
                            init,
                            last_block_saving,
                            recompute: false,
                            ..VitConfig::preset("d2l").unwrap()
                        });
                    }
                }
            }
        }
    }
    variants
}

fn check(config: &VitConfig, dtype: DType) {
    let cpu = Device::cpu();
    let mut builder = ParameterBuilder::new(3);
    let model = VisionTransformer::new(&mut builder.scope(""), config).unwrap();
    let parameters = builder.build(dtype, &cpu).unwrap();
    let pass = Pass::training(&parameters, 1, 0);
    let shape = [4, config.channels, config.image_size.0, config.image_size.1];
    let normal = StreamKey { seed: 8, step: 0, stream: 0 }.normal();
    let images: Vec<f64> = normal.take(shape.iter().product()).collect();
    let images = Tensor::from_slice(&images, &shape, &cpu).unwrap().to_dtype(dtype).unwrap();
    let logits = model.forward(&pass, &pass.constant(images)).unwrap().logits;
    assert_eq!(logits.shape(), [4, config.classes]);
    let labels = Tensor::from_slice(&[0i64, 1, 2, 3], &[4], &cpu).unwrap();
    pass.backward(&logits.cross_entropy(&labels, 0.0).unwrap()).unwrap();
    for name in parameters.names() {
        let grad = parameters.grad(parameters.find(name).unwrap()).unwrap().to_f64_vec().unwrap();
        assert!(grad.iter().all(|g| g.is_finite()), "{name}: {config:?}, {dtype}");
        // Adding one vector to all keys changes no attention weight: the key's bias gets rounding errors alone.
        let grad = match name.ends_with("qkv.bias") {
            true => [&grad[..config.width], &grad[2 * config.width..]].concat(),
            false => grad,
        };
        let largest = grad.iter().fold(0.0, |top: f64, g| top.max(g.abs()));
        assert!(largest > 1e-7, "{name} gets no gradient ({largest:e}): {config:?}, {dtype}");
    }
}

#[test]
fn every_parameter_gets_a_gradient() {
    let variants = variants();
    assert_eq!(variants.len(), 2 * 4 * 2 * 2 * 2);
    for config in &variants {
        check(config, DType::F32);
    }
}

#[test]
fn every_parameter_gets_a_gradient_in_f64() {
    for config in variants().iter().step_by(5) {
        check(config, DType::F64);
    }
}

#[test]
fn one_block_and_deeper_ones() {
    for config in variants().into_iter().step_by(17) {
        for depth in [1, 3] {
            check(&VitConfig { depth, ..config.clone() }, DType::F64);
        }
    }
}

/// Up to two blocks of query rows, so that tiles end anywhere, in heads of 16 and 64 columns.
#[test]
fn any_number_of_tokens() {
    let variants = variants();
    let small = variants.iter().find(|config| config.pool == Pool::Mean).unwrap();
    for tokens in 1..=130 {
        for width in [32, 128] {
            let config = VitConfig {
                image_size: (tokens, 1),
                patch_size: (1, 1),
                width,
                depth: 1,
                ..small.clone()
            };
            for dtype in [DType::F32, DType::BF16] {
                check(&config, dtype);
            }
        }
    }
}
