//! Dropout: off in inference, drawn anew for each step, seed and layer, the right share, and the same mask in backward.

use vitrine_nn::{Dropout, Epilogue, Init, Linear, ParameterBuilder, Parameters, Pass};
use vitrine_tensor::{DType, Device, Tensor};

const P: f64 = 0.25;
const SHAPE: [usize; 2] = [100, 201];
const N: usize = SHAPE[0] * SHAPE[1];

fn ones() -> Tensor {
    Tensor::full(&SHAPE, 1.0, DType::F64, &Device::cpu()).unwrap()
}

fn two_layers() -> (Parameters, [Dropout; 2]) {
    let mut builder = ParameterBuilder::new(0);
    let layers = [(); 2].map(|()| Dropout::new(&mut builder.scope("drop"), P).unwrap());
    (builder.build(DType::F64, &Device::cpu()).unwrap(), layers)
}

/// What becomes of ones: the mask.
fn mask(layer: usize, seed: u64, step: u64) -> Vec<f64> {
    let (parameters, layers) = two_layers();
    let pass = Pass::training(&parameters, seed, step);
    let y = layers[layer].forward(&pass, &pass.constant(ones())).unwrap();
    y.value().to_vec::<f64>().unwrap()
}

#[test]
fn nothing_is_dropped_in_inference_or_with_probability_0() {
    let (parameters, layers) = two_layers();
    let pass = Pass::inference(&parameters);
    let x = pass.constant(ones());
    assert!(pass.mask(&layers[0]).is_none());
    let y = layers[0].forward(&pass, &x).unwrap();
    assert!(y.value().shares_memory_with(x.value()), "not even copied");

    let mut builder = ParameterBuilder::new(0);
    let off = Dropout::new(&mut builder.scope("drop"), 0.0).unwrap();
    let parameters = builder.build(DType::F64, &Device::cpu()).unwrap();
    let pass = Pass::training(&parameters, 1, 1);
    let x = pass.constant(ones());
    assert!(off.forward(&pass, &x).unwrap().value().shares_memory_with(x.value()));
}

#[test]
fn the_share_dropped_is_the_probability_and_the_rest_is_scaled() {
    let mask = mask(0, 7, 3);
    assert!(mask.iter().all(|&m| m == 0.0 || (m - 1.0 / (1.0 - P)).abs() < 1e-15));
    let dropped = mask.iter().filter(|&&m| m == 0.0).count() as f64;
    // Five standard deviations of a binomial count.
    assert!((dropped - P * N as f64).abs() < 5.0 * (P * (1.0 - P) * N as f64).sqrt(), "{dropped}");
}

#[test]
fn masks_of_steps_seeds_and_layers_are_independent() {
    let first = mask(0, 7, 3);
    assert_eq!(first, mask(0, 7, 3), "a mask is a function of its address");
    for (what, other) in
        [("step", mask(0, 7, 4)), ("seed", mask(0, 8, 3)), ("layer", mask(1, 7, 3))]
    {
        let both = first.iter().zip(&other).filter(|&(&a, &b)| a == 0.0 && b == 0.0).count() as f64;
        let share = P * P;
        let deviation = (share * (1.0 - share) * N as f64).sqrt();
        assert!((both - share * N as f64).abs() < 5.0 * deviation, "another {what}: {both}");
    }
}

#[test]
fn backward_draws_the_mask_of_forward_again() {
    let (parameters, layers) = two_layers();
    let pass = Pass::training(&parameters, 7, 3);
    let x = pass.tape().variable(ones());
    let y = layers[0].forward(&pass, &x).unwrap();
    let gradients = pass.backward(&y.sum().unwrap()).unwrap();
    assert_eq!(
        gradients.get(&x).unwrap().to_vec::<f64>().unwrap(),
        y.value().to_vec::<f64>().unwrap()
    );
}

#[test]
fn fused_in_a_linear_layer_it_is_the_same_dropout() {
    let mut builder = ParameterBuilder::new(3);
    let linear =
        Linear::new(&mut builder.scope("fc"), 5, 7, &Init::TORCH, Some(&Init::TORCH)).unwrap();
    let dropout = Dropout::new(&mut builder.scope(""), P).unwrap();
    let parameters = builder.build(DType::F64, &Device::cpu()).unwrap();
    let values: Vec<f64> = (0..60).map(|i| (i as f64).sin()).collect();
    let input = Tensor::from_slice(&values, &[3, 4, 5], &Device::cpu()).unwrap();

    let run = |fused: bool| {
        parameters.zero_grads().unwrap();
        let pass = Pass::training(&parameters, 7, 3);
        let x = pass.tape().variable(input.clone());
        let y = if fused {
            let epilogue = Epilogue { dropout: pass.mask(&dropout), ..Default::default() };
            linear.forward_with(&pass, &x, &epilogue).unwrap()
        } else {
            dropout.forward(&pass, &linear.forward(&pass, &x).unwrap()).unwrap()
        };
        let loss = y.mul(&y).unwrap().sum().unwrap();
        let gradients = pass.backward(&loss).unwrap();
        let dx = gradients.get(&x).unwrap().to_vec::<f64>().unwrap();
        [y.value().to_vec().unwrap(), dx, parameters.grads().unwrap().to_vec().unwrap()]
    };
    let (fused, apart) = (run(true), run(false));
    assert!(fused[0].contains(&0.0), "something is dropped");
    for (fused, apart) in fused.iter().zip(&apart) {
        let close = fused.iter().zip(apart).all(|(a, b)| (a - b).abs() < 1e-13);
        assert!(close && fused.len() == apart.len());
    }
}
