//! Cases of the linear layer with each part of its epilogue, and of the matrix product.

use vitrine_tensor::{Activation, Dropout, Epilogue, StreamKey};

use crate::check::{Case, case};

pub const ACTIVATIONS: [Activation; 4] =
    [Activation::GeluErf, Activation::GeluTanh, Activation::Relu, Activation::Silu];

pub fn mask(stream: u32) -> Dropout {
    Dropout::new(0.3, StreamKey { seed: 3, step: 11, stream })
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let inputs: [&[usize]; 5] = [&[3, 5], &[5], &[2, 3, 5], &[1, 5], &[2, 1, 2, 5]];
    for shape in inputs {
        cases.push(case("linear", format!("x {shape:?}"), &[shape, &[4, 5]], |x| {
            x[0].linear(&x[1], &Epilogue::default())
        }));
        let shapes = [shape, &[4, 5], &[4]];
        cases.push(case("linear", format!("x {shape:?}, bias"), &shapes, |x| {
            x[0].linear(&x[1], &Epilogue { bias: Some(&x[2]), ..Default::default() })
        }));
    }
    cases.push(case("linear", "everything of size 1", &[&[1, 1], &[1, 1], &[1]], |x| {
        x[0].linear(&x[1], &Epilogue { bias: Some(&x[2]), ..Default::default() })
    }));
    let activations = [None].into_iter().chain(ACTIVATIONS.map(Some));
    for activation in activations {
        for (dropout, stride) in [(None, None), (Some(mask(1)), None), (Some(mask(2)), Some(37))] {
            let dropout = dropout.map(|d| Dropout { sample_stride: stride, ..d });
            for (bias, residual) in [(false, false), (true, false), (false, true), (true, true)] {
                let name = format!(
                    "{activation:?}, dropout {}, bias {bias}, residual {residual}",
                    dropout.is_some()
                );
                let mut shapes: Vec<&[usize]> = vec![&[2, 3, 5], &[7, 5]];
                shapes.extend(bias.then_some::<&[usize]>(&[7]));
                shapes.extend(residual.then_some::<&[usize]>(&[2, 3, 7]));
                cases.push(case("linear", name, &shapes, move |x| {
                    let bias = bias.then(|| &x[2]);
                    let residual = residual.then(|| x.last().expect("inputs are given"));
                    x[0].linear(&x[1], &Epilogue { bias, activation, dropout, residual })
                }));
            }
        }
    }
    cases.extend(one_variable_in_two_places());
    cases.extend(after_an_activation());
    cases.extend(products());
    cases
}

fn one_variable_in_two_places() -> Vec<Case> {
    let square: &[&[usize]] = &[&[4, 4]];
    vec![
        case("linear", "x as its own residual", &[&[3, 4], &[4, 4]], |x| {
            x[0].linear(&x[1], &Epilogue { residual: Some(&x[0]), ..Default::default() })
        }),
        case("linear", "x as its own residual, dropped out", &[&[3, 4], &[4, 4]], |x| {
            let (residual, dropout) = (Some(&x[0]), Some(mask(3)));
            x[0].linear(&x[1], &Epilogue { residual, dropout, ..Default::default() })
        }),
        case("linear", "x as its own weight", square, |x| x[0].linear(&x[0], &Epilogue::default())),
        case("linear", "x as weight and residual", square, |x| {
            let (residual, activation) = (Some(&x[0]), Some(Activation::GeluErf));
            x[0].linear(&x[0], &Epilogue { residual, activation, ..Default::default() })
        }),
        case("linear", "the residual is the weight", &[&[4, 4], &[4, 4]], |x| {
            x[0].linear(&x[1], &Epilogue { residual: Some(&x[1]), ..Default::default() })
        }),
        case("linear", "a vector as x, bias and residual", &[&[4], &[4, 4]], |x| {
            let (bias, residual) = (Some(&x[0]), Some(&x[0]));
            x[0].linear(&x[1], &Epilogue { bias, residual, ..Default::default() })
        }),
        case("linear", "a part of a weight and of a bias", &[&[3, 4], &[9, 4], &[9]], |x| {
            let bias = x[2].narrow(0, 3, 3)?;
            let options = Epilogue { bias: Some(&bias), ..Default::default() };
            x[0].linear(&x[1].narrow(0, 3, 3)?, &options)?
                .linear(&x[1].narrow(0, 2, 3)?.permute(&[1, 0])?, &Epilogue::default())
        }),
        case("linear", "one weight in two layers", &[&[3, 4], &[4, 4], &[4]], |x| {
            let options = Epilogue { bias: Some(&x[2]), ..Default::default() };
            x[0].linear(&x[1], &options)?.linear(&x[1], &options)
        }),
    ]
}

/// A layer after one with an activation hands its gradient to the value before that, whatever else uses the result.
fn after_an_activation() -> Vec<Case> {
    let shapes: &[&[usize]] = &[&[2, 3, 5], &[7, 5], &[4, 7], &[2, 3, 7]];
    let plain = Epilogue::default;
    let mut cases = Vec::new();
    for activation in ACTIVATIONS {
        for dropout in [None, Some(mask(4))] {
            let first = Epilogue { activation: Some(activation), dropout, ..plain() };
            let name = |uses| format!("{activation:?}, dropout {}, then {uses}", dropout.is_some());
            cases.push(case("linear", name("a layer"), &shapes[..3], move |x| {
                x[0].linear(&x[1], &first)?.linear(&x[2], &plain())
            }));
            cases.push(case("linear", name("two layers"), &shapes[..3], move |x| {
                let hidden = x[0].linear(&x[1], &first)?;
                hidden.linear(&x[2], &plain())?.add(&hidden.linear(&x[2], &plain())?)
            }));
            cases.push(case("linear", name("a layer and a product"), shapes, move |x| {
                let hidden = x[0].linear(&x[1], &first)?;
                let after = hidden.linear(&x[2], &plain())?;
                after.linear(&x[2].permute(&[1, 0])?, &plain())?.mul(&hidden)?.mul(&x[3])
            }));
        }
    }
    cases.push(case("linear", "an activation and a residual, then a layer", shapes, move |x| {
        let (activation, residual) = (Some(Activation::GeluErf), Some(&x[3]));
        let first = Epilogue { activation, residual, ..plain() };
        x[0].linear(&x[1], &first)?.linear(&x[2], &plain())
    }));
    cases.push(case(
        "linear",
        "an activation's result as input and weight",
        &[&[4, 4]],
        move |x| {
            let first = Epilogue { activation: Some(Activation::GeluTanh), ..plain() };
            let hidden = x[0].linear(&x[0], &first)?;
            hidden.linear(&hidden, &plain())
        },
    ));
    cases
}

fn products() -> Vec<Case> {
    vec![
        case("matmul_transposed", "[3, 5] by [2, 5]", &[&[3, 5], &[2, 5]], |x| {
            x[0].matmul_transposed(&x[1])
        }),
        case("matmul_transposed", "of batches, by itself", &[&[2, 4, 5]], |x| {
            x[0].matmul_transposed(&x[0])
        }),
        case("matmul", "[3, 5] by [5, 2]", &[&[3, 5], &[5, 2]], |x| x[0].matmul(&x[1])),
        case("matmul", "of batches", &[&[2, 3, 5], &[2, 5, 4]], |x| x[0].matmul(&x[1])),
        case("matmul", "of two batch axes", &[&[2, 2, 3, 1], &[2, 2, 1, 4]], |x| {
            x[0].matmul(&x[1])
        }),
        case("matmul", "by itself", &[&[4, 4]], |x| x[0].matmul(&x[0])),
        case("matmul", "by its transpose", &[&[3, 5]], |x| x[0].matmul(&x[0].permute(&[1, 0])?)),
        case("matmul", "of transposed batches", &[&[2, 5, 3], &[2, 4, 5]], |x| {
            x[0].permute(&[0, 2, 1])?.matmul(&x[1].permute(&[0, 2, 1])?)
        }),
        case("matmul", "[1, 1] by [1, 1]", &[&[1, 1], &[1, 1]], |x| x[0].matmul(&x[1])),
    ]
}
