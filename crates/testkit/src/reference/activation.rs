//! Activation functions and dropout.

use std::f64::consts::{PI, TAU};

use vitrine_tensor::{Activation, Dropout};

use super::{Array, philox};

/// The normal density φ.
fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / TAU.sqrt()
}

/// The normal distribution function Φ by its series (Marsaglia 2004, "Evaluating the normal distribution"):
/// `1/2 + φ(x)·(x + x³/3 + x⁵/(3·5) + …)`.
fn distribution(x: f64) -> f64 {
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

/// `activation(x)` of one number.
pub fn value(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::GeluErf => x * distribution(x),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Relu => x.max(0.0),
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
        Activation::Relu => f64::from(u8::from(x > 0.0)),
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
    x * &philox::mask(Some(dropout), x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::{central, compare};
    use crate::inputs::random;

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
        for activation in [Activation::GeluErf, Activation::GeluTanh, Activation::Relu] {
            let f = |x: &[Array]| (activate(&x[0], activation) * &dy).sum();
            let numeric = central(f, std::slice::from_ref(&x));
            let exact = activate_grad(&x, activation, &dy);
            compare(&numeric, &[exact]).unwrap();
        }
    }
}
