//! The linear layer with its epilogue, its gradients, and the batched matrix product.

use vitrine_tensor::{Activation, Dropout};

use super::{Array, Sum, activation, philox, rows_and_width};

/// What follows the product: bias, activation, dropout, residual, in this order.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// `[O]`
    pub bias: Option<&'a Array>,
    /// The activation.
    pub activation: Option<Activation>,
    /// The mask after the activation.
    pub dropout: Option<&'a Dropout>,
    /// Of the output's shape.
    pub residual: Option<&'a Array>,
}

/// The result of a linear layer, and the derivative of what came before the residual.
pub struct Linear {
    /// `[.., O]`
    pub y: Sum,
    /// `[.., O]`
    pub derivative: Sum,
}

/// `epilogue(x·wᵀ)`: x `[.., I]`, w `[O, I]`.
pub fn linear(x: &Array, w: &Array, epilogue: &Epilogue<'_>) -> Linear {
    let ((rows, inputs), outputs) = (rows_and_width(x), w.shape()[0]);
    let mut shape = x.shape().to_vec();
    *shape.last_mut().expect("x has an axis") = outputs;
    let (x, w) = (super::flat(x), super::flat(w));
    let mut pre = Sum::zeros(&shape);
    let cells = pre.value.iter_mut().zip(pre.terms.iter_mut()).enumerate();
    for (at, (value, terms)) in cells {
        let (row, output) = (at / outputs, at % outputs);
        for i in 0..inputs {
            let term = x[row * inputs + i] * w[output * inputs + i];
            *value += term;
            *terms += term.abs();
        }
        if let Some(bias) = epilogue.bias {
            *value += bias[[output]];
            *terms += bias[[output]].abs();
        }
    }
    debug_assert_eq!(pre.value.len(), rows * outputs);
    let mask = philox::mask(epilogue.dropout, &shape);
    let mut y = pre.clone();
    let mut derivative = Sum { value: mask.clone(), terms: mask.clone() };
    if let Some(function) = epilogue.activation {
        y.value = activation::activate(&pre.value, function);
        // No activation here is steeper than 1.13, and no derivative steeper than 0.8 where it is one.
        y.terms *= 1.13;
        derivative.value *= &pre.value.mapv(|x| activation::derivative(function, x));
        derivative.terms *= &(pre.terms * 0.8 + 1.13);
    }
    y.value *= &mask;
    y.terms *= &mask;
    if let Some(residual) = epilogue.residual {
        y.value += residual;
        y.terms += &residual.mapv(f64::abs);
    }
    Linear { y, derivative }
}

/// `dx = dy·w`
pub fn linear_grad_input(dy: &Array, w: &Array) -> Sum {
    linear(dy, &w.t().to_owned(), &Epilogue::default()).y
}

/// `dpre = (dy·w) · derivative`
pub fn linear_grad_activated(dy: &Array, w: &Array, derivative: &Array) -> Sum {
    let Sum { value, terms } = linear_grad_input(dy, w);
    Sum { value: value * derivative, terms: terms * derivative.mapv(f64::abs) }
}

/// `dw = dyᵀ·x` over all rows.
pub fn linear_grad_weight(dy: &Array, x: &Array) -> Sum {
    let ((rows, outputs), (_, inputs)) = (rows_and_width(dy), rows_and_width(x));
    let (dy, x) = (super::flat(dy), super::flat(x));
    let mut dw = Sum::zeros(&[outputs, inputs]);
    for row in 0..rows {
        for o in 0..outputs {
            for i in 0..inputs {
                let term = dy[row * outputs + o] * x[row * inputs + i];
                dw.value[[o, i]] += term;
                dw.terms[[o, i]] += term.abs();
            }
        }
    }
    dw
}

/// `db = Σ dy` over all rows.
pub fn linear_grad_bias(dy: &Array) -> Sum {
    let (_, outputs) = rows_and_width(dy);
    let mut db = Sum::zeros(&[outputs]);
    for (at, &term) in dy.iter().enumerate() {
        db.value[[at % outputs]] += term;
        db.terms[[at % outputs]] += term.abs();
    }
    db
}

/// `[.., M, K]` by `[.., K, N]`, the leading axes being the same.
pub fn matmul(a: &Array, b: &Array) -> Sum {
    let rank = a.ndim();
    let (m, k, n) = (a.shape()[rank - 2], a.shape()[rank - 1], b.shape()[rank - 1]);
    let shape = [&a.shape()[..rank - 1], &[n]].concat();
    let (a, b) = (super::flat(a), super::flat(b));
    let mut c = Sum::zeros(&shape);
    let cells = c.value.iter_mut().zip(c.terms.iter_mut()).enumerate();
    for (at, (value, terms)) in cells {
        let (batch, i, j) = (at / (m * n), at / n % m, at % n);
        for inner in 0..k {
            let term = a[(batch * m + i) * k + inner] * b[(batch * k + inner) * n + j];
            *value += term;
            *terms += term.abs();
        }
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::{central, compare};
    use crate::inputs::random;

    #[test]
    fn gradients_are_those_of_central_differences() {
        let inputs = [random(1, &[2, 3, 4]), random(2, &[5, 4]), random(3, &[5])];
        let dy = random(4, &[2, 3, 5]);
        let f = |v: &[Array]| {
            let epilogue = Epilogue { bias: Some(&v[2]), ..Default::default() };
            (linear(&v[0], &v[1], &epilogue).y.value * &dy).sum()
        };
        let exact = [
            linear_grad_input(&dy, &inputs[1]).value,
            linear_grad_weight(&dy, &inputs[0]).value,
            linear_grad_bias(&dy).value,
        ];
        compare(&central(f, &inputs), &exact).unwrap();
    }

    #[test]
    fn the_product_is_that_of_ndarray() {
        let (a, b) = (random(1, &[4, 3]), random(2, &[3, 6]));
        let two = |x: &Array| x.clone().into_dimensionality::<ndarray::Ix2>().unwrap();
        let expected = two(&a).dot(&two(&b)).into_dyn();
        assert!((matmul(&a, &b).value - expected).iter().all(|d| d.abs() < 1e-12));
    }
}
