//! Layer norm and its gradients.

use vitrine_tensor::Result;

use crate::case::Case;
use crate::compare::Comparison;
use crate::inputs::{Layout, Setup, random};
use crate::reference::layer_norm as reference;

const SHAPES: [&[usize]; 8] =
    [&[1], &[3, 1], &[0, 4], &[5], &[7, 9], &[3, 5, 17], &[700, 37], &[2, 1030]];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in SHAPES {
        for layout in [Layout::Dense, Layout::Transposed, Layout::Narrowed] {
            for epsilon in [1e-5, 1e-6] {
                let name = format!("{shape:?}, {layout:?}, epsilon {epsilon:e}");
                cases.push(Case::new("layer_norm", name.clone(), move |s| {
                    forward(s, shape, layout, epsilon)
                }));
                cases.push(Case::new("layer_norm_grad", name, move |s| {
                    gradient(s, shape, layout, epsilon)
                }));
            }
        }
    }
    cases.push(Case::new("layer_norm", "rows far from 0", |s| {
        let x = s.placed(&(random(1, &[5, 64]) + 100.0), Layout::Dense)?;
        let (scale, shift) = (s.normal(2, &[64])?, s.normal(3, &[64])?);
        let (y, found) = x.tensor.layer_norm(&scale.tensor, &shift.tensor, 1e-5)?;
        let (expected, statistics) =
            reference::layer_norm(&x.values, &scale.values, &shift.values, 1e-5);
        // The mean is 100 times what is left after it is taken off, and so is its rounding error.
        let terms = expected.mapv(|_| 300.0);
        Ok(vec![
            Comparison::new("y", &y, &expected)?.loosened(s.dtype.accumulator(), &terms),
            Comparison::new("statistics", &found, &statistics)?,
        ])
    }));
    cases.push(Case::new("layer_norm", "constant rows", |s| {
        let x = s.placed(&random(1, &[3, 8]).mapv(|_| 0.5), Layout::Dense)?;
        let (scale, shift) = (s.normal(2, &[8])?, s.normal(3, &[8])?);
        let (y, found) = x.tensor.layer_norm(&scale.tensor, &shift.tensor, 1e-5)?;
        let expected = shift.values.broadcast(vec![3, 8]).expect("the shapes fit").to_owned();
        let statistics = reference::layer_norm(&x.values, &scale.values, &shift.values, 1e-5).1;
        Ok(vec![
            Comparison::new("y", &y, &expected)?,
            Comparison::new("statistics", &found, &statistics)?,
        ])
    }));
    cases
}

pub(crate) fn forward(
    s: &Setup,
    shape: &[usize],
    layout: Layout,
    epsilon: f64,
) -> Result<Vec<Comparison>> {
    let width = shape[shape.len() - 1];
    let x = s.laid_out(1, shape, layout)?;
    let (scale, shift) = (s.laid_out(2, &[width], layout)?, s.laid_out(3, &[width], layout)?);
    let (y, statistics) = x.tensor.layer_norm(&scale.tensor, &shift.tensor, epsilon)?;
    let (expected, expected_statistics) =
        reference::layer_norm(&x.values, &scale.values, &shift.values, epsilon);
    Ok(vec![
        Comparison::new("y", &y, &expected)?,
        Comparison::new("statistics", &statistics, &expected_statistics)?,
    ])
}

pub(crate) fn gradient(
    s: &Setup,
    shape: &[usize],
    layout: Layout,
    epsilon: f64,
) -> Result<Vec<Comparison>> {
    let width = shape[shape.len() - 1];
    let (x, dy) = (s.laid_out(1, shape, layout)?, s.laid_out(4, shape, layout)?);
    let scale = s.laid_out(2, &[width], layout)?;
    let statistics = reference::layer_norm(&x.values, &scale.values, &scale.values, epsilon).1;
    let statistics = s.placed_as(&statistics, Layout::Dense, s.dtype.accumulator())?;
    let (dscale, dshift) = (s.destination(5, &[width])?, s.destination(6, &[width])?);
    let dx = x.tensor.layer_norm_grad(
        &scale.tensor,
        &statistics.tensor,
        &dy.tensor,
        &dscale.tensor,
        &dshift.tensor,
    )?;
    let expected =
        reference::layer_norm_grad(&x.values, &scale.values, &statistics.values, &dy.values);
    Ok(vec![
        Comparison::of_sum("dx", &dx, &expected.x)?,
        dscale.compare_added("dscale", &expected.scale)?,
        dshift.compare_added("dshift", &expected.shift)?,
    ])
}
