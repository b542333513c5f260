//! What batch norm keeps between steps: which statistics it uses, and when it moves them.

use vitrine_nn::{BatchNorm, ParameterBuilder, Parameters, Pass};
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
