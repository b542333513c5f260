//! The linear layer, its gradients, and the batched matrix product.

use vitrine_tensor::backend::Products;
use vitrine_tensor::{Activation, Epilogue, Result, Tensor};

use super::mask;
use crate::case::Case;
use crate::compare::Comparison;
use crate::faulty::faults;
use crate::inputs::{Layout, Setup};
use crate::sweep::{self, Axis, PRODUCT, Reach, over, pick};

/// What they mean, in plain `f64` loops.
pub mod reference {
    use vitrine_tensor::{Activation, Dropout};

    use crate::operations::activation::reference as activation;
    use crate::reference::{Array, Sum, flat, philox, rows_and_width};

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
        let (x, w) = (flat(x), flat(w));
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
            let slope = pre.value.mapv(|x| activation::derivative(function, x));
            derivative.value = philox::dropped(&slope, &mask);
            derivative.terms *= &(pre.terms * 0.8 + 1.13);
        }
        y.value = philox::dropped(&y.value, &mask);
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
        let (dy, x) = (flat(dy), flat(x));
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
        let (a, b) = (flat(a), flat(b));
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
}

/// Shapes of x, and outputs. 700 rows make several blocks.
const SHAPES: [(&[usize], usize); 8] = [
    (&[1, 1], 1),
    (&[5], 3),
    (&[7, 5], 3),
    (&[2, 5, 7], 4),
    (&[0, 5], 3),
    (&[4, 0], 3),
    (&[700, 37], 19),
    (&[3, 300], 130),
];

/// What follows the product.
#[derive(Clone, Copy, Debug)]
struct Options {
    bias: bool,
    activation: Option<Activation>,
    dropout: bool,
    residual: bool,
}

const fn options(
    bias: bool,
    activation: Option<Activation>,
    dropout: bool,
    residual: bool,
) -> Options {
    Options { bias, activation, dropout, residual }
}

const OPTIONS: [Options; 8] = [
    options(false, None, false, false),
    options(true, None, false, false),
    options(true, Some(Activation::GeluErf), false, false),
    options(true, Some(Activation::GeluTanh), true, false),
    options(false, Some(Activation::Relu), false, true),
    options(true, None, true, true),
    options(true, Some(Activation::GeluErf), true, true),
    options(true, Some(Activation::Silu), true, false),
];

const LAYOUTS: [(Layout, Layout); 3] = [
    (Layout::Dense, Layout::Dense),
    (Layout::Transposed, Layout::Offset),
    (Layout::Narrowed, Layout::Transposed),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (shape, outputs) in SHAPES {
        for chosen in OPTIONS {
            let name = format!("{shape:?} to {outputs}, {chosen:?}");
            cases.push(Case::new("linear", name, move |s| {
                forward(s, shape, outputs, chosen, LAYOUTS[0], None)
            }));
        }
        for layouts in LAYOUTS {
            let name = format!("{shape:?} to {outputs}, {layouts:?}");
            cases.push(Case::new("linear", name.clone(), move |s| {
                forward(s, shape, outputs, OPTIONS[6], layouts, None)
            }));
            for (op, gradient) in GRADIENTS {
                cases.push(Case::new(op, name.clone(), move |s| {
                    gradient(s, shape, outputs, layouts)
                }));
            }
        }
    }
    cases.push(Case::new("linear", "mask of the first rows of larger samples", |s| {
        forward(s, &[3, 5, 7], 4, OPTIONS[6], LAYOUTS[0], Some(9 * 4))
    }));
    cases.push(Case::new("linear_grad_weight", "both gradients in one buffer", |s| {
        let (dy, x) = (s.normal(1, &[9, 3])?, s.normal(2, &[9, 4])?);
        let flat = s.destination(3, &[3 * 4 + 3])?;
        let (dw, db) = (flat.tensor.narrow(0, 0, 12)?, flat.tensor.narrow(0, 12, 3)?);
        dy.tensor.linear_grad_weight_(&x.tensor, &dw.reshape(&[3, 4])?, Some(&db))?;
        let dw = reference::linear_grad_weight(&dy.values, &x.values);
        let db = reference::linear_grad_bias(&dy.values);
        let join = |a: &crate::reference::Array, b: &crate::reference::Array| {
            crate::reference::array(&[15], a.iter().chain(b).copied().collect())
        };
        let sum = crate::reference::Sum {
            value: join(&dw.value, &db.value),
            terms: join(&dw.terms, &db.terms),
        };
        Ok(vec![flat.compare_added("dw and db", &sum)?])
    }));
    cases.extend(matmul_cases());
    cases
}

fn forward(
    s: &Setup,
    shape: &[usize],
    outputs: usize,
    options: Options,
    (x_layout, w_layout): (Layout, Layout),
    sample_stride: Option<usize>,
) -> Result<Vec<Comparison>> {
    let inputs = shape[shape.len() - 1];
    let y_shape = with_outputs(shape, outputs);
    let x = s.laid_out(1, shape, x_layout)?;
    let w = s.laid_out(2, &[outputs, inputs], w_layout)?;
    let bias = s.laid_out(3, &[outputs], w_layout)?;
    let residual = s.laid_out(4, &y_shape, x_layout)?;
    let mut dropout = mask(0.3, 5);
    dropout.sample_stride = sample_stride;
    let epilogue = Epilogue {
        bias: options.bias.then_some(&bias.tensor),
        activation: options.activation,
        dropout: options.dropout.then_some(dropout),
        residual: options.residual.then_some(&residual.tensor),
    };
    let expected = reference::linear(
        &x.values,
        &w.values,
        &reference::Epilogue {
            bias: options.bias.then_some(&bias.values),
            activation: options.activation,
            dropout: options.dropout.then_some(&dropout),
            residual: options.residual.then_some(&residual.values),
        },
    );
    let alone = x.tensor.linear(&w.tensor, &epilogue)?;
    let (y, derivative) = x.tensor.linear_with_derivative(&w.tensor, &epilogue)?;
    let mut comparisons = vec![
        Comparison::of_sum("y", &alone, &expected.y)?,
        Comparison::of_sum("y", &y, &expected.y)?,
    ];
    if let Some(derivative) = &derivative {
        comparisons.push(Comparison::of_sum("derivative", derivative, &expected.derivative)?);
    }
    Ok(comparisons)
}

/// A gradient of a layer of x of a shape and of so many outputs, with the layouts of its operands.
pub(crate) type Gradient = fn(&Setup, &[usize], usize, (Layout, Layout)) -> Result<Vec<Comparison>>;

/// The gradients, by operation.
const GRADIENTS: [(&str, Gradient); 3] = [
    ("linear_grad_input", grad_input),
    ("linear_grad_activated", grad_activated),
    ("linear_grad_weight", grad_weight),
];

/// The shape of x `[.., I]` with O for I.
fn with_outputs(shape: &[usize], outputs: usize) -> Vec<usize> {
    [&shape[..shape.len() - 1], &[outputs]].concat()
}

fn grad_input(
    s: &Setup,
    shape: &[usize],
    outputs: usize,
    (first, second): (Layout, Layout),
) -> Result<Vec<Comparison>> {
    let dy = s.laid_out(1, &with_outputs(shape, outputs), first)?;
    let w = s.laid_out(2, &[outputs, shape[shape.len() - 1]], second)?;
    let expected = reference::linear_grad_input(&dy.values, &w.values);
    Ok(vec![Comparison::of_sum("dx", &dy.tensor.linear_grad_input(&w.tensor)?, &expected)?])
}

fn grad_activated(
    s: &Setup,
    shape: &[usize],
    outputs: usize,
    (first, second): (Layout, Layout),
) -> Result<Vec<Comparison>> {
    let dy = s.laid_out(1, &with_outputs(shape, outputs), first)?;
    let w = s.laid_out(2, &[outputs, shape[shape.len() - 1]], second)?;
    let derivative = s.laid_out(3, shape, second)?;
    let expected = reference::linear_grad_activated(&dy.values, &w.values, &derivative.values);
    let dpre = dy.tensor.linear_grad_activated(&w.tensor, &derivative.tensor)?;
    Ok(vec![Comparison::of_sum("dpre", &dpre, &expected)?])
}

fn grad_weight(
    s: &Setup,
    shape: &[usize],
    outputs: usize,
    (first, second): (Layout, Layout),
) -> Result<Vec<Comparison>> {
    let w_shape = [outputs, shape[shape.len() - 1]];
    let dy = s.laid_out(1, &with_outputs(shape, outputs), first)?;
    let x = s.laid_out(2, shape, second)?;
    let expected = reference::linear_grad_weight(&dy.values, &x.values);
    let (dw, db) = (s.destination(3, &w_shape)?, s.destination(4, &[outputs])?);
    dy.tensor.linear_grad_weight_(&x.tensor, &dw.tensor, Some(&db.tensor))?;
    let alone = s.destination(3, &w_shape)?;
    dy.tensor.linear_grad_weight_(&x.tensor, &alone.tensor, None)?;
    Ok(vec![
        dw.compare_added("dw", &expected)?,
        db.compare_added("db", &reference::linear_grad_bias(&dy.values))?,
        alone.compare_added("dw without db", &expected)?,
    ])
}

fn matmul_cases() -> Vec<Case> {
    let shapes: [(&[usize], &[usize]); 12] = [
        (&[1, 1], &[1, 1]),
        (&[3, 4], &[4, 5]),
        (&[4, 0], &[0, 3]),
        (&[0, 4], &[4, 3]),
        (&[3, 2, 5], &[3, 5, 4]),
        (&[0, 2, 5], &[0, 5, 4]),
        (&[2, 3, 4, 5], &[2, 3, 5, 1]),
        (&[700, 37], &[37, 19]),
        (&[2, 130, 64], &[2, 64, 130]),
        (&[1, 1, 300], &[1, 300, 1]),
        (&[3, 1, 65], &[3, 65, 70]),
        (&[2, 1, 0], &[2, 0, 3]),
    ];
    let mut cases = Vec::new();
    for (left, right) in shapes {
        for a_layout in Layout::ALL {
            for b_layout in [Layout::Dense, Layout::Transposed, Layout::Narrowed] {
                let name = format!("{left:?} {a_layout:?} by {right:?} {b_layout:?}");
                cases.push(Case::new("matmul", name, move |s| {
                    matmul(s, left, right, (a_layout, b_layout))
                }));
            }
        }
    }
    cases.push(Case::new("matmul", "one matrix repeated over the batch", |s| {
        let (a, b) = (s.normal(1, &[1, 3, 4])?, s.normal(2, &[5, 4, 2])?);
        let expected = {
            let repeated = a.values.broadcast(vec![5, 3, 4]).expect("the shapes fit").to_owned();
            reference::matmul(&repeated, &b.values)
        };
        let c: Tensor = a.tensor.broadcast_to(&[5, 3, 4])?.matmul(&b.tensor)?;
        Ok(vec![Comparison::of_sum("c", &c, &expected)?])
    }));
    cases
}

fn matmul(
    s: &Setup,
    left: &[usize],
    right: &[usize],
    layouts: (Layout, Layout),
) -> Result<Vec<Comparison>> {
    let (a, b) = (s.laid_out(1, left, layouts.0)?, s.laid_out(2, right, layouts.1)?);
    let expected = reference::matmul(&a.values, &b.values);
    Ok(vec![Comparison::of_sum("c", &a.tensor.matmul(&b.tensor)?, &expected)?])
}

/// The same at many sizes.
pub(super) fn sweep(reach: Reach) -> Vec<Case> {
    let axes = [Axis::new(&[5], PRODUCT), Axis::new(&[19], PRODUCT), Axis::new(&[17], PRODUCT)];
    let mut cases = over(reach, "linear", &axes, |s, [rows, inputs, outputs], turn| {
        let (options, layouts) = (pick(turn, &OPTIONS), pick(turn, &LAYOUTS));
        forward(s, &[rows, inputs], outputs, options, layouts, None)
    });
    for (op, gradient) in GRADIENTS {
        cases.extend(over(reach, op, &axes, move |s, [rows, inputs, outputs], turn| {
            gradient(s, &[rows, inputs], outputs, pick(turn, &LAYOUTS))
        }));
    }
    cases.extend(over(reach, "matmul", &axes, |s, [m, k, n], turn| {
        let (batch, layouts) =
            (1 + turn / 4 % 2, (pick(turn, &Layout::ALL), pick(turn, &sweep::LAYOUTS)));
        matmul(s, &[batch, m, k], &[batch, k, n], layouts)
    }));
    cases
}

faults! {
    Products {
        linear(
            x: &Tensor, w: &Tensor, epilogue: &Epilogue<'_>, derivative: Option<&Tensor>, y: &Tensor
        ) writes [Some(y), derivative];
        linear_grad_input(dy: &Tensor, w: &Tensor, dx: &Tensor) writes [Some(dx)];
        linear_grad_activated(dy: &Tensor, w: &Tensor, derivative: &Tensor, dpre: &Tensor)
            writes [Some(dpre)];
        linear_grad_weight(dy: &Tensor, x: &Tensor, dw: &Tensor, db: Option<&Tensor>)
            writes [Some(dw), db];
        matmul(a: &Tensor, b: &Tensor, c: &Tensor) writes [Some(c)];
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
