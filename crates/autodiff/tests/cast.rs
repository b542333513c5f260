//! Gradients through changes of the element type, where central differences would measure the rounding.

use vitrine_autodiff::Tape;
use vitrine_tensor::{DType, Device, Tensor};

fn x() -> Tensor {
    Tensor::from_slice(&[1.0f64 / 3.0, -2.7, 0.1], &[3], &Device::cpu()).unwrap()
}

#[test]
fn the_gradient_comes_back_in_the_inputs_type() {
    for (from, to) in [
        (DType::F32, DType::F64),
        (DType::F64, DType::F32),
        (DType::F32, DType::BF16),
        (DType::BF16, DType::F32),
    ] {
        let tape = Tape::new();
        let input = tape.variable(x().to_dtype(from).unwrap());
        let cast = input.to_dtype(to).unwrap();
        assert_eq!(cast.value().dtype(), to);
        // Powers of two, which every type holds.
        let weights = Tensor::from_slice(&[0.5f64, -4.0, 2.0], &[3], &Device::cpu()).unwrap();
        let weights = tape.constant(weights.to_dtype(to).unwrap());
        let y = cast.mul(&weights).unwrap().sum().unwrap();
        let gradients = tape.backward(&y).unwrap();
        let gradient = gradients.get(&input).unwrap();
        assert_eq!(gradient.dtype(), from, "{from} to {to}");
        assert_eq!(gradient.to_f64_vec().unwrap(), [0.5, -4.0, 2.0], "{from} to {to}");
    }
}

#[test]
fn the_value_and_the_gradient_are_rounded_once_each() {
    let tape = Tape::new();
    let input = tape.variable(x());
    let back = input.to_dtype(DType::F32).unwrap().to_dtype(DType::F64).unwrap();
    let rounded: Vec<f64> =
        x().to_vec::<f64>().unwrap().iter().map(|&v| f64::from(v as f32)).collect();
    assert_eq!(back.value().to_vec::<f64>().unwrap(), rounded);
    let y = back.mul(&tape.constant(x())).unwrap().sum().unwrap();
    let gradients = tape.backward(&y).unwrap();
    assert_eq!(gradients.get(&input).unwrap().to_vec::<f64>().unwrap(), rounded);
}

#[test]
fn integers_are_constants() {
    let tape = Tape::new();
    let input = tape.variable(x());
    let whole = input.to_dtype(DType::I64).unwrap().to_dtype(DType::F64).unwrap();
    assert!(!whole.needs_grad());
    assert_eq!(whole.value().to_vec::<f64>().unwrap(), [0.0, -2.0, 0.0]);
    // y = x − trunc(x): its gradient is 1, not 1 less a gradient rounded to integers.
    let y = input.sub(&whole).unwrap().scale(0.3).unwrap().sum().unwrap();
    let gradients = tape.backward(&y).unwrap();
    assert_eq!(gradients.get(&input).unwrap().to_vec::<f64>().unwrap(), [0.3; 3]);
}
