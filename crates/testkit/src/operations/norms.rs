//! Layer norm and softmax, with their gradients.

use vitrine_tensor::backend::{LayerNormGrads, Norms};
use vitrine_tensor::{Result, Tensor};

use crate::case::Case;
use crate::compare::Comparison;
use crate::faulty::faults;
use crate::inputs::{Layout, Setup, random};
use crate::sweep::{Axis, LAYOUTS, ROWS, Reach, WIDTH, over, pick};

/// What they mean, in plain `f64` loops.
pub mod reference {
    use crate::reference::{Array, Sum, array, flat, rows_and_width};

    /// The result, and mean and reciprocal root of each row `[rows, 2]`.
    pub fn layer_norm(x: &Array, scale: &Array, shift: &Array, epsilon: f64) -> (Array, Array) {
        let (rows, width) = rows_and_width(x);
        let values = flat(x);
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

    /// By the chain rule through mean and variance, one step at a time, from the statistics that were saved (rounded
    /// to their element type).
    pub fn layer_norm_grad(
        x: &Array,
        scale: &Array,
        statistics: &Array,
        dy: &Array,
    ) -> LayerNormGrads {
        let (_, width) = rows_and_width(x);
        let n = width as f64;
        let mut grads = LayerNormGrads {
            x: Sum::zeros(x.shape()),
            scale: Sum::zeros(&[width]),
            shift: Sum::zeros(&[width]),
        };
        let (values, dys) = (flat(x), flat(dy));
        let (mut dx, mut terms) = (Vec::new(), Vec::new());
        let rows = values.chunks(width.max(1)).zip(dys.chunks(width.max(1)));
        for ((row, dy), statistics) in rows.zip(flat(statistics).as_chunks::<2>().0) {
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
            let dcentred: Vec<f64> = (0..width)
                .map(|i| dnormalised[i] * root + dvariance * 2.0 * centred[i] / n)
                .collect();
            // The centred values add up to 0, but for the rounding of the mean.
            let dmean = -root * dnormalised.iter().sum::<f64>();
            dx.extend(dcentred.iter().map(|d| d + dmean / n));
            let largest = dnormalised.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
            terms.extend(normalised.iter().map(|v| root * largest * (1.0 + v.abs())));
        }
        grads.x = Sum { value: array(x.shape(), dx), terms: array(x.shape(), terms) };
        grads
    }

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
        array(x.shape(), flat(x).chunks(width.max(1)).flat_map(|x| row(x).0).collect())
    }

    /// By the Jacobian: `dx_i = Σ_j dy_j · y_j·(δ_ij − y_i)`, for y the result.
    pub fn softmax_grad(y: &Array, dy: &Array) -> Array {
        let (_, width) = rows_and_width(y);
        let (ys, dys) = (flat(y), flat(dy));
        let mut dx = Vec::new();
        for (y, dy) in ys.chunks(width.max(1)).zip(dys.chunks(width.max(1))) {
            for i in 0..width {
                let jacobian = |j: usize| y[j] * (f64::from(u8::from(i == j)) - y[i]);
                dx.push((0..width).map(|j| dy[j] * jacobian(j)).sum());
            }
        }
        array(y.shape(), dx)
    }
}

const NORM_SHAPES: [&[usize]; 8] =
    [&[1], &[3, 1], &[0, 4], &[5], &[7, 9], &[3, 5, 17], &[700, 37], &[2, 1030]];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in NORM_SHAPES {
        for layout in [Layout::Dense, Layout::Transposed, Layout::Narrowed] {
            for epsilon in [1e-5, 1e-6] {
                let name = format!("{shape:?}, {layout:?}, epsilon {epsilon:e}");
                cases.push(Case::new("layer_norm", name.clone(), move |s| {
                    layer_norm(s, shape, layout, epsilon)
                }));
                cases.push(Case::new("layer_norm_grad", name, move |s| {
                    layer_norm_grad(s, shape, layout, epsilon)
                }));
            }
        }
    }
    cases.push(Case::new("layer_norm", "rows far from 0", |s| {
        let x = s.placed(&(random(1, &[5, 64]) + 100.0), Layout::Dense)?;
        let (scale, shift) = (s.normal(2, &[64])?, s.normal(3, &[64])?);
        let (y, found) = x.tensor.layer_norm(&scale.tensor, &shift.tensor, 1e-5)?;
        let (expected, statistics) =
            reference::layer_norm(&x.values, &scale.values, &shift.values, 1e-5);
        // The mean is 100 times what is left after it is taken off, and so is its rounding error.
        let terms = expected.mapv(|_| 300.0);
        Ok(vec![
            Comparison::new("y", &y, &expected)?.loosened(s.dtype.accumulator(), &terms),
            Comparison::new("statistics", &found, &statistics)?,
        ])
    }));
    cases.push(Case::new("layer_norm", "constant rows", |s| {
        let x = s.placed(&random(1, &[3, 8]).mapv(|_| 0.5), Layout::Dense)?;
        let (scale, shift) = (s.normal(2, &[8])?, s.normal(3, &[8])?);
        let (y, found) = x.tensor.layer_norm(&scale.tensor, &shift.tensor, 1e-5)?;
        let expected = shift.values.broadcast(vec![3, 8]).expect("the shapes fit").to_owned();
        let statistics = reference::layer_norm(&x.values, &scale.values, &shift.values, 1e-5).1;
        Ok(vec![
            Comparison::new("y", &y, &expected)?,
            Comparison::new("statistics", &found, &statistics)?,
        ])
    }));
    cases.extend(softmax_cases());
    cases
}

fn layer_norm(s: &Setup, shape: &[usize], layout: Layout, epsilon: f64) -> Result<Vec<Comparison>> {
    let width = shape[shape.len() - 1];
    let x = s.laid_out(1, shape, layout)?;
    let (scale, shift) = (s.laid_out(2, &[width], layout)?, s.laid_out(3, &[width], layout)?);
    let (y, statistics) = x.tensor.layer_norm(&scale.tensor, &shift.tensor, epsilon)?;
    let (expected, expected_statistics) =
        reference::layer_norm(&x.values, &scale.values, &shift.values, epsilon);
    Ok(vec![
        Comparison::new("y", &y, &expected)?,
        Comparison::new("statistics", &statistics, &expected_statistics)?,
    ])
}

fn layer_norm_grad(
    s: &Setup,
    shape: &[usize],
    layout: Layout,
    epsilon: f64,
) -> Result<Vec<Comparison>> {
    let width = shape[shape.len() - 1];
    let (x, dy) = (s.laid_out(1, shape, layout)?, s.laid_out(4, shape, layout)?);
    let scale = s.laid_out(2, &[width], layout)?;
    let statistics = reference::layer_norm(&x.values, &scale.values, &scale.values, epsilon).1;
    let statistics = s.placed_as(&statistics, Layout::Dense, s.dtype.accumulator())?;
    let (dscale, dshift) = (s.destination(5, &[width])?, s.destination(6, &[width])?);
    let dx = x.tensor.layer_norm_grad(
        &scale.tensor,
        &statistics.tensor,
        &dy.tensor,
        &dscale.tensor,
        &dshift.tensor,
    )?;
    let expected =
        reference::layer_norm_grad(&x.values, &scale.values, &statistics.values, &dy.values);
    Ok(vec![
        Comparison::of_sum("dx", &dx, &expected.x)?,
        dscale.compare_added("dscale", &expected.scale)?,
        dshift.compare_added("dshift", &expected.shift)?,
    ])
}

const SOFTMAX_SHAPES: [&[usize]; 8] =
    [&[], &[1], &[0, 4], &[3, 0], &[5, 7], &[2, 3, 17], &[700, 37], &[3, 1030]];

fn softmax_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in SOFTMAX_SHAPES {
        for layout in [Layout::Dense, Layout::Transposed, Layout::Narrowed] {
            let name = format!("{shape:?}, {layout:?}");
            cases.push(Case::new("softmax", name.clone(), move |s| softmax(s, shape, layout)));
            cases.push(Case::new("softmax_grad", name, move |s| softmax_grad(s, shape, layout)));
        }
    }
    cases.push(Case::new("softmax", "scores far apart", |s| {
        let x = s.placed(&(random(1, &[4, 33]) * 300.0), Layout::Dense)?;
        let expected = reference::softmax(&x.values);
        Ok(vec![Comparison::new("y", &x.tensor.softmax()?, &expected)?])
    }));
    cases
}

fn softmax(s: &Setup, shape: &[usize], layout: Layout) -> Result<Vec<Comparison>> {
    let x = s.laid_out(1, shape, layout)?;
    let expected = reference::softmax(&x.values);
    Ok(vec![Comparison::new("y", &x.tensor.softmax()?, &expected)?])
}

fn softmax_grad(s: &Setup, shape: &[usize], layout: Layout) -> Result<Vec<Comparison>> {
    let y = s.placed(&reference::softmax(&random(1, shape)), layout)?;
    let dy = s.laid_out(2, shape, layout)?;
    let expected = reference::softmax_grad(&y.values, &dy.values);
    // dx = y·(dy − Σ dy·y): the inner sum is at most max |dy|.
    let largest = dy.values.iter().fold(0.0, |top: f64, d| top.max(d.abs()));
    let terms = &y.values * (2.0 * largest);
    let dx = y.tensor.softmax_grad(&dy.tensor)?;
    let accumulator = s.dtype.accumulator();
    Ok(vec![Comparison::new("dx", &dx, &expected)?.loosened(accumulator, &terms)])
}

/// The same at many sizes.
pub(super) fn sweep(reach: Reach) -> Vec<Case> {
    let axes = [Axis::new(&[3], ROWS), Axis::new(&[19], WIDTH)];
    let mut cases = over(reach, "layer_norm", &axes, |s, shape, turn| {
        layer_norm(s, &shape, pick(turn, &LAYOUTS), 1e-5)
    });
    cases.extend(over(reach, "layer_norm_grad", &axes, |s, shape, turn| {
        layer_norm_grad(s, &shape, pick(turn, &LAYOUTS), 1e-5)
    }));
    cases.extend(over(reach, "softmax", &axes, |s, shape, turn| {
        softmax(s, &shape, pick(turn, &LAYOUTS))
    }));
    cases.extend(over(reach, "softmax_grad", &axes, |s, shape, turn| {
        softmax_grad(s, &shape, pick(turn, &LAYOUTS))
    }));
    cases
}

faults! {
    Norms {
        layer_norm(
            x: &Tensor, scale: &Tensor, shift: &Tensor, epsilon: f64, y: &Tensor,
            statistics: &Tensor
        ) writes [Some(y), Some(statistics)];
        layer_norm_grad(
            x: &Tensor, scale: &Tensor, statistics: &Tensor, dy: &Tensor, grads: &LayerNormGrads<'_>
        ) writes [Some(grads.input), Some(grads.scale), Some(grads.shift)];
        softmax(x: &Tensor, y: &Tensor) writes [Some(y)];
        softmax_grad(y: &Tensor, dy: &Tensor, dx: &Tensor) writes [Some(dx)];
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
        let inputs = [random(1, &[2, 3, 5]), random(2, &[5]), random(3, &[5])];
        let dy = random(4, &[2, 3, 5]);
        let f = |v: &[Array]| (layer_norm(&v[0], &v[1], &v[2], 1e-2).0 * &dy).sum();
        let statistics = layer_norm(&inputs[0], &inputs[1], &inputs[2], 1e-2).1;
        let exact = layer_norm_grad(&inputs[0], &inputs[1], &statistics, &dy);
        let exact = [exact.x.value, exact.scale.value, exact.shift.value];
        compare(&central(f, &inputs), &exact).unwrap();
    }

    #[test]
    fn softmax_gradients_are_those_of_central_differences() {
        let (x, dy) = (random(1, &[3, 5]), random(2, &[3, 5]));
        let f = |v: &[Array]| (softmax(&v[0]) * &dy).sum();
        let exact = softmax_grad(&softmax(&x), &dy);
        compare(&central(f, &[x]), &[exact]).unwrap();
    }
}
