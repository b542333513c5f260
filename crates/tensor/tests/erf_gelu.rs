//! GELU and its derivative at 517 points against PyTorch's in `f64` (`crates/testkit/golden/erf_gelu.safetensors`).

use vitrine_tensor::{Activation, DType, Device, Tensor};
use vitrine_testkit::golden::GoldenFile;

fn golden(key: &str) -> Vec<f64> {
    let file = GoldenFile::open("erf_gelu");
    assert_eq!(file.tensor(key).dtype(), DType::F64);
    file.values(key)
}

/// Value and derivative at each point, in an element type. The points are `f32` numbers.
fn computed(activation: Activation, dtype: DType) -> [Vec<f64>; 2] {
    let points = golden("x");
    assert_eq!(points.len(), 517);
    assert!(points.iter().all(|&x| f64::from(x as f32) == x));
    let x = Tensor::from_slice(&points, &[points.len()], &Device::cpu()).unwrap();
    let x = x.to_dtype(dtype).unwrap();
    let one = Tensor::full(x.shape(), 1.0, dtype, x.device()).unwrap();
    let value = x.activate(activation).unwrap();
    let derivative = x.activate_grad(activation, &one).unwrap();
    [value, derivative].map(|t| t.to_f64_vec().unwrap())
}

/// Compares within `relative · |expected| + absolute`.
fn compare(found: &[f64], expected: &[f64], relative: f64, absolute: f64) {
    for ((x, found), expected) in golden("x").iter().zip(found).zip(expected) {
        let (error, bound) = ((found - expected).abs(), relative * expected.abs() + absolute);
        // Written so that a NaN fails.
        assert!(error <= bound, "at {x}: {found:e}, expected {expected:e} (error {error:.1e})");
    }
}

const FORMS: [(Activation, &str); 2] =
    [(Activation::GeluErf, "gelu"), (Activation::GeluTanh, "gelu_tanh")];

#[test]
fn f64_agrees_to_the_last_digits() {
    for (activation, name) in FORMS {
        let [value, derivative] = computed(activation, DType::F64);
        compare(&value, &golden(name), 1e-14, 1e-15);
        compare(&derivative, &golden(&format!("{name}.grad")), 1e-14, 1e-14);
    }
}

#[test]
fn f32_agrees_within_a_few_roundings() {
    for (activation, name) in FORMS {
        let [value, derivative] = computed(activation, DType::F32);
        compare(&value, &golden(name), 1.3e-6, 5e-7);
        compare(&derivative, &golden(&format!("{name}.grad")), 1.3e-6, 1e-6);
    }
}

#[test]
fn bf16_is_the_rounded_value() {
    for (activation, name) in FORMS {
        // The points themselves are rounded to bf16, so compare with f32 at the same rounded points.
        let points = golden("x");
        let x = Tensor::from_slice(&points, &[points.len()], &Device::cpu()).unwrap();
        let x = x.to_dtype(DType::BF16).unwrap();
        let wide = x.to_dtype(DType::F32).unwrap().activate(activation).unwrap();
        let (found, wide) = (x.activate(activation).unwrap(), wide.to_dtype(DType::BF16).unwrap());
        assert_eq!(found.to_f64_vec().unwrap(), wide.to_f64_vec().unwrap(), "{name}");
    }
}

#[test]
fn far_from_zero_gelu_is_the_identity_or_nothing() {
    for (activation, _) in FORMS {
        for dtype in [DType::F32, DType::F64] {
            // Past 1e19, x² overflows in `f32` (as in PyTorch's kernels), and the tanh form's derivative with it.
            let points = [-1e15, -100.0, 100.0, 1e15];
            let x =
                Tensor::from_slice(&points, &[4], &Device::cpu()).unwrap().to_dtype(dtype).unwrap();
            let y = x.activate(activation).unwrap().to_f64_vec().unwrap();
            let x_back = x.to_f64_vec().unwrap();
            assert!(y[0] == 0.0 && y[1] == 0.0, "{activation:?} {dtype}: {y:?}");
            assert_eq!(y[2..], x_back[2..], "{activation:?} {dtype}");
            let one = Tensor::full(&[4], 1.0, dtype, x.device()).unwrap();
            let dy = x.activate_grad(activation, &one).unwrap().to_f64_vec().unwrap();
            assert_eq!(dy, [0.0, 0.0, 1.0, 1.0], "{activation:?} {dtype}");
        }
    }
}
