//! Activations and dropout.

use vitrine_tensor::{Activation, DType, Result};

use super::mask;
use crate::case::Case;
use crate::compare::Comparison;
use crate::inputs::{Layout, Setup};
use crate::reference::{activation as reference, array};

pub(crate) const ACTIVATIONS: [Activation; 3] =
    [Activation::GeluErf, Activation::GeluTanh, Activation::Relu];

const SHAPES: [&[usize]; 7] = [&[], &[1], &[0, 4], &[7, 9], &[3, 5, 7], &[700, 37], &[2, 17_000]];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in SHAPES {
        for layout in [Layout::Dense, Layout::Transposed, Layout::Narrowed] {
            for activation in ACTIVATIONS {
                let name = format!("{activation:?} {shape:?}, {layout:?}");
                cases.push(Case::new("activate", name.clone(), move |s| {
                    activate(s, shape, layout, activation)
                }));
                cases.push(Case::new("activate_grad", name, move |s| {
                    activate_grad(s, shape, layout, activation)
                }));
            }
            for p in [0.0, 0.1, 0.999] {
                let name = format!("p {p}, {shape:?}, {layout:?}");
                cases.push(Case::new("dropout", name, move |s| dropout(s, shape, layout, p)));
            }
        }
    }
    cases.push(first_rows());
    cases.extend(ACTIVATIONS.map(far_out));
    cases
}

pub(crate) fn activate(
    s: &Setup,
    shape: &[usize],
    layout: Layout,
    activation: Activation,
) -> Result<Vec<Comparison>> {
    let x = s.laid_out(1, shape, layout)?;
    let expected = reference::activate(&x.values, activation);
    Ok(vec![Comparison::new("y", &x.tensor.activate(activation)?, &expected)?])
}

pub(crate) fn activate_grad(
    s: &Setup,
    shape: &[usize],
    layout: Layout,
    activation: Activation,
) -> Result<Vec<Comparison>> {
    let (x, dy) = (s.laid_out(1, shape, layout)?, s.laid_out(2, shape, layout)?);
    let dx = x.tensor.activate_grad(activation, &dy.tensor)?;
    let expected = reference::activate_grad(&x.values, activation, &dy.values);
    Ok(vec![Comparison::new("dx", &dx, &expected)?])
}

pub(crate) fn dropout(
    s: &Setup,
    shape: &[usize],
    layout: Layout,
    p: f64,
) -> Result<Vec<Comparison>> {
    let x = s.laid_out(1, shape, layout)?;
    let expected = reference::dropout(&x.values, &mask(p, 2));
    Ok(vec![Comparison::new("y", &x.tensor.dropout(mask(p, 2))?, &expected)?])
}

/// The mask of a tensor that holds the first rows of larger samples.
fn first_rows() -> Case {
    let mut dropout = mask(0.5, 9);
    dropout.sample_stride = Some(3000);
    Case::new("dropout", "the first rows of larger samples", move |s| {
        let x = s.normal(1, &[5, 11, 130])?;
        let expected = reference::dropout(&x.values, &dropout);
        Ok(vec![Comparison::new("y", &x.tensor.dropout(dropout)?, &expected)?])
    })
}

/// Values far from 0, where a sloppy formula overflows or cancels.
fn far_out(activation: Activation) -> Case {
    Case::new("activate", format!("{activation:?} from -40 to 40, and 1e4"), move |s| {
        let mut values: Vec<f64> = (-400..=400).map(|i| f64::from(i) / 10.0).collect();
        values.extend([1e4, -1e4, 0.0]);
        let x = s.placed(&array(&[values.len()], values), Layout::Dense)?;
        let ones = s.placed(&x.values.mapv(|_| 1.0), Layout::Dense)?;
        let y = x.tensor.activate(activation)?;
        let dx = x.tensor.activate_grad(activation, &ones.tensor)?;
        let derivative = reference::activate_grad(&x.values, activation, &ones.values);
        // bf16's values have no absolute error worth allowing, but the f32 arithmetic behind them does.
        let arithmetic = x.values.mapv(|x| x.abs().min(20.0));
        let acc = if s.dtype == DType::F64 { DType::F64 } else { DType::F32 };
        Ok(vec![
            Comparison::new("y", &y, &reference::activate(&x.values, activation))?
                .loosened(acc, &arithmetic),
            Comparison::new("dx", &dx, &derivative)?.loosened(acc, &arithmetic),
        ])
    })
}
