//! Layer normalisation over the last axis.

use super::{Array, Sum, array, rows_and_width};

/// The result, and mean and reciprocal root of each row `[rows, 2]`.
pub fn layer_norm(x: &Array, scale: &Array, shift: &Array, epsilon: f64) -> (Array, Array) {
    let (rows, width) = rows_and_width(x);
    let values = super::flat(x);
    let (mut y, mut statistics) = (Vec::new(), Vec::new());
    for row in values.chunks(width.max(1)) {
        let mean = row.iter().sum::<f64>() / width as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
        let root = 1.0 / (variance + epsilon).sqrt();
        y.extend((0..width).map(|i| (row[i] - mean) * root * scale[[i]] + shift[[i]]));
        statistics.extend([mean, root]);
    }
    (array(x.shape(), y), array(&[rows, 2], statistics))
}

/// Gradients of layer norm.
pub struct LayerNormGrads {
    /// `[.., D]`
    pub x: Sum,
    /// `[D]`
    pub scale: Sum,
    /// `[D]`
    pub shift: Sum,
}

/// By the chain rule through mean and variance, one step at a time, from the statistics that were saved (rounded to
/// their element type).
pub fn layer_norm_grad(x: &Array, scale: &Array, statistics: &Array, dy: &Array) -> LayerNormGrads {
    let (_, width) = rows_and_width(x);
    let n = width as f64;
    let mut grads = LayerNormGrads {
        x: Sum::zeros(x.shape()),
        scale: Sum::zeros(&[width]),
        shift: Sum::zeros(&[width]),
    };
    let (values, dys) = (super::flat(x), super::flat(dy));
    let (mut dx, mut terms) = (Vec::new(), Vec::new());
    let rows = values.chunks(width.max(1)).zip(dys.chunks(width.max(1)));
    for ((row, dy), statistics) in rows.zip(super::flat(statistics).as_chunks::<2>().0) {
        let [mean, root] = *statistics;
        let centred: Vec<f64> = row.iter().map(|x| x - mean).collect();
        let normalised: Vec<f64> = centred.iter().map(|c| c * root).collect();
        for i in 0..width {
            let term = dy[i] * normalised[i];
            grads.scale.value[[i]] += term;
            grads.scale.terms[[i]] += term.abs();
            grads.shift.value[[i]] += dy[i];
            grads.shift.terms[[i]] += dy[i].abs();
        }
        let dnormalised: Vec<f64> = (0..width).map(|i| dy[i] * scale[[i]]).collect();
        // d root / d variance = −root³/2, d variance / d centred = 2·centred/n
        let droot: f64 = (0..width).map(|i| dnormalised[i] * centred[i]).sum();
        let dvariance = -0.5 * root.powi(3) * droot;
        let dcentred: Vec<f64> =
            (0..width).map(|i| dnormalised[i] * root + dvariance * 2.0 * centred[i] / n).collect();
        // The centred values add up to 0, but for the rounding of the mean.
        let dmean = -root * dnormalised.iter().sum::<f64>();
        dx.extend(dcentred.iter().map(|d| d + dmean / n));
        let largest = dnormalised.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        terms.extend(normalised.iter().map(|v| root * largest * (1.0 + v.abs())));
    }
    grads.x = Sum { value: array(x.shape(), dx), terms: array(x.shape(), terms) };
    grads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::{central, compare};
    use crate::inputs::random;

    #[test]
    fn gradients_are_those_of_central_differences() {
        let inputs = [random(1, &[2, 3, 5]), random(2, &[5]), random(3, &[5])];
        let dy = random(4, &[2, 3, 5]);
        let f = |v: &[Array]| (layer_norm(&v[0], &v[1], &v[2], 1e-2).0 * &dy).sum();
        let statistics = layer_norm(&inputs[0], &inputs[1], &inputs[2], 1e-2).1;
        let exact = layer_norm_grad(&inputs[0], &inputs[1], &statistics, &dy);
        let exact = [exact.x.value, exact.scale.value, exact.shift.value];
        compare(&central(f, &inputs), &exact).unwrap();
    }
}
