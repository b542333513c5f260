//! Broadcast arithmetic, accumulation in place, and sums over axes.

use vitrine_tensor::backend::Arithmetic;
use vitrine_tensor::{Binary, Result, Tensor};

use crate::case::Case;
use crate::compare::Comparison;
use crate::faulty::faults;
use crate::inputs::{Input, Layout, Setup};
use crate::reference::{Sum, array};
use crate::sweep::{Axis, FLAT, LAYOUTS, ROWS, Reach, WIDTH, over, pick};

/// What they mean, in plain `f64` loops.
pub mod reference {
    use ndarray::Axis;
    use vitrine_tensor::Binary;

    use crate::reference::{Array, Sum};

    /// `op(a, b)`, broadcast by NumPy's rule.
    pub fn binary(op: Binary, a: &Array, b: &Array) -> Array {
        match op {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
        }
    }

    /// The sum over one axis.
    pub fn sum_axis(x: &Array, axis: usize) -> Sum {
        Sum { value: x.sum_axis(Axis(axis)), terms: x.mapv(f64::abs).sum_axis(Axis(axis)) }
    }

    /// Sums over the axes that broadcasting from `shape` added or stretched.
    pub fn sum_to(x: &Array, shape: &[usize]) -> Sum {
        let collapse = |mut x: Array| {
            while x.ndim() > shape.len() {
                x = x.sum_axis(Axis(0));
            }
            for (axis, &extent) in shape.iter().enumerate() {
                if extent == 1 {
                    x = x.sum_axis(Axis(axis)).insert_axis(Axis(axis));
                }
            }
            x
        };
        Sum { value: collapse(x.clone()), terms: collapse(x.mapv(f64::abs)) }
    }
}

/// Pairs of shapes that broadcast.
const PAIRS: [(&[usize], &[usize]); 12] = [
    (&[], &[]),
    (&[1], &[1]),
    (&[5], &[]),
    (&[3, 5], &[3, 5]),
    (&[3, 5], &[5]),
    (&[3, 1], &[1, 5]),
    (&[2, 1, 4], &[3, 1]),
    (&[0, 4], &[1, 4]),
    (&[0], &[0]),
    (&[700, 37], &[37]),
    (&[700, 37], &[700, 37]),
    (&[2, 3, 4, 5], &[1, 3, 1, 5]),
];

const OPS: [Binary; 4] = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (left, right) in PAIRS {
        for op in OPS {
            for layout in Layout::ALL {
                let name = format!("{op:?} {left:?} and {right:?}, {layout:?}");
                cases.push(Case::new("binary", name, move |s| binary(s, left, right, op, layout)));
            }
        }
    }
    let shapes: [&[usize]; 5] = [&[], &[1], &[0, 3], &[5, 7], &[700, 37]];
    for shape in shapes {
        for layout in Layout::ALL {
            let name = format!("{shape:?}, {layout:?}");
            cases.push(Case::new("add_scaled", name, move |s| add_scaled(s, shape, layout)));
        }
    }
    cases.extend(sum_cases());
    cases
}

fn binary(
    s: &Setup,
    left: &[usize],
    right: &[usize],
    op: Binary,
    layout: Layout,
) -> Result<Vec<Comparison>> {
    let (a, b) = (s.laid_out(1, left, layout)?, s.laid_out(2, right, layout)?);
    let run = |a: &Input, b: &Input| {
        let y = match op {
            Binary::Add => a.tensor.add(&b.tensor),
            Binary::Sub => a.tensor.sub(&b.tensor),
            Binary::Mul => a.tensor.mul(&b.tensor),
            Binary::Div => a.tensor.div(&b.tensor),
        }?;
        Comparison::new("y", &y, &reference::binary(op, &a.values, &b.values))
    };
    Ok(vec![run(&a, &b)?, run(&b, &a)?, run(&a, &a)?])
}

fn add_scaled(s: &Setup, shape: &[usize], layout: Layout) -> Result<Vec<Comparison>> {
    let x = s.laid_out(1, shape, layout)?;
    let to = s.destination(2, shape)?;
    to.tensor.add_scaled_(&x.tensor, -0.3)?;
    let added = &x.values * -0.3;
    let sum = Sum { terms: added.mapv(f64::abs), value: added };
    let scaled = x.tensor.scale(2.5)?;
    Ok(vec![
        to.compare_added("add_scaled_", &sum)?,
        Comparison::new("scale", &scaled, &(&x.values * 2.5))?,
    ])
}

fn sum_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let shapes: [&[usize]; 8] =
        [&[1], &[0], &[7, 0, 3], &[5, 7], &[2, 3, 4], &[700, 37], &[3, 1100], &[2, 2, 20_000]];
    for shape in shapes {
        for layout in [Layout::Dense, Layout::Transposed, Layout::Narrowed] {
            for axis in 0..shape.len() {
                let name = format!("axis {axis} of {shape:?}, {layout:?}");
                cases.push(Case::new("sum", name, move |s| over_axis(s, shape, axis, layout)));
            }
            let name = format!("all of {shape:?}, {layout:?}");
            cases.push(Case::new("sum", name, move |s| over_all(s, shape, layout)));
        }
    }
    let targets: [(&[usize], &[usize]); 7] = [
        (&[2, 3, 4], &[2, 3, 4]),
        (&[2, 3, 4], &[4]),
        (&[2, 3, 4], &[3, 1]),
        (&[2, 3, 4], &[1, 1, 1]),
        (&[2, 3, 4], &[]),
        (&[0, 3], &[1, 3]),
        (&[700, 37], &[37]),
    ];
    for (from, to) in targets {
        cases.push(Case::new("sum", format!("{from:?} to {to:?}"), move |s| to_shape(s, from, to)));
    }
    cases
}

fn over_axis(s: &Setup, shape: &[usize], axis: usize, layout: Layout) -> Result<Vec<Comparison>> {
    let x = s.laid_out(1, shape, layout)?;
    let expected = reference::sum_axis(&x.values, axis);
    Ok(vec![
        Comparison::of_sum("y", &x.tensor.sum_axis(axis)?, &expected)?,
        Comparison::of_sum("wide", &x.tensor.sum_axis_wide(axis)?, &expected)?,
    ])
}

fn over_all(s: &Setup, shape: &[usize], layout: Layout) -> Result<Vec<Comparison>> {
    let x = s.laid_out(1, shape, layout)?;
    let expected = Sum {
        value: array(&[], vec![x.values.sum()]),
        terms: array(&[], vec![x.values.mapv(f64::abs).sum()]),
    };
    Ok(vec![Comparison::of_sum("y", &x.tensor.sum()?, &expected)?])
}

fn to_shape(s: &Setup, from: &[usize], to: &[usize]) -> Result<Vec<Comparison>> {
    let x = s.laid_out(1, from, Layout::Transposed)?;
    let expected = reference::sum_to(&x.values, to);
    let comparison = Comparison::of_sum("y", &x.tensor.sum_to(to)?, &expected)?;
    if from.len() == to.len() + 1 {
        return Ok(vec![comparison]);
    }
    // Each axis is summed in turn, and the partial sums are rounded to the element type.
    Ok(vec![comparison.loosened(s.dtype, &expected.terms)])
}

/// The same at many sizes.
pub(super) fn sweep(reach: Reach) -> Vec<Case> {
    let axes = [Axis::new(&[2], ROWS), Axis::new(&[5], FLAT)];
    let mut cases = Vec::new();
    cases.extend(over(reach, "binary", &axes, |s, [rows, width], turn| {
        let right = [&[rows, width][..], &[width], &[rows, 1], &[1, width]];
        let (right, layout) = (pick(turn, &right), pick(turn, &LAYOUTS));
        binary(s, &[rows, width], right, pick(turn / 4, &OPS), layout)
    }));
    cases.extend(over(reach, "add_scaled", &axes, |s, shape, turn| {
        add_scaled(s, &shape, pick(turn, &Layout::ALL))
    }));
    let axes = [Axis::new(&[3], ROWS), Axis::new(&[5], ROWS), Axis::new(&[7], WIDTH)];
    cases.extend(over(reach, "sum", &axes, |s, shape, turn| {
        over_axis(s, &shape, turn % 3, pick(turn / 3, &LAYOUTS))
    }));
    let axes = [Axis::new(&[2], ROWS), Axis::new(&[5], FLAT)];
    cases.extend(over(reach, "sum", &axes, |s, shape, turn| match turn % 3 {
        0 => over_axis(s, &shape, 1, pick(turn / 3, &LAYOUTS)),
        1 => over_all(s, &shape, pick(turn / 3, &LAYOUTS)),
        _ => to_shape(s, &shape, &shape[1..]),
    }));
    cases
}

faults! {
    Arithmetic {
        add_scaled(from: &Tensor, factor: f64, to: &Tensor) writes [Some(to)];
        binary(op: Binary, a: &Tensor, b: &Tensor, to: &Tensor) writes [Some(to)];
        sum(from: &Tensor, to: &Tensor) writes [Some(to)];
    }
}

#[cfg(test)]
mod tests {
    use super::reference::*;
    use crate::gradcheck::{central, compare};
    use crate::inputs::random;
    use crate::reference::*;

    #[test]
    fn sum_to_is_the_gradient_of_broadcasting() {
        let (x, dy) = (random(1, &[3, 1]), random(2, &[2, 3, 4]));
        let f = |v: &[Array]| (&dy * &v[0]).sum();
        compare(&central(f, std::slice::from_ref(&x)), &[sum_to(&dy, &[3, 1]).value]).unwrap();
    }
}
