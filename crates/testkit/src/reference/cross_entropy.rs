//! Mean cross-entropy with label smoothing.

use super::{Array, array, softmax};

/// `(1 − s)·onehot + s/K`
fn target(class: usize, label: i64, classes: usize, smoothing: f64) -> f64 {
    let hit = if class as i64 == label { 1.0 - smoothing } else { 0.0 };
    hit + smoothing / classes as f64
}

/// `−1/B · Σ_b Σ_k target·log softmax(logits)_k`
pub fn cross_entropy(logits: &Array, labels: &[i64], smoothing: f64) -> f64 {
    let classes = logits.shape()[1];
    let values = super::flat(logits);
    let losses = values.chunks(classes).zip(labels).map(|(row, &label)| {
        let log_sum = softmax::row(row).1;
        (0..classes).map(|k| target(k, label, classes, smoothing) * (log_sum - row[k])).sum::<f64>()
    });
    losses.sum::<f64>() / labels.len() as f64
}

/// `dloss/B · (softmax(logits) − target)`
pub fn cross_entropy_grad(logits: &Array, labels: &[i64], smoothing: f64, dloss: f64) -> Array {
    let classes = logits.shape()[1];
    let values = super::flat(logits);
    let grads = values.chunks(classes).zip(labels).flat_map(|(row, &label)| {
        let weights = softmax::row(row).0.into_iter().enumerate();
        weights.map(move |(k, p)| p - target(k, label, classes, smoothing))
    });
    array(logits.shape(), grads.map(|g| g * dloss / labels.len() as f64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::{central, compare};
    use crate::inputs::random;

    #[test]
    fn gradients_are_those_of_central_differences() {
        let (logits, labels) = (random(1, &[3, 4]), [0, 3, 2]);
        for smoothing in [0.0, 0.2] {
            let f = |v: &[Array]| 1.7 * cross_entropy(&v[0], &labels, smoothing);
            let exact = cross_entropy_grad(&logits, &labels, smoothing, 1.7);
            compare(&central(f, std::slice::from_ref(&logits)), &[exact]).unwrap();
        }
    }

    #[test]
    fn equal_logits_give_the_logarithm_of_the_number_of_classes() {
        let loss = cross_entropy(&super::super::zeros(&[2, 10]), &[1, 9], 0.1);
        assert!((loss - 10f64.ln()).abs() < 1e-15);
    }
}
