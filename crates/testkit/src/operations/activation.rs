//! Activations and dropout.

use vitrine_tensor::backend::Activations;
use vitrine_tensor::{Activation, DType, Dropout, Result, Tensor};

use super::mask;
use crate::case::Case;
use crate::compare::Comparison;
use crate::faulty::faults;
use crate::inputs::{Layout, Setup};
use crate::reference::array;
use crate::sweep::{Axis, FLAT, LAYOUTS, ROWS, Reach, over, pick};

/// What they mean, in plain `f64` loops.
pub mod reference {
    use std::f64::consts::{PI, TAU};

    use vitrine_tensor::{Activation, Dropout};

    use crate::reference::{Array, philox};

    /// The normal density φ.
    fn density(x: f64) -> f64 {
        (-0.5 * x * x).exp() / TAU.sqrt()
    }

    /// The normal distribution function Φ by its series (Marsaglia 2004, "Evaluating the normal distribution"):
    /// `1/2 + φ(x)·(x + x³/3 + x⁵/(3·5) + …)`.
    pub(super) fn distribution(x: f64) -> f64 {
        if x.abs() > 8.0 {
            return if x > 0.0 { 1.0 } else { 0.0 };
        }
        let (mut sum, mut term, mut odd) = (x, x, 1.0);
        while term.abs() > 1e-20 * sum.abs() {
            odd += 2.0;
            term *= x * x / odd;
            sum += term;
        }
        0.5 + density(x) * sum
    }

    /// `activation(x)` of one number. Where a formula has `∞·0` it stands: GELU and SiLU are NaN at −∞, as in PyTorch.
    pub fn value(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::GeluErf => x * distribution(x),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            }
            Activation::Relu if x <= 0.0 => 0.0,
            Activation::Relu => x,
            Activation::Silu => x / (1.0 + (-x).exp()),
        }
    }

    /// The derivative at one number.
    pub fn derivative(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::GeluErf => distribution(x) + x * density(x),
            Activation::GeluTanh => {
                let root = (2.0 / PI).sqrt();
                let t = (root * (x + 0.044715 * x.powi(3))).tanh();
                let inner = root * (1.0 + 3.0 * 0.044715 * x * x);
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner
            }
            Activation::Relu if x <= 0.0 => 0.0,
            Activation::Relu => 1.0,
            Activation::Silu => {
                let sigmoid = 1.0 / (1.0 + (-x).exp());
                sigmoid * (1.0 + x * (1.0 - sigmoid))
            }
        }
    }

    /// `activation(x)`
    pub fn activate(x: &Array, activation: Activation) -> Array {
        x.mapv(|x| value(activation, x))
    }

    /// `dy · activation′(x)`
    pub fn activate_grad(x: &Array, activation: Activation, dy: &Array) -> Array {
        x.mapv(|x| derivative(activation, x)) * dy
    }

    /// `x · mask`
    pub fn dropout(x: &Array, dropout: &Dropout) -> Array {
        philox::dropped(x, &philox::mask(Some(dropout), x.shape()))
    }
}

const ACTIVATIONS: [Activation; 4] =
    [Activation::GeluErf, Activation::GeluTanh, Activation::Relu, Activation::Silu];

const SHAPES: [&[usize]; 7] = [&[], &[1], &[0, 4], &[7, 9], &[3, 5, 7], &[700, 37], &[2, 17_000]];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in SHAPES {
        for layout in [Layout::Dense, Layout::Transposed, Layout::Narrowed] {
            for activation in ACTIVATIONS {
                let name = format!("{activation:?} {shape:?}, {layout:?}");
                cases.push(Case::new("activate", name.clone(), move |s| {
                    activate(s, shape, layout, activation)
                }));
                cases.push(Case::new("activate_grad", name, move |s| {
                    activate_grad(s, shape, layout, activation)
                }));
            }
            for p in [0.0, 0.1, 0.999] {
                let name = format!("p {p}, {shape:?}, {layout:?}");
                cases.push(Case::new("dropout", name, move |s| dropout(s, shape, layout, p)));
            }
        }
    }
    cases.push(first_rows());
    cases.extend(ACTIVATIONS.map(far_out));
    cases
}

fn activate(
    s: &Setup,
    shape: &[usize],
    layout: Layout,
    activation: Activation,
) -> Result<Vec<Comparison>> {
    let x = s.laid_out(1, shape, layout)?;
    let expected = reference::activate(&x.values, activation);
    Ok(vec![Comparison::new("y", &x.tensor.activate(activation)?, &expected)?])
}

fn activate_grad(
    s: &Setup,
    shape: &[usize],
    layout: Layout,
    activation: Activation,
) -> Result<Vec<Comparison>> {
    let (x, dy) = (s.laid_out(1, shape, layout)?, s.laid_out(2, shape, layout)?);
    let dx = x.tensor.activate_grad(activation, &dy.tensor)?;
    let expected = reference::activate_grad(&x.values, activation, &dy.values);
    Ok(vec![Comparison::new("dx", &dx, &expected)?])
}

fn dropout(s: &Setup, shape: &[usize], layout: Layout, p: f64) -> Result<Vec<Comparison>> {
    let x = s.laid_out(1, shape, layout)?;
    let expected = reference::dropout(&x.values, &mask(p, 2));
    Ok(vec![Comparison::new("y", &x.tensor.dropout(mask(p, 2))?, &expected)?])
}

/// The mask of a tensor that holds the first rows of larger samples.
fn first_rows() -> Case {
    let mut dropout = mask(0.5, 9);
    dropout.sample_stride = Some(3000);
    Case::new("dropout", "the first rows of larger samples", move |s| {
        let x = s.normal(1, &[5, 11, 130])?;
        let expected = reference::dropout(&x.values, &dropout);
        Ok(vec![Comparison::new("y", &x.tensor.dropout(dropout)?, &expected)?])
    })
}

/// Values far from 0, where a sloppy formula overflows or cancels.
fn far_out(activation: Activation) -> Case {
    Case::new("activate", format!("{activation:?} from -40 to 40, and 1e4"), move |s| {
        let mut values: Vec<f64> = (-400..=400).map(|i| f64::from(i) / 10.0).collect();
        values.extend([1e4, -1e4, 0.0]);
        let x = s.placed(&array(&[values.len()], values), Layout::Dense)?;
        let ones = s.placed(&x.values.mapv(|_| 1.0), Layout::Dense)?;
        let y = x.tensor.activate(activation)?;
        let dx = x.tensor.activate_grad(activation, &ones.tensor)?;
        let derivative = reference::activate_grad(&x.values, activation, &ones.values);
        // bf16's values have no absolute error worth allowing, but the f32 arithmetic behind them does.
        let arithmetic = x.values.mapv(|x| x.abs().min(20.0));
        let acc = if s.dtype == DType::F64 { DType::F64 } else { DType::F32 };
        Ok(vec![
            Comparison::new("y", &y, &reference::activate(&x.values, activation))?
                .loosened(acc, &arithmetic),
            Comparison::new("dx", &dx, &derivative)?.loosened(acc, &arithmetic),
        ])
    })
}

/// The same at many sizes.
pub(super) fn sweep(reach: Reach) -> Vec<Case> {
    let axes = [Axis::new(&[2], ROWS), Axis::new(&[5], FLAT)];
    let mut cases = over(reach, "activate", &axes, |s, shape, turn| {
        activate(s, &shape, pick(turn / 3, &LAYOUTS), pick(turn, &ACTIVATIONS))
    });
    cases.extend(over(reach, "activate_grad", &axes, |s, shape, turn| {
        activate_grad(s, &shape, pick(turn / 3, &LAYOUTS), pick(turn, &ACTIVATIONS))
    }));
    cases.extend(over(reach, "dropout", &axes, |s, shape, turn| {
        dropout(s, &shape, pick(turn, &LAYOUTS), 0.3)
    }));
    cases
}

faults! {
    Activations {
        activate(x: &Tensor, activation: Activation, y: &Tensor) writes [Some(y)];
        activate_grad(x: &Tensor, activation: Activation, dy: &Tensor, dx: &Tensor)
            writes [Some(dx)];
        dropout(x: &Tensor, dropout: Dropout, y: &Tensor) writes [Some(y)];
    }
}

#[cfg(test)]
mod tests {
    use super::ACTIVATIONS;
    use super::reference::*;
    use crate::gradcheck::{central, compare};
    use crate::inputs::random;
    use crate::reference::*;

    #[test]
    fn the_normal_distribution_has_its_published_values() {
        for (x, expected) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746_068_542_9),
            (-2.0, 0.022_750_131_948_179_21),
            (3.0, 0.998_650_101_968_369_9),
        ] {
            assert!((distribution(x) - expected).abs() < 1e-15, "{x}");
        }
    }

    #[test]
    fn gradients_are_those_of_central_differences() {
        let (x, dy) = (random(1, &[5, 7]), random(2, &[5, 7]));
        for activation in ACTIVATIONS {
            let f = |x: &[Array]| (activate(&x[0], activation) * &dy).sum();
            let numeric = central(f, std::slice::from_ref(&x));
            let exact = activate_grad(&x, activation, &dy);
            compare(&numeric, &[exact]).unwrap();
        }
    }
}
