//! Softmax and its gradient.

use vitrine_tensor::Result;

use crate::case::Case;
use crate::compare::Comparison;
use crate::inputs::{Layout, Setup, random};
use crate::reference::softmax as reference;

const SHAPES: [&[usize]; 8] =
    [&[], &[1], &[0, 4], &[3, 0], &[5, 7], &[2, 3, 17], &[700, 37], &[3, 1030]];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in SHAPES {
        for layout in [Layout::Dense, Layout::Transposed, Layout::Narrowed] {
            let name = format!("{shape:?}, {layout:?}");
            cases.push(Case::new("softmax", name.clone(), move |s| forward(s, shape, layout)));
            cases.push(Case::new("softmax_grad", name, move |s| gradient(s, shape, layout)));
        }
    }
    cases.push(Case::new("softmax", "scores far apart", |s| {
        let x = s.placed(&(random(1, &[4, 33]) * 300.0), Layout::Dense)?;
        let expected = reference::softmax(&x.values);
        Ok(vec![Comparison::new("y", &x.tensor.softmax()?, &expected)?])
    }));
    cases
}

pub(crate) fn forward(s: &Setup, shape: &[usize], layout: Layout) -> Result<Vec<Comparison>> {
    let x = s.laid_out(1, shape, layout)?;
    let expected = reference::softmax(&x.values);
    Ok(vec![Comparison::new("y", &x.tensor.softmax()?, &expected)?])
}

pub(crate) fn gradient(s: &Setup, shape: &[usize], layout: Layout) -> Result<Vec<Comparison>> {
    let y = s.placed(&reference::softmax(&random(1, shape)), layout)?;
    let dy = s.laid_out(2, shape, layout)?;
    let expected = reference::softmax_grad(&y.values, &dy.values);
    // dx = y·(dy − Σ dy·y): the inner sum is at most max |dy|.
    let largest = dy.values.iter().fold(0.0, |top: f64, d| top.max(d.abs()));
    let terms = &y.values * (2.0 * largest);
    let dx = y.tensor.softmax_grad(&dy.tensor)?;
    let accumulator = s.dtype.accumulator();
    Ok(vec![Comparison::new("dx", &dx, &expected)?.loosened(accumulator, &terms)])
}
