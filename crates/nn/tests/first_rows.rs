//! The short ways through the last block (only some rows are needed of each sample) give what the full ones give:
//! values, masks, and every gradient.

use vitrine_autodiff::Var;
use vitrine_nn::{
    AttentionConfig, Init, Mlp, MlpConfig, MultiHeadAttention, ParameterBuilder, Parameters, Pass,
    Places, Result,
};
use vitrine_tensor::{DType, Device, StreamKey, Tensor};

const BATCH: usize = 3;
const TOKENS: usize = 5;
const WIDTH: usize = 6;

fn normal(stream: u32, shape: &[usize]) -> Tensor {
    let values = StreamKey { seed: 2, step: 0, stream }
        .normal()
        .take(shape.iter().product())
        .collect::<Vec<_>>();
    Tensor::from_slice(&values, shape, &Device::cpu()).unwrap()
}

/// Output, and gradients of the input, of the residual and of all parameters, for a loss that sees the first rows.
fn run(
    parameters: &Parameters,
    training: bool,
    first: usize,
    forward: impl Fn(&Pass<'_>, &Var, &Var) -> Result<Var>,
) -> Vec<Vec<f64>> {
    parameters.zero_grads().unwrap();
    let pass = match training {
        true => Pass::training(parameters, 11, 4),
        false => Pass::inference(parameters),
    };
    let x = pass.tape().variable(normal(0, &[BATCH, TOKENS, WIDTH]));
    let residual = pass.tape().variable(normal(1, &[BATCH, TOKENS, WIDTH]));
    let y = forward(&pass, &x, &residual).unwrap().narrow(1, 0, first).unwrap();
    let mut found = vec![y.value().to_vec::<f64>().unwrap()];
    if training {
        let weights = pass.constant(normal(2, &[BATCH, first, WIDTH]));
        let gradients = pass.backward(&y.mul(&weights).unwrap().sum().unwrap()).unwrap();
        found.extend([&x, &residual].map(|v| gradients.get(v).unwrap().to_vec::<f64>().unwrap()));
        found.push(parameters.grads().unwrap().to_vec::<f64>().unwrap());
        assert!(found.iter().all(|values| values.iter().any(|&v| v != 0.0)));
    }
    found
}

fn assert_close(what: &str, short: &[Vec<f64>], full: &[Vec<f64>]) {
    const NAMES: [&str; 4] = ["output", "input's gradient", "residual's gradient", "gradients"];
    assert_eq!(short.len(), full.len());
    for ((short, full), name) in short.iter().zip(full).zip(NAMES) {
        assert_eq!(short.len(), full.len(), "{what}: {name}");
        for (i, (short, full)) in short.iter().zip(full).enumerate() {
            assert!((short - full).abs() < 1e-12, "{what}: {name} at {i}: {short}, {full}");
        }
    }
}

fn attention(dropout: f64, bias: bool) -> (Parameters, MultiHeadAttention) {
    let bias = bias.then_some(Init::Normal { std: 0.3 });
    let config = AttentionConfig {
        attention_dropout: dropout,
        projection_dropout: dropout,
        weight: Init::Normal { std: 0.7 },
        qkv_bias: bias.clone(),
        projection_bias: bias,
        ..AttentionConfig::new(WIDTH, 3)
    };
    let mut builder = ParameterBuilder::new(1);
    let layer = MultiHeadAttention::new(&mut builder.scope("attn"), &config).unwrap();
    (builder.build(DType::F64, &Device::cpu()).unwrap(), layer)
}

#[test]
fn attention_of_the_first_queries_equals_the_first_rows_of_all() {
    for dropout in [0.0, 0.4] {
        for bias in [false, true] {
            let (parameters, layer) = attention(dropout, bias);
            for first in [1, 2, TOKENS] {
                for training in [true, false] {
                    let full = run(&parameters, training, first, |pass, x, residual| {
                        layer.forward(pass, x, &Places::default(), Some(residual))
                    });
                    let short = run(&parameters, training, first, |pass, x, residual| {
                        let residual = residual.narrow(1, 0, first)?;
                        layer.forward_first(pass, x, first, Some(&residual))
                    });
                    let what =
                        format!("{first} queries, dropout {dropout}, bias {bias}, {training}");
                    assert_close(&what, &short, &full);
                }
            }
        }
    }
}

fn mlp(dropout: f64) -> (Parameters, Mlp) {
    let config = MlpConfig {
        dropout,
        weight: Init::Normal { std: 0.5 },
        bias: Init::Normal { std: 0.5 },
        ..MlpConfig::new(WIDTH, 11)
    };
    let mut builder = ParameterBuilder::new(1);
    let layer = Mlp::new(&mut builder.scope("mlp"), &config).unwrap();
    (builder.build(DType::F64, &Device::cpu()).unwrap(), layer)
}

#[test]
fn mlp_of_the_first_rows_equals_the_first_rows_of_all() {
    for dropout in [0.0, 0.4] {
        let (parameters, layer) = mlp(dropout);
        for first in [1, 2, TOKENS] {
            for training in [true, false] {
                let full = run(&parameters, training, first, |pass, x, residual| {
                    layer.forward(pass, x, Some(residual))
                });
                let short = run(&parameters, training, first, |pass, x, residual| {
                    let (x, residual) = (x.narrow(1, 0, first)?, residual.narrow(1, 0, first)?);
                    layer.forward_part(pass, &x, Some(&residual), Some(TOKENS))
                });
                let what = format!("{first} rows, dropout {dropout}, training {training}");
                assert_close(&what, &short, &full);
            }
        }
    }
}

#[test]
fn without_the_full_size_the_masks_differ() {
    // The control of the tests above: they would not pass if masks were numbered by the rows that are there.
    let (parameters, layer) = mlp(0.4);
    let run = |tokens| {
        run(&parameters, true, 1, |pass, x, residual| {
            let (x, residual) = (x.narrow(1, 0, 1)?, residual.narrow(1, 0, 1)?);
            layer.forward_part(pass, &x, Some(&residual), tokens)
        })
    };
    assert_ne!(run(Some(TOKENS))[0], run(None)[0]);
}

#[test]
fn dropout_acts_on_the_branch_and_not_on_the_residual() {
    let (parameters, layer) = attention(0.4, true);
    let pass = Pass::training(&parameters, 11, 4);
    let x = pass.constant(normal(0, &[BATCH, TOKENS, WIDTH]));
    let residual = normal(1, &[BATCH, TOKENS, WIDTH]);
    let y = layer
        .forward(&pass, &x, &Places::default(), Some(&pass.constant(residual.clone())))
        .unwrap();
    let branch = layer.forward(&pass, &x, &Places::default(), None).unwrap();
    let values = [y.value(), &residual, branch.value()].map(|t| t.to_vec::<f64>().unwrap());
    let [y, residual, branch] = values;
    assert!(branch.contains(&0.0) && branch.iter().any(|&v| v != 0.0));
    for ((y, residual), branch) in y.iter().zip(&residual).zip(&branch) {
        assert!((y - residual - branch).abs() < 1e-14);
    }
}

#[test]
fn keys_past_the_valid_length_change_nothing() {
    let (parameters, layer) = attention(0.0, true);
    let lens = Tensor::from_slice(&[2i64, 5, 1], &[BATCH], &Device::cpu()).unwrap();
    let places = Places { valid_lens: Some(lens), ..Places::default() };
    let input = normal(0, &[BATCH, TOKENS, WIDTH]);
    let run = |input: Tensor| {
        let pass = Pass::inference(&parameters);
        let y = layer.forward(&pass, &pass.constant(input), &places, None).unwrap();
        y.into_value()
    };
    let before = run(input.clone());
    // Tokens 2.. of the first sequence are past its length.
    let past = input.narrow(0, 0, 1).unwrap().narrow(1, 2, 3).unwrap();
    past.fill_(9.0).unwrap();
    let after = run(input);
    let part = |t: &Tensor, sample, rows| {
        let rows = t.narrow(0, sample, 1).unwrap().narrow(1, 0, rows).unwrap();
        rows.to_vec::<f64>().unwrap()
    };
    assert_eq!(part(&before, 0, 2), part(&after, 0, 2));
    assert_eq!(part(&before, 1, 5), part(&after, 1, 5));
    assert_ne!(part(&before, 0, 5), part(&after, 0, 5), "queries past the length still see others");
}
