//! A layer, loss or optimizer that makes no sense is refused with an error that says what and why.

use vitrine_autodiff::Error as AutodiffError;
use vitrine_nn::{
    AdamW, AttentionConfig, Dropout, Error, Init, LayerNorm, Linear, Mlp, MlpConfig,
    MultiHeadAttention, ParameterBuilder, Parameters, Pass, PatchEmbedding, Places, Result, Sgd,
    clip_grad_norm,
};
use vitrine_tensor::{DType, Device, Error as TensorError, Tensor};

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::cpu()).unwrap()
}

/// What is refused: layer and setting; and the message.
fn config<T>(result: Result<T>) -> (&'static str, &'static str, String) {
    match result {
        Err(error @ Error::Config { layer, what, .. }) => (layer, what, error.to_string()),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("this should have been refused"),
    }
}

fn build(builder: ParameterBuilder) -> Parameters {
    builder.build(DType::F32, &Device::cpu()).unwrap()
}

fn attention(width: usize, heads: usize, dropouts: [f64; 2]) -> AttentionConfig {
    AttentionConfig {
        attention_dropout: dropouts[0],
        projection_dropout: dropouts[1],
        qkv_bias: None,
        projection_bias: None,
        ..AttentionConfig::new(width, heads)
    }
}

#[test]
fn heads_must_divide_the_width() {
    for heads in [0, 5, 9] {
        let mut builder = ParameterBuilder::new(0);
        let config_ = attention(8, heads, [0.0; 2]);
        let made = MultiHeadAttention::new(&mut builder.scope("attn"), &config_);
        let (layer, what, message) = config(made);
        assert_eq!((layer, what), ("attention", "number of heads"));
        assert!(message.contains(&format!("{heads} for a width of 8")), "{message}");
        // Nothing half-declared is left behind.
        assert_eq!(build(builder).count(), 0);
    }
}

const NO_PROBABILITIES: [f64; 5] = [-0.1, 1.0, 1.5, f64::NAN, f64::INFINITY];

#[test]
fn a_dropout_probability_is_at_least_0_and_below_1() {
    for p in NO_PROBABILITIES {
        let mut builder = ParameterBuilder::new(0);
        let mut scope = builder.scope("x");
        let mlp = MlpConfig { dropout: p, ..MlpConfig::new(2, 2) };
        for (layer, what, message) in [
            config(Dropout::new(&mut scope, p)),
            config(Mlp::new(&mut scope.scope("mlp"), &mlp)),
            config(MultiHeadAttention::new(&mut scope.scope("a"), &attention(4, 2, [p, 0.0]))),
            config(MultiHeadAttention::new(&mut scope.scope("b"), &attention(4, 2, [0.0, p]))),
        ] {
            assert_eq!((layer, what), ("dropout", "probability"));
            assert!(message.contains(&p.to_string()), "{message}");
        }
    }
    let mut builder = ParameterBuilder::new(0);
    assert!(Dropout::new(&mut builder.scope("x"), 0.999).is_ok());
}

#[test]
fn patches_must_divide_the_image() {
    for (image, patch) in [
        ((28, 28), (16, 16)),
        ((32, 28), (16, 16)),
        ((28, 32), (16, 16)),
        ((8, 8), (0, 4)),
        ((8, 8), (4, 0)),
        ((0, 8), (4, 4)),
        ((8, 8), (16, 16)),
    ] {
        let mut builder = ParameterBuilder::new(0);
        let init = Init::TORCH;
        let made = PatchEmbedding::new(&mut builder.scope("p"), image, patch, 1, 4, &init, &init);
        let (layer, what, message) = config(made);
        assert_eq!((layer, what), ("patch embedding", "patch size"));
        let (sizes, images) =
            (format!("{}x{}", patch.0, patch.1), format!("{}x{}", image.0, image.1));
        assert!(message.contains(&sizes) && message.contains(&images), "{message}");
        assert_eq!(build(builder).count(), 0);
    }
}

#[test]
fn images_must_have_the_models_size() {
    let mut builder = ParameterBuilder::new(0);
    let init = Init::TORCH;
    let mut scope = builder.scope("p");
    let layer = PatchEmbedding::new(&mut scope, (8, 12), (4, 4), 3, 5, &init, &init).unwrap();
    let parameters = build(builder);
    let pass = Pass::inference(&parameters);
    let forward = |shape: &[usize]| layer.forward(&pass, &pass.constant(zeros(shape)));
    assert_eq!(forward(&[2, 3, 8, 12]).unwrap().shape(), [2, 6, 5]);
    // A batch of nothing is a batch.
    assert_eq!(forward(&[0, 3, 8, 12]).unwrap().shape(), [0, 6, 5]);
    for shape in [&[2, 3, 12, 8][..], &[2, 1, 8, 12], &[3, 8, 12], &[2, 3, 8, 16], &[], &[2]] {
        let error = forward(shape).unwrap_err();
        let Error::Tensor(TensorError::ShapeMismatch { op, lhs, .. }) = error else {
            panic!("{shape:?}: {error}")
        };
        assert_eq!((op, lhs.as_slice()), ("patch embedding", shape));
    }
}

#[test]
fn inputs_of_a_wrong_width_type_or_rank_are_refused() {
    let mut builder = ParameterBuilder::new(0);
    let linear = Linear::new(&mut builder.scope("l"), 4, 3, &Init::TORCH, None).unwrap();
    let norm = LayerNorm::new(&mut builder.scope("n"), 4, 1e-5);
    let negative = LayerNorm::new(&mut builder.scope("m"), 4, -1.0);
    let attention =
        MultiHeadAttention::new(&mut builder.scope("a"), &attention(4, 2, [0.0; 2])).unwrap();
    let parameters = build(builder);
    let pass = Pass::training(&parameters, 0, 0);
    let constant = |shape: &[usize]| pass.constant(zeros(shape));
    let double = pass.constant(zeros(&[2, 4]).to_dtype(DType::F64).unwrap());
    let integers =
        |values: &[i64]| Tensor::from_slice(values, &[values.len()], &Device::cpu()).unwrap();
    let (tokens, plain) = (constant(&[2, 3, 4]), Places::default());
    let wrong_lens = [zeros(&[2]), integers(&[1, 2, 3]), integers(&[1])];
    let mut results = vec![
        linear.forward(&pass, &constant(&[2, 3])),
        linear.forward(&pass, &constant(&[])),
        linear.forward(&pass, &double),
        linear.forward_rows(&pass, &constant(&[2, 4]), 2, 2, None),
        norm.forward(&pass, &constant(&[2, 5])),
        norm.forward(&pass, &constant(&[])),
        norm.forward(&pass, &double),
        negative.forward(&pass, &constant(&[2, 4])),
        attention.forward(&pass, &constant(&[2, 4]), &plain, None),
        attention.forward(&pass, &constant(&[2, 3, 5]), &plain, None),
        attention.forward(&pass, &tokens, &plain, Some(&constant(&[2, 3, 5]))),
        attention.forward_first(&pass, &tokens, 4, None),
        attention.forward_first(&pass, &constant(&[4]), 1, None),
    ];
    results.extend(wrong_lens.into_iter().map(|lens| {
        let places = Places { valid_lens: Some(lens), ..Places::default() };
        attention.forward(&pass, &tokens, &places, None)
    }));
    for (i, result) in results.into_iter().enumerate() {
        let error = result.expect_err(&format!("call {i} should have been refused"));
        let known = matches!(error, Error::Tensor(_) | Error::Autodiff(AutodiffError::Tensor(_)));
        assert!(known, "call {i}: {error}");
    }
}

#[test]
fn settings_of_optimizers_are_checked() {
    for momentum in [-0.1, 1.0, f64::NAN] {
        let (layer, what, _) = config(Sgd::new(momentum, false, 0.0));
        assert_eq!((layer, what), ("sgd", "momentum"));
    }
    let (layer, what, message) = config(Sgd::new(0.0, true, 0.0));
    assert_eq!((layer, what), ("sgd", "momentum"));
    assert!(message.contains("Nesterov"), "{message}");
    let wrong = [-1.0, f64::NAN, f64::INFINITY];
    for value in wrong {
        assert_eq!(config(Sgd::new(0.0, false, value)).1, "weight decay");
        assert_eq!(config(AdamW::new(0.9, 0.999, 1e-8, value)).1, "weight decay");
        assert_eq!(config(AdamW::new(0.9, 0.999, value, 0.0)).1, "epsilon");
        let parameters = build(ParameterBuilder::new(0));
        assert_eq!(config(clip_grad_norm(&parameters, value)).0, "gradient clipping");
    }
    for beta in [-0.1, 1.0, f64::NAN] {
        assert_eq!(config(AdamW::new(beta, 0.999, 1e-8, 0.0)).1, "beta1");
        let (layer, what, message) = config(AdamW::new(0.9, beta, 1e-8, 0.0));
        assert_eq!((layer, what), ("adamw", "beta2"));
        assert!(message.contains(&beta.to_string()), "{message}");
    }
}
