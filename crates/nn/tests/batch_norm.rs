//! What batch norm keeps between steps: which statistics it uses, and when it moves them.

use vitrine_nn::{
    Activation, BatchNorm, Convolution, Init, ParameterBuilder, Parameters, Pass, Windows,
};
use vitrine_tensor::{DType, Device, Tensor};

fn layer() -> (BatchNorm, Parameters, Tensor) {
    let mut builder = ParameterBuilder::new(0);
    let norm = BatchNorm::new(&mut builder.scope("bn"), 2, 1.0, 1e-5, 0.1);
    let parameters = builder.build(DType::F64, &Device::cpu()).unwrap();
    let x =
        Tensor::from_slice(&[1.0, 10.0, 2.0, 20.0, 6.0, 30.0], &[3, 2], &Device::cpu()).unwrap();
    (norm, parameters, x)
}

fn buffers(parameters: &Parameters) -> Vec<f64> {
    let buffers = parameters.named_values().skip(parameters.infos().len());
    buffers.flat_map(|(_, value)| value.unwrap().to_f64_vec().unwrap()).collect()
}

fn run(norm: &BatchNorm, pass: &Pass<'_>, x: &Tensor) -> Vec<f64> {
    let y = norm.forward(pass, &pass.constant(x.clone()), None, None).unwrap();
    y.value().to_f64_vec().unwrap()
}

#[test]
fn training_moves_the_running_statistics_and_inference_uses_them() {
    let (norm, parameters, x) = layer();
    run(&norm, &Pass::training(&parameters, 0, 0), &x);
    // Means 3 and 20; variances of the sample 7 and 100.
    let expected = [0.3, 2.0, 0.9 + 0.7, 0.9 + 10.0];
    let moved = buffers(&parameters);
    assert!(moved.iter().zip(expected).all(|(m, e)| (m - e).abs() < 1e-12), "{moved:?}");
    let y = run(&norm, &Pass::inference(&parameters), &x);
    assert!((y[0] - 0.7 / (1.6f64 + 1e-5).sqrt()).abs() < 1e-12);
    assert_eq!(buffers(&parameters), moved);
}

#[test]
fn a_frozen_layer_stays_as_it_is() {
    let (norm, mut parameters, x) = layer();
    parameters.regroup(|_, group| group.frozen = true);
    let before = buffers(&parameters);
    let training = run(&norm, &Pass::training(&parameters, 0, 0), &x);
    assert_eq!(training, run(&norm, &Pass::inference(&parameters), &x));
    assert_eq!(buffers(&parameters), before);
}

#[test]
fn folded_into_a_convolution_it_does_the_same() {
    let mut builder = ParameterBuilder::new(0);
    let windows = Windows { kernel: (2, 2), stride: (1, 1), padding: (1, 0) };
    let bias = Some(&Init::TORCH);
    let scope = &mut builder.scope("conv");
    let convolution = Convolution::new(scope, [2, 3], windows, &Init::TORCH, bias);
    let norm = BatchNorm::new(&mut builder.scope("bn"), 3, 1.0, 1e-5, 0.1);
    let mut parameters = builder.build(DType::F64, &Device::cpu()).unwrap();
    let values: Vec<f64> = (0..40).map(|i| f64::from(i * i % 17) - 8.0).collect();
    let x = Tensor::from_slice(&values, &[1, 4, 5, 2], &Device::cpu()).unwrap();
    let forward = |pass: &Pass<'_>| {
        let x = pass.constant(x.clone());
        let y = norm.forward_after(&convolution, pass, &x, None, Some(Activation::Relu)).unwrap();
        (y.needs_grad(), y.value().to_f64_vec().unwrap())
    };
    forward(&Pass::training(&parameters, 0, 0));
    let (_, folded) = forward(&Pass::inference(&parameters));
    // In training, a norm that is frozen stays by itself.
    parameters.regroup(|name, group| group.frozen = name.starts_with("bn"));
    let (recorded, apart) = forward(&Pass::training(&parameters, 0, 0));
    assert!(recorded && folded.iter().any(|y| *y > 0.1));
    assert!(folded.iter().zip(&apart).all(|(a, b)| (a - b).abs() < 1e-12), "{folded:?} {apart:?}");
}
