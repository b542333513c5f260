//! A model that makes no sense, or images of another size, are refused with a typed error.

use vitrine_models::{VisionTransformer, VitConfig};
use vitrine_nn::{Error, ParameterBuilder, Parameters, Pass};
use vitrine_tensor::{DType, Device, Error as TensorError, Tensor};

fn small() -> VitConfig {
    VitConfig {
        image_size: (8, 12),
        patch_size: (4, 4),
        channels: 3,
        classes: 5,
        width: 8,
        depth: 1,
        heads: 2,
        mlp_width: 16,
        ..VitConfig::preset("d2l").unwrap()
    }
}

fn build(config: &VitConfig) -> Result<(VisionTransformer, Parameters), Error> {
    let mut builder = ParameterBuilder::new(0);
    let model = VisionTransformer::new(&mut builder.scope(""), config)?;
    Ok((model, builder.build(DType::F32, &Device::cpu())?))
}

/// Which layer and setting is refused, and the message.
fn refused(config: &VitConfig) -> (&'static str, &'static str, String) {
    match build(config) {
        Err(error @ Error::Config { layer, what, .. }) => (layer, what, error.to_string()),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("this should have been refused: {config:?}"),
    }
}

#[test]
fn the_model_itself_is_accepted() {
    build(&small()).unwrap();
}

#[test]
fn a_size_of_zero_is_refused() {
    for (what, config) in [
        ("width", VitConfig { width: 0, ..small() }),
        ("number of classes", VitConfig { classes: 0, ..small() }),
        ("number of channels", VitConfig { channels: 0, ..small() }),
        ("number of blocks", VitConfig { depth: 0, ..small() }),
        ("MLP width", VitConfig { mlp_width: 0, ..small() }),
    ] {
        let (layer, found, message) = refused(&config);
        assert_eq!((layer, found), ("vision transformer", what));
        assert!(message.contains("at least 1"), "{message}");
    }
}

#[test]
fn heads_must_divide_the_width() {
    for heads in [0, 3, 16] {
        let (layer, what, message) = refused(&VitConfig { heads, ..small() });
        assert_eq!((layer, what), ("attention", "number of heads"));
        assert!(message.contains(&format!("{heads} for a width of 8")), "{message}");
    }
}

#[test]
fn patches_must_divide_the_image() {
    for (image_size, patch_size) in [
        ((8, 12), (3, 4)),
        ((8, 12), (4, 5)),
        ((8, 12), (0, 4)),
        ((8, 12), (4, 0)),
        ((8, 12), (16, 12)),
        ((0, 12), (4, 4)),
        ((28, 28), (16, 16)),
    ] {
        let (layer, what, message) = refused(&VitConfig { image_size, patch_size, ..small() });
        assert_eq!((layer, what), ("patch embedding", "patch size"));
        assert!(message.contains(&format!("{}x{}", patch_size.0, patch_size.1)), "{message}");
    }
}

#[test]
fn dropout_must_be_a_probability_below_one() {
    for p in [-0.1, 1.0, f64::NAN] {
        for config in [
            VitConfig { dropout: p, ..small() },
            VitConfig { attention_dropout: p, ..small() },
            VitConfig { embedding_dropout: p, ..small() },
        ] {
            let (layer, what, _) = refused(&config);
            assert_eq!((layer, what), ("dropout", "probability"));
        }
    }
}

#[test]
fn images_of_another_size_are_refused_and_both_shapes_named() {
    let (model, parameters) = build(&small()).unwrap();
    for pass in [Pass::training(&parameters, 0, 0), Pass::inference(&parameters)] {
        let forward = |shape: &[usize]| {
            let images = Tensor::zeros(shape, DType::F32, &Device::cpu()).unwrap();
            model.forward(&pass, &pass.constant(images))
        };
        assert_eq!(forward(&[2, 3, 8, 12]).unwrap().shape(), [2, 5]);
        for shape in [
            &[2, 3, 12, 8][..],
            &[2, 1, 8, 12],
            &[2, 3, 8, 16],
            &[2, 3, 16, 12],
            &[3, 8, 12],
            &[1, 2, 3, 8, 12],
            &[],
        ] {
            let error = forward(shape).unwrap_err();
            let message = error.to_string();
            let Error::Tensor(TensorError::ShapeMismatch { op, lhs, rhs, .. }) = error else {
                panic!("{shape:?}: {message}")
            };
            assert_eq!((op, lhs.as_slice()), ("patch embedding", shape));
            assert_eq!(rhs, [3, 8, 12]);
            assert!(message.contains(&format!("{shape:?}")), "{message}");
        }
    }
}

#[test]
fn images_of_another_element_type_are_refused() {
    let (model, parameters) = build(&small()).unwrap();
    let pass = Pass::inference(&parameters);
    for dtype in [DType::F64, DType::BF16, DType::U8] {
        let images = Tensor::zeros(&[2, 3, 8, 12], dtype, &Device::cpu()).unwrap();
        let error = model.forward(&pass, &pass.constant(images)).unwrap_err();
        assert!(matches!(error, Error::Tensor(_) | Error::Autodiff(_)), "{dtype}: {error}");
    }
}

#[test]
fn an_empty_batch_gives_no_logits() {
    let (model, parameters) = build(&small()).unwrap();
    let pass = Pass::inference(&parameters);
    let images = Tensor::zeros(&[0, 3, 8, 12], DType::F32, &Device::cpu()).unwrap();
    let logits = model.forward(&pass, &pass.constant(images)).unwrap();
    assert_eq!(logits.shape(), [0, 5]);
}
