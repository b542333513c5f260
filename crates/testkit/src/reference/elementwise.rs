//! Element-wise arithmetic with broadcasting, and sums over axes.

use ndarray::Axis;
use vitrine_tensor::Binary;

use super::{Array, Sum};

/// `op(a, b)`, broadcast by NumPy's rule.
pub fn binary(op: Binary, a: &Array, b: &Array) -> Array {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
    }
}

/// The sum over one axis.
pub fn sum_axis(x: &Array, axis: usize) -> Sum {
    Sum { value: x.sum_axis(Axis(axis)), terms: x.mapv(f64::abs).sum_axis(Axis(axis)) }
}

/// Sums over the axes that broadcasting from `shape` added or stretched.
pub fn sum_to(x: &Array, shape: &[usize]) -> Sum {
    let collapse = |mut x: Array| {
        while x.ndim() > shape.len() {
            x = x.sum_axis(Axis(0));
        }
        for (axis, &extent) in shape.iter().enumerate() {
            if extent == 1 {
                x = x.sum_axis(Axis(axis)).insert_axis(Axis(axis));
            }
        }
        x
    };
    Sum { value: collapse(x.clone()), terms: collapse(x.mapv(f64::abs)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::{central, compare};
    use crate::inputs::random;

    #[test]
    fn sum_to_is_the_gradient_of_broadcasting() {
        let (x, dy) = (random(1, &[3, 1]), random(2, &[2, 3, 4]));
        let f = |v: &[Array]| (&dy * &v[0]).sum();
        compare(&central(f, std::slice::from_ref(&x)), &[sum_to(&dy, &[3, 1]).value]).unwrap();
    }
}
