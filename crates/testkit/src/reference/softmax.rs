//! Softmax over the last axis.

use super::{Array, array, rows_and_width};

/// Softmax weights of one row, and the logarithm of their denominator. No scores: no weights, −∞.
pub(crate) fn row(scores: &[f64]) -> (Vec<f64>, f64) {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
    let sum: f64 = powers.iter().sum();
    (powers.iter().map(|p| p / sum).collect(), top + sum.ln())
}

/// `exp(x) / Σ exp(x)`
pub fn softmax(x: &Array) -> Array {
    let (_, width) = rows_and_width(x);
    array(x.shape(), super::flat(x).chunks(width.max(1)).flat_map(|x| row(x).0).collect())
}

/// By the Jacobian: `dx_i = Σ_j dy_j · y_j·(δ_ij − y_i)`, for y the result.
pub fn softmax_grad(y: &Array, dy: &Array) -> Array {
    let (_, width) = rows_and_width(y);
    let (ys, dys) = (super::flat(y), super::flat(dy));
    let mut dx = Vec::new();
    for (y, dy) in ys.chunks(width.max(1)).zip(dys.chunks(width.max(1))) {
        for i in 0..width {
            let jacobian = |j: usize| y[j] * (f64::from(u8::from(i == j)) - y[i]);
            dx.push((0..width).map(|j| dy[j] * jacobian(j)).sum());
        }
    }
    array(y.shape(), dx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::{central, compare};
    use crate::inputs::random;

    #[test]
    fn gradients_are_those_of_central_differences() {
        let (x, dy) = (random(1, &[3, 5]), random(2, &[3, 5]));
        let f = |v: &[Array]| (softmax(&v[0]) * &dy).sum();
        let exact = softmax_grad(&softmax(&x), &dy);
        compare(&central(f, &[x]), &[exact]).unwrap();
    }
}
