//! Batch norm with its statistics and gradients.

use vitrine_tensor::backend::{BatchNorm, BatchNormGrads, BatchNorms};
use vitrine_tensor::{Activation, Result, Tensor};

use crate::case::Case;
use crate::compare::Comparison;
use crate::faulty::faults;
use crate::inputs::{Input, Layout, Setup, random};
use crate::sweep::{Axis, LAYOUTS, ROWS, Reach, WIDTH, over, pick};

/// What they mean, in plain `f64` loops.
pub mod reference {
    use vitrine_tensor::Activation;

    use crate::operations::activation::reference::{derivative, value};
    use crate::reference::{Array, Sum, array, flat, rows_and_width};

    /// Mean and variance of each channel, `[2, C]`.
    pub fn batch_statistics(x: &Array) -> Array {
        let (rows, channels) = rows_and_width(x);
        let values = flat(x);
        let of = |c: usize| (0..rows).map(move |row| row * channels + c);
        let mean = |c| of(c).map(|at| values[at]).sum::<f64>() / rows as f64;
        let means: Vec<f64> = (0..channels).map(mean).collect();
        let variance = |c: usize| of(c).map(|at| (values[at] - means[c]).powi(2)).sum::<f64>();
        let variances = (0..channels).map(|c| variance(c) / rows as f64);
        array(&[2, channels], means.iter().copied().chain(variances).collect())
    }

    /// What normalises, given statistics `[2, C]`.
    pub struct BatchNorm<'a> {
        /// `[C]`
        pub scale: &'a Array,
        /// `[C]`
        pub shift: &'a Array,
        /// ε
        pub epsilon: f64,
        /// Of x's shape.
        pub residual: Option<&'a Array>,
        /// Applied last.
        pub activation: Option<Activation>,
    }

    impl BatchNorm<'_> {
        /// The normalised x, and what comes before the activation.
        fn before(&self, x: &Array, statistics: &Array) -> [Array; 2] {
            let channels = self.scale.len().max(1);
            let normalise = |(i, x): (usize, &f64)| {
                let c = i % channels;
                (x - statistics[[0, c]]) / (statistics[[1, c]] + self.epsilon).sqrt()
            };
            let normalised: Vec<f64> = flat(x).iter().enumerate().map(normalise).collect();
            let residual = self.residual.map(flat);
            let before = normalised.iter().enumerate().map(|(i, n)| {
                let residual = residual.as_ref().map_or(0.0, |residual| residual[i]);
                n * self.scale[[i % channels]] + self.shift[[i % channels]] + residual
            });
            let before = before.collect();
            [array(x.shape(), normalised), array(x.shape(), before)]
        }
    }

    /// `activation((x − mean)/√(variance + ε)·scale + shift + residual)`
    pub fn batch_norm(x: &Array, statistics: &Array, norm: &BatchNorm<'_>) -> Array {
        let [_, before] = norm.before(x, statistics);
        before.mapv(|v| norm.activation.map_or(v, |activation| value(activation, v)))
    }

    /// Gradients of batch norm.
    pub struct BatchNormGrads {
        /// Of x's shape.
        pub x: Sum,
        /// Of x's shape: before the activation.
        pub residual: Array,
        /// `[C]`
        pub scale: Sum,
        /// `[C]`
        pub shift: Sum,
    }

    /// By the chain rule through mean and variance, channel by channel; none of x goes through `fixed` statistics.
    pub fn batch_norm_grad(
        x: &Array,
        statistics: &Array,
        norm: &BatchNorm<'_>,
        fixed: bool,
        dy: &Array,
    ) -> BatchNormGrads {
        let (rows, channels) = rows_and_width(x);
        let [normalised, before] = norm.before(x, statistics);
        let slope = |v| norm.activation.map_or(1.0, |activation| derivative(activation, v));
        let residual = dy * &before.mapv(slope);
        let (g, n, dys) = (flat(&residual), flat(&normalised), flat(dy));
        let (mut scale, mut shift) = (Sum::zeros(&[channels]), Sum::zeros(&[channels]));
        let (mut dx, mut terms) = (vec![0.0; g.len()], vec![0.0; g.len()]);
        for c in 0..channels {
            let of = || (0..rows).map(|row| row * channels + c);
            let root = 1.0 / (statistics[[1, c]] + norm.epsilon).sqrt();
            for at in of() {
                for (sum, term) in [(&mut scale, g[at] * n[at]), (&mut shift, g[at])] {
                    sum.value[[c]] += term;
                    sum.terms[[c]] += term.abs();
                }
            }
            let factor = norm.scale[[c]] * root;
            for at in of() {
                // y depends on x itself, on the mean, and on the variance.
                let through = shift.value[[c]] + n[at] * scale.value[[c]];
                dx[at] = factor * if fixed { g[at] } else { g[at] - through / rows as f64 };
                // The slope is that of a value which was rounded too: more, the further x is from the mean.
                let slope = dys[at].abs() * (n[at] * norm.scale[[c]]).abs();
                let sums = shift.terms[[c]] + n[at].abs() * scale.terms[[c]];
                let means = if fixed { 0.0 } else { sums / rows as f64 };
                terms[at] = factor.abs() * (g[at].abs() + means + slope);
            }
        }
        let x = Sum { value: array(x.shape(), dx), terms: array(x.shape(), terms) };
        BatchNormGrads { x, residual, scale, shift }
    }
}

const ACTIVATIONS: [Option<Activation>; 4] =
    [None, Some(Activation::Relu), Some(Activation::Silu), Some(Activation::GeluErf)];

pub(super) fn cases() -> Vec<Case> {
    const SHAPES: [&[usize]; 7] =
        [&[3], &[5, 1], &[2, 0], &[7, 9], &[3, 5, 2, 17], &[700, 37], &[2, 1030]];
    let mut cases = Vec::new();
    for (turn, shape) in SHAPES.into_iter().enumerate() {
        for layout in [Layout::Dense, Layout::Transposed, Layout::Narrowed] {
            cases.extend(all(&format!("{shape:?}, {layout:?}"), shape.to_vec(), layout, turn));
        }
    }
    for (turn, activation) in ACTIVATIONS.into_iter().enumerate() {
        // Each with and without residual, with own and with fixed statistics.
        for options in 0..4 {
            let name = format!("{activation:?}, {options}");
            cases.extend(all(&name, vec![4, 3, 6], Layout::Dense, turn + 4 * options));
        }
    }
    cases.push(Case::new("batch_statistics", "values far from 0", |s| {
        let x = s.placed(&(random(1, &[300, 5]) + 1000.0), Layout::Dense)?;
        let expected = reference::batch_statistics(&x.values);
        Ok(vec![Comparison::new("statistics", &x.tensor.batch_statistics()?, &expected)?])
    }));
    cases
}

/// The three operations, with options by turns.
fn all(name: &str, shape: Vec<usize>, layout: Layout, turn: usize) -> [Case; 3] {
    let shapes = [shape.clone(), shape.clone(), shape];
    let [statistics, forward, grad] = shapes;
    [
        Case::new("batch_statistics", name, move |s| of_statistics(s, &statistics, layout)),
        Case::new("batch_norm", name, move |s| batch_norm(s, &forward, layout, turn)),
        Case::new("batch_norm_grad", name, move |s| batch_norm_grad(s, &grad, layout, turn)),
    ]
}

fn of_statistics(s: &Setup, shape: &[usize], layout: Layout) -> Result<Vec<Comparison>> {
    let x = s.laid_out(1, shape, layout)?;
    let expected = reference::batch_statistics(&x.values);
    let found = Comparison::new("statistics", &x.tensor.batch_statistics()?, &expected)?;
    // The sum of numbers of both signs.
    Ok(vec![found.loosened(s.dtype.accumulator(), &expected.mapv(|_| 1.0))])
}

fn batch_norm(s: &Setup, shape: &[usize], layout: Layout, turn: usize) -> Result<Vec<Comparison>> {
    with_inputs(s, shape, layout, turn, |x, statistics, norm, of| {
        let y = x.tensor.batch_norm(&statistics.tensor, norm)?;
        let expected = reference::batch_norm(&x.values, &statistics.values, of);
        // Small where terms cancel.
        let terms = expected.mapv(|y| 4.0 + y.abs());
        Ok(vec![Comparison::new("y", &y, &expected)?.loosened(s.dtype.accumulator(), &terms)])
    })
}

fn batch_norm_grad(
    s: &Setup,
    shape: &[usize],
    layout: Layout,
    turn: usize,
) -> Result<Vec<Comparison>> {
    let fixed = turn / 8 % 2 == 1;
    with_inputs(s, shape, layout, turn, |x, statistics, norm, of| {
        let dy = s.laid_out(6, shape, layout)?;
        let channels = norm.scale.shape();
        let (dscale, dshift) = (s.destination(7, channels)?, s.destination(8, channels)?);
        let (dx, residual) = x.tensor.batch_norm_grad(
            &statistics.tensor,
            norm,
            fixed,
            &dy.tensor,
            &dscale.tensor,
            &dshift.tensor,
        )?;
        let expected =
            reference::batch_norm_grad(&x.values, &statistics.values, of, fixed, &dy.values);
        // The gradient before the activation may be rounded to the element type on the way.
        let dx = Comparison::of_sum("dx", &dx, &expected.x)?.loosened(s.dtype, &expected.x.terms);
        let mut found = vec![
            dx,
            dscale.compare_added("dscale", &expected.scale)?,
            dshift.compare_added("dshift", &expected.shift)?,
        ];
        if let Some(residual) = residual {
            found.push(Comparison::new("dresidual", &residual, &expected.residual)?);
        }
        Ok(found)
    })
}

/// Runs `work` with inputs and their reference, residual and activation by turns.
pub(super) fn with_inputs(
    s: &Setup,
    shape: &[usize],
    layout: Layout,
    turn: usize,
    work: impl Fn(&Input, &Input, &BatchNorm<'_>, &reference::BatchNorm<'_>) -> Result<Vec<Comparison>>,
) -> Result<Vec<Comparison>> {
    let channels = [shape[shape.len() - 1]];
    let x = s.laid_out(1, shape, layout)?;
    let (scale, shift) = (s.laid_out(2, &channels, layout)?, s.laid_out(3, &channels, layout)?);
    let residual = s.laid_out(4, shape, layout)?;
    // A variance is not negative; a mean may be so too.
    let values = random(5, &[2, channels[0]]).mapv(|v| v * v);
    let statistics = s.placed_as(&values, Layout::Dense, s.dtype.accumulator())?;
    let (activation, has_residual) = (pick(turn, &ACTIVATIONS), turn / 4 % 2 == 1);
    let norm = BatchNorm {
        scale: &scale.tensor,
        shift: &shift.tensor,
        epsilon: 1e-2,
        residual: has_residual.then_some(&residual.tensor),
        activation,
    };
    let of = reference::BatchNorm {
        scale: &scale.values,
        shift: &shift.values,
        epsilon: 1e-2,
        residual: has_residual.then_some(&residual.values),
        activation,
    };
    work(&x, &statistics, &norm, &of)
}

/// The same at many sizes.
pub(super) fn sweep(reach: Reach) -> Vec<Case> {
    let axes = [Axis::new(&[3], ROWS), Axis::new(&[19], WIDTH)];
    let mut cases = over(reach, "batch_statistics", &axes, |s, shape, turn| {
        of_statistics(s, &shape, pick(turn, &LAYOUTS))
    });
    cases.extend(over(reach, "batch_norm", &axes, |s, shape, turn| {
        batch_norm(s, &shape, pick(turn, &LAYOUTS), turn)
    }));
    cases.extend(over(reach, "batch_norm_grad", &axes, |s, shape, turn| {
        batch_norm_grad(s, &shape, pick(turn, &LAYOUTS), turn)
    }));
    cases
}

faults! {
    BatchNorms {
        batch_statistics(x: &Tensor, statistics: &Tensor) writes [Some(statistics)];
        batch_norm(x: &Tensor, statistics: &Tensor, norm: &BatchNorm<'_>, y: &Tensor)
            writes [Some(y)];
        batch_norm_grad(
            x: &Tensor, statistics: &Tensor, norm: &BatchNorm<'_>, fixed: bool, dy: &Tensor,
            grads: &BatchNormGrads<'_>
        ) writes [Some(grads.input), grads.residual, Some(grads.scale), Some(grads.shift)];
    }
}

#[cfg(test)]
mod tests {
    use vitrine_tensor::Activation;

    use super::reference::*;
    use crate::gradcheck::{central, compare};
    use crate::inputs::random;
    use crate::reference::*;

    fn norm(v: &[Array]) -> BatchNorm<'_> {
        let (residual, activation) = (Some(&v[3]), Some(Activation::GeluTanh));
        BatchNorm { scale: &v[1], shift: &v[2], epsilon: 1e-2, residual, activation }
    }

    #[test]
    fn gradients_are_those_of_central_differences() {
        let inputs = [random(1, &[4, 3]), random(2, &[3]), random(3, &[3]), random(4, &[4, 3])];
        let (dy, given) = (random(5, &[4, 3]), random(6, &[2, 3]).mapv(|v| v * v));
        for fixed in [false, true] {
            let of = |x: &Array| if fixed { given.clone() } else { batch_statistics(x) };
            let f = |v: &[Array]| (batch_norm(&v[0], &of(&v[0]), &norm(v)) * &dy).sum();
            let exact = batch_norm_grad(&inputs[0], &of(&inputs[0]), &norm(&inputs), fixed, &dy);
            let exact = [exact.x.value, exact.scale.value, exact.shift.value, exact.residual];
            compare(&central(f, &inputs), &exact).unwrap();
        }
    }
}
