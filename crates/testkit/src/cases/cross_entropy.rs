//! Cross-entropy and its gradient, with labels and with shares of classes.

use vitrine_tensor::{Result, Tensor};

use crate::case::Case;
use crate::compare::Comparison;
use crate::inputs::{Input, Layout, Setup, random};
use crate::reference::{array, cross_entropy as reference};

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
            cases.push(Case::new("soft_target_cross_entropy", name.clone(), move |s| {
                soft_target_loss(s, shape, layout, spread)
            }));
            cases.push(Case::new("soft_target_cross_entropy_grad", name, move |s| {
                soft_target_gradient(s, shape, layout, spread)
            }));
        }
    }
    cases
}

/// Of logits `spread` times as far apart as standard normal ones.
pub(crate) fn loss(
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

pub(crate) fn gradient(
    s: &Setup,
    shape: [usize; 2],
    layout: Layout,
    smoothing: f64,
    spread: f64,
) -> Result<Vec<Comparison>> {
    let logits = s.placed(&(random(1, &shape) * spread), layout)?;
    let (labels, tensor) = labels(s, shape)?;
    let dloss = array(&[], vec![1.75]);
    let dloss = s.placed_as(&dloss, Layout::Offset, s.dtype.accumulator())?.tensor;
    let grad = logits.tensor.cross_entropy_grad(&tensor, smoothing, &dloss)?;
    let expected = reference::cross_entropy_grad(&logits.values, &labels, smoothing, 1.75);
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

pub(crate) fn soft_target_loss(
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

pub(crate) fn soft_target_gradient(
    s: &Setup,
    shape: [usize; 2],
    layout: Layout,
    spread: f64,
) -> Result<Vec<Comparison>> {
    let [logits, targets] = shares(s, shape, layout, spread)?;
    let dloss = array(&[], vec![1.75]);
    let dloss = s.placed_as(&dloss, Layout::Offset, s.dtype.accumulator())?.tensor;
    let grad = logits.tensor.soft_target_cross_entropy_grad(&targets.tensor, &dloss)?;
    let mut expected =
        reference::soft_target_cross_entropy_grad(&logits.values, &targets.values, 1.75);
    // The logits' spread is lost to rounding.
    expected.terms *= 1.0 + spread;
    Ok(vec![Comparison::of_sum("dlogits", &grad, &expected)?])
}
