//! Broadcast arithmetic, and accumulation in place.

use vitrine_tensor::{Binary, Result};

use crate::case::Case;
use crate::compare::Comparison;
use crate::inputs::{Input, Layout, Setup};
use crate::reference::{Sum, elementwise as reference};

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

pub(crate) const OPS: [Binary; 4] = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div];

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
    cases
}

pub(crate) fn binary(
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

pub(crate) fn add_scaled(s: &Setup, shape: &[usize], layout: Layout) -> Result<Vec<Comparison>> {
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
