//! Windows of images, and convolution.

use vitrine_tensor::{DType, Result, Windows};

use crate::case::Case;
use crate::compare::Comparison;
use crate::inputs::{Layout, Setup, random};
use crate::reference::convolution as reference;

const fn windows(
    kernel: (usize, usize),
    stride: (usize, usize),
    padding: (usize, usize),
) -> Windows {
    Windows { kernel, stride, padding }
}

/// Images with windows side by side, apart, overlapping, and in the padding alone.
const WINDOWS: [([usize; 4], Windows); 13] = [
    ([1, 1, 1, 1], windows((1, 1), (1, 1), (0, 0))),
    ([2, 3, 4, 6], windows((2, 3), (2, 3), (0, 0))),
    ([2, 3, 4, 6], windows((4, 1), (4, 1), (0, 0))),
    ([0, 1, 4, 4], windows((2, 2), (2, 2), (0, 0))),
    ([3, 1, 6, 6], windows((6, 6), (6, 6), (0, 0))),
    ([130, 1, 28, 28], windows((7, 4), (7, 4), (0, 0))),
    ([2, 2, 11, 15], windows((3, 2), (4, 5), (0, 1))),
    ([2, 3, 5, 7], windows((3, 3), (1, 1), (1, 1))),
    ([3, 2, 9, 8], windows((3, 5), (2, 2), (1, 2))),
    ([1, 4, 13, 4], windows((7, 7), (2, 3), (3, 3))),
    ([2, 1, 2, 3], windows((2, 2), (1, 1), (3, 5))),
    ([2, 1, 0, 2], windows((1, 2), (1, 1), (1, 0))),
    ([5, 3, 17, 33], windows((1, 1), (2, 2), (0, 0))),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (shape, windows) in WINDOWS {
        for layout in Layout::ALL {
            let name = format!("{shape:?} in {windows:?}, {layout:?}");
            cases.push(Case::new("unfold", name.clone(), move |s| {
                unfold(s, shape, windows, layout)
            }));
            cases.push(Case::new("fold", name, move |s| fold(s, shape, windows, layout)));
        }
        for (outputs, layouts) in [
            (1, [Layout::Dense, Layout::Dense]),
            (5, [Layout::Transposed, Layout::Offset]),
            (19, [Layout::Narrowed, Layout::Transposed]),
        ] {
            let name = format!("{shape:?} to {outputs} in {windows:?}, {layouts:?}");
            cases.extend(all(name, shape, outputs, windows, layouts));
        }
    }
    cases.push(Case::new("unfold", "of bytes, and fold", |s| {
        let windows = windows((2, 2), (2, 3), (0, 1));
        let values = random(1, &[2, 3, 4, 6]).mapv(|v| (v.abs() * 60.0).floor().min(255.0));
        let images = s.placed_as(&values, Layout::Dense, DType::U8)?;
        let expected = reference::unfold(&values, &windows);
        let found = images.tensor.unfold(&windows)?;
        let folded = reference::fold(&expected, &windows, values.shape()).value;
        Ok(vec![
            Comparison::new("windows", &found, &expected)?.exact(),
            Comparison::new("images", &found.fold(&windows, values.shape())?, &folded)?.exact(),
        ])
    }));
    cases
}

pub(crate) fn unfold(
    s: &Setup,
    shape: [usize; 4],
    windows: Windows,
    layout: Layout,
) -> Result<Vec<Comparison>> {
    let images = s.laid_out(1, &shape, layout)?;
    let expected = reference::unfold(&images.values, &windows);
    let found = images.tensor.unfold(&windows)?;
    Ok(vec![Comparison::new("windows", &found, &expected)?.exact()])
}

pub(crate) fn fold(
    s: &Setup,
    shape: [usize; 4],
    windows: Windows,
    layout: Layout,
) -> Result<Vec<Comparison>> {
    let from = random(1, reference::unfold(&random(1, &shape), &windows).shape());
    let from = s.placed(&from, layout)?;
    let images = from.tensor.fold(&windows, &shape)?;
    let expected = reference::fold(&from.values, &windows, &shape);
    Ok(vec![match windows.are_apart() {
        true => Comparison::new("images", &images, &expected.value)?.exact(),
        false => Comparison::of_sum("images", &images, &expected)?,
    }])
}

/// A convolution with its gradients.
pub(crate) fn all(
    name: String,
    shape: [usize; 4],
    outputs: usize,
    windows: Windows,
    [first, second]: [Layout; 2],
) -> [Case; 3] {
    let (rows, columns) = windows.count(shape[2], shape[3]).expect("the windows fit");
    let y_shape = [shape[0], outputs, rows, columns];
    let w_shape = [outputs, shape[1], windows.kernel.0, windows.kernel.1];
    let forward = move |s: &Setup| {
        let (x, w) = (s.laid_out(1, &shape, first)?, s.laid_out(2, &w_shape, second)?);
        let bias = s.laid_out(3, &[outputs], second)?;
        let y = x.tensor.convolution(&w.tensor, Some(&bias.tensor), &windows)?;
        let alone = x.tensor.convolution(&w.tensor, None, &windows)?;
        let expected = |bias| reference::convolution(&x.values, &w.values, bias, &windows);
        Ok(vec![
            Comparison::of_sum("y", &y, &expected(Some(&bias.values)))?,
            Comparison::of_sum("y without bias", &alone, &expected(None))?,
        ])
    };
    let input = move |s: &Setup| {
        let (dy, w) = (s.laid_out(1, &y_shape, first)?, s.laid_out(2, &w_shape, second)?);
        let dx = dy.tensor.convolution_grad_input(&w.tensor, &windows, &shape)?;
        let expected = reference::convolution_grad_input(&dy.values, &w.values, &windows, &shape);
        // The gradients of windows may be rounded to the element type before they are added up.
        Ok(vec![Comparison::of_sum("dx", &dx, &expected)?.loosened(s.dtype, &expected.terms)])
    };
    let weight = move |s: &Setup| {
        let (dy, x) = (s.laid_out(1, &y_shape, first)?, s.laid_out(2, &shape, second)?);
        let (dw, db) = (s.destination(3, &w_shape)?, s.destination(4, &[outputs])?);
        dy.tensor.convolution_grad_weight_(&x.tensor, &windows, &dw.tensor, Some(&db.tensor))?;
        let alone = s.destination(3, &w_shape)?;
        dy.tensor.convolution_grad_weight_(&x.tensor, &windows, &alone.tensor, None)?;
        let [dw_expected, db_expected] =
            reference::convolution_grad_weight(&dy.values, &x.values, &windows, &w_shape);
        Ok(vec![
            dw.compare_added("dw", &dw_expected)?,
            db.compare_added("db", &db_expected)?,
            alone.compare_added("dw without db", &dw_expected)?,
        ])
    };
    [
        Case::new("convolution", name.clone(), forward),
        Case::new("convolution_grad_input", name.clone(), input),
        Case::new("convolution_grad_weight", name, weight),
    ]
}
