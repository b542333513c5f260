//! A model that makes no sense, or images of another size, are refused with a typed error.

use vitrine_models::{VisionTransformer, VitConfig};
use vitrine_nn::settings::SettingError;
use vitrine_nn::{Error, Model, ParameterBuilder, Parameters, Pass};
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

/// Which key is refused, and the message.
fn refused(config: &VitConfig) -> (String, String) {
    match build(config) {
        Err(Error::Setting(error)) => {
            let message = error.to_string();
            match error {
                SettingError::Value { key, .. } => (key, message),
                SettingError::Conflict { key, .. } => (key.to_owned(), message),
                other => panic!("another error: {other}"),
            }
        }
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("this should have been refused: {config:?}"),
    }
}

#[test]
fn the_model_itself_is_accepted() {
    build(&small()).unwrap();
}

#[test]
fn numbers_out_of_range_are_refused() {
    for (key, config) in [
        ("model.width", VitConfig { width: 0, ..small() }),
        ("model.classes", VitConfig { classes: 0, ..small() }),
        ("model.channels", VitConfig { channels: 0, ..small() }),
        ("model.depth", VitConfig { depth: 0, ..small() }),
        ("model.mlp_width", VitConfig { mlp_width: 0, ..small() }),
        ("model.heads", VitConfig { heads: 0, ..small() }),
        ("model.patch_size", VitConfig { patch_size: (0, 4), ..small() }),
        ("model.patch_size", VitConfig { patch_size: (4, 0), ..small() }),
        ("model.image_size", VitConfig { image_size: (0, 12), ..small() }),
        ("model.std", VitConfig { std: vec![0.0], ..small() }),
        ("model.mean", VitConfig { mean: vec![], ..small() }),
    ] {
        let (found, message) = refused(&config);
        assert_eq!(found, key);
        assert!(message.contains("is not allowed: it must be"), "{message}");
    }
}

#[test]
fn heads_must_divide_the_width() {
    for heads in [3, 16] {
        let (key, message) = refused(&VitConfig { heads, ..small() });
        assert_eq!(key, "model.heads");
        assert!(message.contains("the heads must divide `model.width = 8`"), "{message}");
    }
}

#[test]
fn patches_must_divide_the_image() {
    for (image_size, patch_size) in
        [((8, 12), (3, 4)), ((8, 12), (4, 5)), ((8, 12), (16, 12)), ((28, 28), (16, 16))]
    {
        let (key, message) = refused(&VitConfig { image_size, patch_size, ..small() });
        assert_eq!(key, "model.patch_size");
        assert!(message.contains("in both directions"), "{message}");
    }
}

#[test]
fn dropout_must_be_a_probability_below_one() {
    for p in [-0.1, 1.0, f64::NAN] {
        for (key, config) in [
            ("model.dropout", VitConfig { dropout: p, ..small() }),
            ("model.attention_dropout", VitConfig { attention_dropout: p, ..small() }),
            ("model.embedding_dropout", VitConfig { embedding_dropout: p, ..small() }),
            ("model.drop_path", VitConfig { drop_path: p, ..small() }),
        ] {
            assert_eq!(refused(&config).0, key);
        }
    }
}

#[test]
fn mean_and_std_are_one_number_or_one_a_channel() {
    let three = VitConfig { mean: vec![0.4, 0.5, 0.6], std: vec![0.2; 3], ..small() };
    build(&three).unwrap();
    let (key, message) = refused(&VitConfig { mean: vec![0.1; 2], ..small() });
    assert_eq!(key, "model.mean");
    assert!(message.contains("one for each of `model.channels = 3`"), "{message}");
}

#[test]
fn images_of_another_size_are_refused_and_both_shapes_named() {
    let (model, parameters) = build(&small()).unwrap();
    for pass in [Pass::training(&parameters, 0, 0), Pass::inference(&parameters)] {
        let forward = |shape: &[usize]| {
            let images = Tensor::zeros(shape, DType::F32, &Device::cpu()).unwrap();
            model.forward(&pass, &pass.constant(images)).map(|output| output.logits)
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
        let error = model.forward(&pass, &pass.constant(images)).err().unwrap();
        assert!(matches!(error, Error::Tensor(_) | Error::Autodiff(_)), "{dtype}: {error}");
    }
}

#[test]
fn an_empty_batch_gives_no_logits() {
    let (model, parameters) = build(&small()).unwrap();
    let pass = Pass::inference(&parameters);
    let images = Tensor::zeros(&[0, 3, 8, 12], DType::F32, &Device::cpu()).unwrap();
    let logits = model.forward(&pass, &pass.constant(images)).unwrap().logits;
    assert_eq!(logits.shape(), [0, 5]);
}
