//! Conversion between `f32` and `bf16`: of dense tensors, which are cut into blocks, of rows with gaps between them,
//! and down the columns.

use vitrine_tensor::{DType, Device, Element, Tensor, bf16};

/// More numbers than a block takes, of all kinds: subnormal, huge, infinite, not a number, and close to where two
/// numbers of `bf16` are as near.
const SHAPE: [usize; 2] = [211, 331];

fn numbers() -> Vec<f32> {
    let count = (SHAPE[0] * SHAPE[1]) as u32;
    let number = |i: u32| {
        let bits = i.wrapping_mul(u32::MAX / count);
        let lower = [bits & 0xffff, 0x7fff, 0x8000, 0x8001][i as usize % 4];
        f32::from_bits(bits & 0xffff_0000 | lower)
    };
    (0..count).map(number).collect()
}

/// Equal, or not a number both.
fn same(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

fn check(tensor: &Tensor) {
    let rounded = tensor.to_dtype(DType::BF16).unwrap();
    let back = rounded.to_dtype(DType::F32).unwrap();
    assert_eq!((rounded.shape(), back.shape()), (tensor.shape(), tensor.shape()));
    let [exact, rounded, back] = [tensor, &rounded, &back].map(|t| t.to_f64_vec().unwrap());
    for ((exact, rounded), back) in exact.into_iter().zip(rounded).zip(back) {
        let expected = f64::from(bf16::from_f32(exact as f32));
        assert!(same(rounded, expected) && same(back, expected), "{exact}: {rounded}, {back}");
    }
}

#[test]
fn bf16_is_rounded_as_the_half_crate_rounds_and_widened_exactly() {
    let dense = Tensor::from_slice(&numbers(), &SHAPE, &Device::cpu()).unwrap();
    check(&dense);
    check(&dense.reshape(&[SHAPE[0] * SHAPE[1]]).unwrap());
    check(&dense.narrow(1, 3, 50).unwrap());
    check(&dense.transpose(0, 1).unwrap());
    check(&dense.to_dtype(DType::F64).unwrap());
}

#[test]
fn f64_is_rounded_to_bf16_once() {
    let unit = 0.5f64.powi(7);
    for (factor, more, expected) in
        [(1.5, 1e-12, 2.0), (1.5, 0.0, 2.0), (1.5, -1e-12, 1.0), (2.5, 0.0, 2.0), (2.5, 1e-12, 3.0)]
    {
        for sign in [1.0, -1.0] {
            let found = <bf16 as Element>::from_f64(sign * (1.0 + factor * unit + more)).to_f64();
            assert_eq!(found, sign * (1.0 + expected * unit));
        }
    }
}
