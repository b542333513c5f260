//! Gradients of parameters are added to the caller's buffer, over uses, over backwards, and nowhere else.

use vitrine_autodiff::Tape;
use vitrine_tensor::{Device, Epilogue, Tensor};

fn tensor(values: &[f64], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::cpu()).unwrap()
}

/// Weight `[2, 3]`, bias `[2]`, scale `[3]` and shift `[3]` in one flat buffer, a guard after each.
const RANGES: [(usize, usize, &[usize]); 4] =
    [(0, 6, &[2, 3]), (7, 2, &[2]), (10, 3, &[3]), (14, 3, &[3])];
const FLAT: usize = 18;

fn views(flat: &Tensor) -> [Tensor; 4] {
    RANGES.map(|(start, len, shape)| flat.narrow(0, start, len).unwrap().reshape(shape).unwrap())
}

/// One forward and backward whose every kind of accumulation goes to the buffer: by linear, by layer norm, by narrow,
/// and by plain sums.
fn run(tape: &Tape, values: &Tensor, grads: &Tensor) {
    let [weight, bias, scale, shift] = {
        let (values, grads) = (views(values), views(grads));
        let mut pairs = values.into_iter().zip(grads);
        std::array::from_fn(|_| {
            let (value, grad) = pairs.next().unwrap();
            tape.parameter(value, grad).unwrap()
        })
    };
    let x = tape.constant(tensor(&[0.5, -1.0, 2.0, 1.5, 0.25, -0.75], &[2, 3]));
    let normed = x.layer_norm(&scale, &shift, 1e-5).unwrap();
    let options = Epilogue { bias: Some(&bias), ..Default::default() };
    let y = normed.linear(&weight, &options).unwrap();
    let z = y.mul(&bias).unwrap().sum().unwrap();
    let part = weight.narrow(1, 1, 2).unwrap().sum().unwrap();
    let loss = z.add(&part).unwrap().add(&shift.mul(&scale).unwrap().sum().unwrap()).unwrap();
    let gradients = tape.backward(&loss).unwrap();
    for parameter in [&weight, &bias, &scale, &shift] {
        assert!(gradients.get(parameter).is_none(), "a parameter's gradient went to its buffer");
    }
}

fn values() -> Tensor {
    let values: Vec<f64> = (0..FLAT).map(|i| (i as f64 * 0.7).sin()).collect();
    tensor(&values, &[FLAT])
}

#[test]
fn gradients_accumulate_over_backwards_and_stay_within_their_views() {
    let zeros = || Tensor::zeros(&[FLAT], vitrine_tensor::DType::F64, &Device::cpu()).unwrap();
    let once = zeros();
    run(&Tape::new(), &values(), &once);
    let once = once.to_vec::<f64>().unwrap();

    let guards = [6, 9, 13, 17];
    for (i, gradient) in once.iter().enumerate() {
        assert_eq!(*gradient == 0.0, guards.contains(&i), "element {i}: {gradient}");
    }

    // Over new tapes, and over one tape that is used again.
    let (many, again, tape) = (zeros(), zeros(), Tape::new());
    many.fill_(10.0).unwrap();
    for _ in 0..3 {
        run(&Tape::new(), &values(), &many);
        run(&tape, &values(), &again);
    }
    let (many, again) = (many.to_vec::<f64>().unwrap(), again.to_vec::<f64>().unwrap());
    for i in 0..FLAT {
        assert!((many[i] - 10.0 - 3.0 * once[i]).abs() < 1e-12, "element {i}");
        assert!((again[i] - 3.0 * once[i]).abs() < 1e-12, "element {i}");
    }
}

#[test]
fn a_parameter_used_often_gets_the_sum() {
    let tape = Tape::new();
    let grad = tensor(&[0.0, 0.0], &[2]);
    let w = tape.parameter(tensor(&[2.0, 3.0], &[2]), grad.clone()).unwrap();
    let y = w.mul(&w).unwrap().mul(&w).unwrap().add(&w).unwrap().sum().unwrap();
    tape.backward(&y).unwrap();
    assert_eq!(grad.to_vec::<f64>().unwrap(), [13.0, 28.0]);
}

#[test]
fn a_parameter_that_is_the_result_gets_its_gradient() {
    for scalar in [&[][..], &[1]] {
        let tape = Tape::new();
        let grad = tensor(&[0.5], scalar);
        let w = tape.parameter(tensor(&[2.0], scalar), grad.clone()).unwrap();
        tape.backward(&w).unwrap();
        assert_eq!(grad.to_scalar().unwrap(), 1.5);
    }
}
