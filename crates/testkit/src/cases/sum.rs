//! Sums over axes.

use vitrine_tensor::Result;

use crate::case::Case;
use crate::compare::Comparison;
use crate::inputs::{Layout, Setup};
use crate::reference::elementwise as reference;
use crate::reference::{Sum, array};

pub(super) fn cases() -> Vec<Case> {
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

pub(crate) fn over_axis(
    s: &Setup,
    shape: &[usize],
    axis: usize,
    layout: Layout,
) -> Result<Vec<Comparison>> {
    let x = s.laid_out(1, shape, layout)?;
    let expected = reference::sum_axis(&x.values, axis);
    Ok(vec![Comparison::of_sum("y", &x.tensor.sum_axis(axis)?, &expected)?])
}

pub(crate) fn over_all(s: &Setup, shape: &[usize], layout: Layout) -> Result<Vec<Comparison>> {
    let x = s.laid_out(1, shape, layout)?;
    let expected = Sum {
        value: array(&[], vec![x.values.sum()]),
        terms: array(&[], vec![x.values.mapv(f64::abs).sum()]),
    };
    Ok(vec![Comparison::of_sum("y", &x.tensor.sum()?, &expected)?])
}

pub(crate) fn to_shape(s: &Setup, from: &[usize], to: &[usize]) -> Result<Vec<Comparison>> {
    let x = s.laid_out(1, from, Layout::Transposed)?;
    let expected = reference::sum_to(&x.values, to);
    let comparison = Comparison::of_sum("y", &x.tensor.sum_to(to)?, &expected)?;
    if from.len() == to.len() + 1 {
        return Ok(vec![comparison]);
    }
    // Each axis is summed in turn, and the partial sums are rounded to the element type.
    Ok(vec![comparison.loosened(s.dtype, &expected.terms)])
}
