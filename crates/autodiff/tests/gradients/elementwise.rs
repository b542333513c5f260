//! Cases of arithmetic with broadcasting, scaling and sums.

use vitrine_autodiff::{Result, Var};

use crate::check::{Case, case};

type Operation = fn(&Var, &Var) -> Result<Var>;

const BINARY: [(&str, Operation); 4] =
    [("add", Var::add), ("sub", Var::sub), ("mul", Var::mul), ("div", over_positive)];

/// `a / (b² + 1/2)`, so that no divisor is near 0.
fn over_positive(a: &Var, b: &Var) -> Result<Var> {
    let half = vitrine_tensor::Tensor::full(&[], 0.5, b.value().dtype(), b.value().device())?;
    a.div(&b.mul(b)?.add(&b.tape().constant(half))?)
}

/// Pairs that are broadcast in every way: none, missing axes, extents of 1 on either side, scalars.
const SHAPES: [[&[usize]; 2]; 9] = [
    [&[3, 5], &[3, 5]],
    [&[2, 3, 5], &[5]],
    [&[5], &[2, 3, 5]],
    [&[2, 1, 5], &[3, 1]],
    [&[1, 3, 1], &[2, 1, 4]],
    [&[], &[3]],
    [&[3], &[]],
    [&[], &[]],
    [&[1], &[1, 1]],
];

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("leaf", "x", &[&[3, 5]], |x| Ok(x[0].clone())),
        case("scale", "by −1.5", &[&[3, 5]], |x| x[0].scale(-1.5)),
        case("scale", "of a transposed tensor, by 0", &[&[3, 5]], |x| {
            x[0].permute(&[1, 0])?.scale(0.0)
        }),
        case("sum", "all", &[&[2, 3, 5]], |x| x[0].sum()),
        case("sum_axis", "of a vector", &[&[7]], |x| x[0].sum_axis(0)),
        case("sum_axis", "axis of extent 1", &[&[3, 1, 2]], |x| x[0].sum_axis(1)),
        case("sum_axis", "of a transposed tensor", &[&[2, 3, 5]], |x| {
            x[0].permute(&[2, 0, 1])?.sum_axis(1)
        }),
    ];
    for axis in 0..3 {
        let name = format!("axis {axis}");
        cases.push(case("sum_axis", name.clone(), &[&[2, 3, 5]], move |x| x[0].sum_axis(axis)));
        cases.push(case("sum_axis", format!("mean, {name}"), &[&[2, 3, 5]], move |x| {
            x[0].mean_axis(axis)
        }));
    }
    for (name, op) in BINARY {
        for shapes in SHAPES {
            let about = format!("{:?} {:?}", shapes[0], shapes[1]);
            cases.push(case(name, about, &shapes, move |x| op(&x[0], &x[1])));
        }
        cases.push(case(name, "with itself", &[&[3, 4]], move |x| op(&x[0], &x[0])));
        cases.push(case(name, "with its transpose", &[&[3, 3]], move |x| {
            op(&x[0].permute(&[1, 0])?, &x[0])
        }));
        cases.push(case(name, "with a part of itself", &[&[3, 4]], move |x| {
            op(&x[0], &x[0].narrow(0, 1, 1)?)
        }));
    }
    // Away from the other cases' form: a plain quotient, its divisor moved off 0 by an exact constant.
    cases.push(case("div", "x / (y + 9)", &[&[2, 3], &[3]], |x| {
        let nine =
            vitrine_tensor::Tensor::full(&[3], 9.0, x[1].value().dtype(), x[1].value().device())?;
        x[0].div(&x[1].add(&x[1].tape().constant(nine))?)
    }));
    cases
}
