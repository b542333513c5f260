//! Cross-entropy and its gradient, with labels and with shares of classes.

use vitrine_tensor::backend::Losses;
use vitrine_tensor::{Result, Tensor};

use crate::case::Case;
use crate::compare::Comparison;
use crate::faulty::faults;
use crate::inputs::{Input, Layout, Setup, random};
use crate::reference::array;
use crate::sweep::{Axis, LAYOUTS, ROWS, Reach, WIDTH, over, pick};

/// What they mean, in plain `f64` loops.
pub mod reference {
    use crate::operations::norms::reference as softmax;
    use crate::reference::{Array, Sum, array, flat};

    /// `(1 − s)·onehot + s/K`
    fn target(class: usize, label: i64, classes: usize, smoothing: f64) -> f64 {
        let hit = if class as i64 == label { 1.0 - smoothing } else { 0.0 };
        hit + smoothing / classes as f64
    }

    /// A class without a share adds nothing, however unlikely it is.
    fn term(target: f64, surprise: f64) -> f64 {
        if target == 0.0 { 0.0 } else { target * surprise }
    }

    /// `−1/B · Σ_b Σ_k target·log softmax(logits)_k`
    pub fn cross_entropy(logits: &Array, labels: &[i64], smoothing: f64) -> f64 {
        let classes = logits.shape()[1];
        let values = flat(logits);
        let losses = values.chunks(classes).zip(labels).map(|(row, &label)| {
            let log_sum = softmax::row(row).1;
            (0..classes)
                .map(|k| term(target(k, label, classes, smoothing), log_sum - row[k]))
                .sum::<f64>()
        });
        losses.sum::<f64>() / labels.len() as f64
    }

    /// `dloss/B · (softmax(logits) − target)`
    pub fn cross_entropy_grad(logits: &Array, labels: &[i64], smoothing: f64, dloss: f64) -> Array {
        let classes = logits.shape()[1];
        let values = flat(logits);
        let grads = values.chunks(classes).zip(labels).flat_map(|(row, &label)| {
            let weights = softmax::row(row).0.into_iter().enumerate();
            weights.map(move |(k, p)| p - target(k, label, classes, smoothing))
        });
        array(logits.shape(), grads.map(|g| g * dloss / labels.len() as f64).collect())
    }

    /// `−1/B · Σ_b Σ_k t·log softmax(logits)_k`
    pub fn soft_target_cross_entropy(logits: &Array, targets: &Array) -> Sum {
        let (batch, classes) = (logits.shape()[0], logits.shape()[1]);
        let (logits, targets) = (flat(logits), flat(targets));
        let mut loss = Sum::zeros(&[]);
        for (row, targets) in logits.chunks(classes).zip(targets.chunks(classes)) {
            let log_sum = softmax::row(row).1;
            for (logit, target) in row.iter().zip(targets) {
                loss.value += term(*target, log_sum - logit) / batch as f64;
                loss.terms += term(*target, (log_sum - logit).abs()) / batch as f64;
            }
        }
        loss
    }

    /// By the Jacobian of the logarithm: `−dloss/B · Σ_j t_j·(δ_jk − softmax(logits)_k)`.
    pub fn soft_target_cross_entropy_grad(logits: &Array, targets: &Array, dloss: f64) -> Sum {
        let (batch, classes) = (logits.shape()[0], logits.shape()[1]);
        let (values, shares) = (flat(logits), flat(targets));
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
}

const SHAPES: [[usize; 2]; 6] = [[1, 1], [1, 10], [7, 3], [128, 10], [700, 37], [3, 1000]];

fn labels(s: &Setup, [batch, classes]: [usize; 2]) -> Result<(Vec<i64>, Tensor)> {
    let labels: Vec<i64> = (0..batch).map(|i| (i * 7 % classes) as i64).collect();
    let tensor = Tensor::from_slice(&labels, &[batch], &s.device)?;
    Ok((labels, tensor))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in SHAPES {
        for (layout, smoothing, spread) in [
            (Layout::Dense, 0.0, 1.0),
            (Layout::Transposed, 0.1, 1.0),
            (Layout::Narrowed, 0.9, 1.0),
            (Layout::Dense, 0.1, 50.0),
        ] {
            let name = format!("{shape:?}, {layout:?}, smoothing {smoothing}, logits × {spread}");
            cases.push(Case::new("cross_entropy", name.clone(), move |s| {
                loss(s, shape, layout, smoothing, spread)
            }));
            cases.push(Case::new("cross_entropy_grad", name, move |s| {
                gradient(s, shape, layout, smoothing, spread)
            }));
        }
        for (layout, spread) in
            [(Layout::Dense, 1.0), (Layout::Transposed, 1.0), (Layout::Narrowed, 50.0)]
        {
            let name = format!("{shape:?}, {layout:?}, logits × {spread}");
            cases.push(Case::new("cross_entropy", name.clone(), move |s| {
                soft_target_loss(s, shape, layout, spread)
            }));
            cases.push(Case::new("cross_entropy_grad", name, move |s| {
                soft_target_gradient(s, shape, layout, spread)
            }));
        }
    }
    cases
}

/// Of logits `spread` times as far apart as standard normal ones.
fn loss(
    s: &Setup,
    shape: [usize; 2],
    layout: Layout,
    smoothing: f64,
    spread: f64,
) -> Result<Vec<Comparison>> {
    let logits = s.placed(&(random(1, &shape) * spread), layout)?;
    let (labels, tensor) = labels(s, shape)?;
    let loss = logits.tensor.cross_entropy(&tensor, smoothing)?;
    let expected = reference::cross_entropy(&logits.values, &labels, smoothing);
    Ok(vec![Comparison::new("loss", &loss, &array(&[], vec![expected]))?])
}

fn gradient(
    s: &Setup,
    shape: [usize; 2],
    layout: Layout,
    smoothing: f64,
    spread: f64,
) -> Result<Vec<Comparison>> {
    let logits = s.placed(&(random(1, &shape) * spread), layout)?;
    let (labels, tensor) = labels(s, shape)?;
    let dloss = array(&[], vec![1.75]);
    let dloss = s.placed_as(&dloss, Layout::Offset, s.dtype.accumulator())?;
    let grad = logits.tensor.cross_entropy_grad(&tensor, smoothing, &dloss.tensor)?;
    let dloss = dloss.values[[]];
    let expected = reference::cross_entropy_grad(&logits.values, &labels, smoothing, dloss);
    // Softmax minus target: both are at most 1, and the logits' spread is lost to rounding.
    let terms = expected.mapv(|_| (1.0 + spread) * 1.75 / shape[0] as f64);
    let accumulator = s.dtype.accumulator();
    Ok(vec![Comparison::new("dlogits", &grad, &expected)?.loosened(accumulator, &terms)])
}

/// Logits `spread` times as far apart as standard normal ones, and shares of classes: none for some, and of any sum.
fn shares(s: &Setup, shape: [usize; 2], layout: Layout, spread: f64) -> Result<[Input; 2]> {
    let logits = s.placed(&(random(1, &shape) * spread), layout)?;
    let shares = random(2, &shape).mapv(|share| share.max(0.0));
    Ok([logits, s.placed_as(&shares, layout, s.dtype.accumulator())?])
}

fn soft_target_loss(
    s: &Setup,
    shape: [usize; 2],
    layout: Layout,
    spread: f64,
) -> Result<Vec<Comparison>> {
    let [logits, targets] = shares(s, shape, layout, spread)?;
    let loss = logits.tensor.soft_target_cross_entropy(&targets.tensor)?;
    let expected = reference::soft_target_cross_entropy(&logits.values, &targets.values);
    Ok(vec![Comparison::of_sum("loss", &loss, &expected)?])
}

fn soft_target_gradient(
    s: &Setup,
    shape: [usize; 2],
    layout: Layout,
    spread: f64,
) -> Result<Vec<Comparison>> {
    let [logits, targets] = shares(s, shape, layout, spread)?;
    let dloss = array(&[], vec![1.75]);
    let dloss = s.placed_as(&dloss, Layout::Offset, s.dtype.accumulator())?;
    let grad = logits.tensor.soft_target_cross_entropy_grad(&targets.tensor, &dloss.tensor)?;
    let dloss = dloss.values[[]];
    let mut expected =
        reference::soft_target_cross_entropy_grad(&logits.values, &targets.values, dloss);
    // The logits' spread is lost to rounding.
    expected.terms *= 1.0 + spread;
    Ok(vec![Comparison::of_sum("dlogits", &grad, &expected)?])
}

/// The same at many sizes.
pub(super) fn sweep(reach: Reach) -> Vec<Case> {
    let axes = [Axis::new(&[3], ROWS), Axis::new(&[19], WIDTH)];
    let mut cases = Vec::new();
    cases.extend(over(reach, "cross_entropy", &axes, |s, shape, turn| {
        loss(s, shape, pick(turn, &LAYOUTS), pick(turn, &[0.0, 0.1]), 1.0)
    }));
    cases.extend(over(reach, "cross_entropy_grad", &axes, |s, shape, turn| {
        gradient(s, shape, pick(turn, &LAYOUTS), pick(turn, &[0.0, 0.1]), 1.0)
    }));
    cases.extend(over(reach, "cross_entropy", &axes, |s, shape, turn| {
        soft_target_loss(s, shape, pick(turn, &LAYOUTS), 1.0)
    }));
    cases.extend(over(reach, "cross_entropy_grad", &axes, |s, shape, turn| {
        soft_target_gradient(s, shape, pick(turn, &LAYOUTS), 1.0)
    }));
    cases
}

faults! {
    Losses {
        cross_entropy(logits: &Tensor, targets: &Tensor, smoothing: f64, loss: &Tensor)
            writes [Some(loss)];
        cross_entropy_grad(
            logits: &Tensor, targets: &Tensor, smoothing: f64, dloss: &Tensor, dlogits: &Tensor
        ) writes [Some(dlogits)];
    }
}

#[cfg(test)]
mod tests {
    use super::reference::*;
    use crate::gradcheck::{central, compare};
    use crate::inputs::random;
    use crate::reference::*;

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
        let loss = cross_entropy(&zeros(&[2, 10]), &[1, 9], 0.1);
        assert!((loss - 10f64.ln()).abs() < 1e-15);
    }
}
