//! Mean cross-entropy, with label smoothing or with shares of classes.

use super::{Array, Sum, array, softmax};

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

/// `−1/B · Σ_b Σ_k t·log softmax(logits)_k`
pub fn soft_target_cross_entropy(logits: &Array, targets: &Array) -> Sum {
    let (batch, classes) = (logits.shape()[0], logits.shape()[1]);
    let (logits, targets) = (super::flat(logits), super::flat(targets));
    let mut loss = Sum::zeros(&[]);
    for (row, targets) in logits.chunks(classes).zip(targets.chunks(classes)) {
        let log_sum = softmax::row(row).1;
        for (logit, target) in row.iter().zip(targets) {
            loss.value += target * (log_sum - logit) / batch as f64;
            loss.terms += target * (log_sum - logit).abs() / batch as f64;
        }
    }
    loss
}

/// By the Jacobian of the logarithm: `−dloss/B · Σ_j t_j·(δ_jk − softmax(logits)_k)`.
pub fn soft_target_cross_entropy_grad(logits: &Array, targets: &Array, dloss: f64) -> Sum {
    let (batch, classes) = (logits.shape()[0], logits.shape()[1]);
    let (values, shares) = (super::flat(logits), super::flat(targets));
    let mut grad = Sum::zeros(logits.shape());
    for (b, (row, targets)) in values.chunks(classes).zip(shares.chunks(classes)).enumerate() {
        let weights = softmax::row(row).0;
        for (k, weight) in weights.iter().enumerate() {
            for (j, target) in targets.iter().enumerate() {
                let hit = f64::from(u8::from(j == k));
                grad.value[[b, k]] -= dloss / batch as f64 * target * (hit - weight);
                grad.terms[[b, k]] += (dloss / batch as f64 * target * (hit + weight)).abs();
            }
        }
    }
    grad
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
    fn gradients_for_shares_are_those_of_central_differences() {
        let (logits, targets) = (random(1, &[3, 4]), random(2, &[3, 4]).mapv(f64::abs));
        let f = |v: &[Array]| 1.7 * soft_target_cross_entropy(&v[0], &targets).value.sum();
        let exact = soft_target_cross_entropy_grad(&logits, &targets, 1.7).value;
        compare(&central(f, std::slice::from_ref(&logits)), &[exact]).unwrap();
    }

    #[test]
    fn shares_of_one_class_are_a_label() {
        let logits = random(1, &[2, 3]);
        let targets = array(&[2, 3], vec![0.1, 0.8, 0.1, 0.8, 0.1, 0.1]);
        let soft = soft_target_cross_entropy(&logits, &targets).value.sum();
        assert!((soft - cross_entropy(&logits, &[1, 0], 0.3)).abs() < 1e-12);
    }

    #[test]
    fn equal_logits_give_the_logarithm_of_the_number_of_classes() {
        let loss = cross_entropy(&super::super::zeros(&[2, 10]), &[1, 9], 0.1);
        assert!((loss - 10f64.ln()).abs() < 1e-15);
    }
}
