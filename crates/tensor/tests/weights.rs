//! A weight that is used again is packed once; a change of the weight must not be missed.

use vitrine_tensor::{DType, Device, Epilogue, Tensor};

fn linear(x: &Tensor, w: &Tensor) -> Vec<f64> {
    x.linear(w, &Epilogue::default()).unwrap().to_f64_vec().unwrap()
}

/// The product with a weight in fresh memory, which nothing is known of.
fn expected(x: &Tensor, w: &Tensor) -> Vec<f64> {
    linear(x, &w.copy().unwrap())
}

#[test]
fn a_changed_weight_is_packed_again() {
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        let values: Vec<f64> = (0..40 * 300).map(|i| f64::from(i % 37) / 8.0 - 2.0).collect();
        let of = |values: &[f64], shape: &[usize]| {
            Tensor::from_slice(values, shape, &Device::cpu()).unwrap().to_dtype(dtype).unwrap()
        };
        let (x, w) = (of(&values[..3 * 300], &[3, 300]), of(&values, &[40, 300]));
        for round in 0..4 {
            let expected_now = expected(&x, &w);
            for use_number in 0..5 {
                assert_eq!(linear(&x, &w), expected_now, "{dtype} round {round} use {use_number}");
            }
            // Through a view of the same memory, and through the weight itself.
            w.narrow(0, 7, 1).unwrap().fill_(f64::from(round)).unwrap();
            w.add_scaled_(&of(&values[..40 * 300], &[40, 300]), 0.25).unwrap();
        }
    }
}

#[test]
fn parts_of_one_memory_are_told_apart() {
    let values: Vec<f32> = (0..6 * 4).map(|i| i as f32).collect();
    let all = Tensor::from_slice(&values, &[6, 4], &Device::cpu()).unwrap();
    let x = Tensor::from_slice(&[1.0f32, 0.0, 0.0, 0.0], &[1, 4], &Device::cpu()).unwrap();
    let (first, last) = (all.narrow(0, 0, 3).unwrap(), all.narrow(0, 3, 3).unwrap());
    for _ in 0..3 {
        assert_eq!(linear(&x, &first), [0.0, 4.0, 8.0]);
        assert_eq!(linear(&x, &last), [12.0, 16.0, 20.0]);
        assert_eq!(linear(&x, &all), [0.0, 4.0, 8.0, 12.0, 16.0, 20.0]);
        assert_eq!(linear(&x, &all.narrow(0, 0, 2).unwrap()), [0.0, 4.0]);
    }
}
