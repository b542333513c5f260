//! Gradients of parameters are added to the caller's buffer, over uses, over backwards, and nowhere else.

use vitrine_autodiff::Tape;
use vitrine_tensor::{DType, Device, Epilogue, StreamKey, Tensor};

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
    let zeros = || Tensor::zeros(&[FLAT], DType::F64, &Device::cpu()).unwrap();
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

/// Prefix tokens and positions that are computed with in `bf16`, with buffers in `f32`.
#[test]
fn gradients_of_tokens_are_summed_over_the_batch_and_not_rounded() {
    let normal = |stream, shape: &[usize]| {
        let key = StreamKey { seed: 4, step: 0, stream };
        let values: Vec<f64> = key.normal().take(shape.iter().product()).collect();
        tensor(&values, shape).to_dtype(DType::BF16).unwrap()
    };
    for positioned in [Some(7), Some(4), None] {
        let tape = Tape::new();
        let parameter = |stream, tokens| {
            let value = normal(stream, &[1, tokens, 5]);
            let grad = Tensor::zeros(value.shape(), DType::F32, value.device()).unwrap();
            (tape.parameter(value, grad.clone()).unwrap(), grad)
        };
        let (class, registers) = (parameter(1, 1), parameter(2, 2));
        let positions = positioned.map(|tokens| parameter(3, tokens));
        let patches = tape.variable(normal(4, &[3, 4, 5]));
        let prefix = [&class.0, &registers.0];
        let y = patches.embed_tokens(&prefix, positions.as_ref().map(|p| &p.0), None).unwrap();
        let dy = normal(5, &[3, 7, 5]);
        let gradients = tape.backward_from(&y, dy.clone()).unwrap();
        let part = dy.narrow(1, 3, 4).unwrap().to_f64_vec().unwrap();
        assert_eq!(gradients.get(&patches).unwrap().to_f64_vec().unwrap(), part);
        let sums = dy.to_dtype(DType::F32).unwrap().sum_axis(0).unwrap();
        let mut expected = vec![(class.1, 0), (registers.1, 1)];
        expected.extend(positions.map(|(_, grad)| (grad.clone(), 7 - grad.shape()[1])));
        for (grad, first) in expected {
            let sums = sums.narrow(0, first, grad.shape()[1]).unwrap().to_vec::<f32>().unwrap();
            assert_eq!(grad.to_vec::<f32>().unwrap(), sums, "{positioned:?}, from token {first}");
            assert!(sums.iter().any(|sum| sum.to_bits() << 16 != 0), "sums that bf16 can hold");
        }
    }
}
