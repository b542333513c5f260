//! Cases of operations that only move elements.

use vitrine_autodiff::Var;
use vitrine_tensor::DType;

use crate::check::{Case, case};

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("reshape", "[2, 3, 5] to [6, 5]", &[&[2, 3, 5]], |x| x[0].reshape(&[6, 5])),
        case("reshape", "to a scalar and back", &[&[1, 1]], |x| x[0].reshape(&[])?.reshape(&[1])),
        case("reshape", "after a permutation", &[&[2, 3, 5]], |x| {
            x[0].permute(&[2, 0, 1])?.reshape(&[3, 10])
        }),
        case("permute", "nothing moves", &[&[2, 3]], |x| x[0].permute(&[0, 1])),
        case("permute", "three axes around", &[&[2, 3, 5]], |x| x[0].permute(&[1, 2, 0])),
        case("permute", "four axes", &[&[2, 3, 1, 4]], |x| x[0].permute(&[3, 0, 2, 1])),
        case("permute", "twice, not its own inverse", &[&[2, 3, 5]], |x| {
            x[0].permute(&[1, 2, 0])?.permute(&[1, 2, 0])
        }),
        case("narrow", "two parts that overlap", &[&[5, 3]], |x| {
            x[0].narrow(0, 0, 3)?.mul(&x[0].narrow(0, 2, 3)?)
        }),
        case("narrow", "of a part", &[&[5, 7]], |x| x[0].narrow(1, 1, 5)?.narrow(1, 2, 2)),
        case("narrow", "of nothing", &[&[3, 2]], |x| {
            x[0].narrow(0, 3, 0)?.sum()?.add(&x[0].sum()?)
        }),
        case("concat", "with itself", &[&[2, 3]], |x| Var::concat(&[&x[0], &x[0], &x[0]], 0)),
        case("concat", "of one", &[&[2, 3]], |x| Var::concat(&[&x[0]], 1)),
        case("concat", "parts exchanged", &[&[4, 3]], |x| {
            Var::concat(&[&x[0].narrow(0, 3, 1)?, &x[0].narrow(0, 0, 3)?], 0)
        }),
        case("concat", "with an empty part", &[&[2, 3], &[2, 2]], |x| {
            Var::concat(&[&x[0].narrow(1, 0, 0)?, &x[1]], 1)?.sum()?.add(&x[0].sum()?)
        }),
        // `f64` to `f64`: the rule without its rounding, which `cast.rs` looks at.
        case("to_dtype", "to its own type", &[&[3, 5]], |x| x[0].to_dtype(DType::F64)),
    ];
    for (axis, start, length) in [(0, 0, 1), (0, 1, 1), (1, 1, 2), (1, 0, 3), (2, 4, 1), (2, 1, 3)]
    {
        let name = format!("axis {axis}, {start}..{}", start + length);
        cases.push(case("narrow", name, &[&[2, 3, 5]], move |x| x[0].narrow(axis, start, length)));
    }
    let parts: [(usize, [&[usize]; 3]); 3] = [
        (0, [&[1, 3, 2], &[2, 3, 2], &[4, 3, 2]]),
        (1, [&[2, 1, 3], &[2, 4, 3], &[2, 2, 3]]),
        (2, [&[2, 3, 5], &[2, 3, 1], &[2, 3, 2]]),
    ];
    for (axis, shapes) in parts {
        cases.push(case("concat", format!("axis {axis}"), &shapes, move |x| {
            Var::concat(&[&x[0], &x[1], &x[2]], axis)
        }));
    }
    cases
}
