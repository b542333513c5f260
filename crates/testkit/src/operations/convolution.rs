//! Windows of images, and convolution.

use vitrine_tensor::backend::{BatchNorm, Convolutions};
use vitrine_tensor::{DType, Partition, Result, Tensor, Windows};

use crate::case::Case;
use crate::compare::Comparison;
use crate::faulty::faults;
use crate::inputs::{Layout, Setup, random};
use crate::operations::batch_norm::{reference::batch_norm, with_inputs};
use crate::reference::Array;
use crate::sweep::{Axis, Reach, over, pick};

/// What they mean, in plain `f64` loops.
pub mod reference {
    use vitrine_tensor::Windows;

    use crate::reference::{Array, Sum, zeros};

    /// The pixel under element (i, j) of the window in a row and a column; `None` in the padding.
    fn pixel(
        windows: &Windows,
        shape: &[usize],
        at: [usize; 2],
        inner: [usize; 2],
    ) -> Option<[usize; 2]> {
        let Windows { stride, padding, .. } = windows;
        let y = (at[0] * stride.0 + inner[0]).checked_sub(padding.0)?;
        let x = (at[1] * stride.1 + inner[1]).checked_sub(padding.1)?;
        (y < shape[2] && x < shape[3]).then_some([y, x])
    }

    /// Calls `each` with every element of every window of images of a shape: its place in `[B, M, C·p·q]`, and its
    /// pixel's.
    fn for_each_element(
        windows: &Windows,
        shape: &[usize],
        mut each: impl FnMut([usize; 3], [usize; 4]),
    ) {
        let (p, q) = windows.kernel;
        let (rows, columns) = windows.count(shape[2], shape[3]).expect("the windows fit");
        let sizes = [shape[0], rows, columns, shape[1], p, q];
        for index in ndarray::indices(sizes.as_slice()) {
            let [b, row, column, c, i, j] = [0, 1, 2, 3, 4, 5].map(|axis| index[axis]);
            if let Some([y, x]) = pixel(windows, shape, [row, column], [i, j]) {
                each([b, row * columns + column, (c * p + i) * q + j], [b, c, y, x]);
            }
        }
    }

    /// Images `[B, C, H, W]` to windows `[B, M, C·p·q]`.
    pub fn unfold(images: &Array, windows: &Windows) -> Array {
        let shape = images.shape();
        let (rows, columns) = windows.count(shape[2], shape[3]).expect("the windows fit");
        let size = shape[1] * windows.kernel.0 * windows.kernel.1;
        let mut to = zeros(&[shape[0], rows * columns, size]);
        for_each_element(windows, shape, |window, pixel| {
            to[window.as_slice()] = images[pixel.as_slice()]
        });
        to
    }

    /// Windows added up in images `[B, C, H, W]`.
    pub fn fold(from: &Array, windows: &Windows, shape: &[usize]) -> Sum {
        let mut images = Sum::zeros(shape);
        for_each_element(windows, shape, |window, pixel| {
            images.value[pixel.as_slice()] += from[window.as_slice()];
            images.terms[pixel.as_slice()] += from[window.as_slice()].abs();
        });
        images
    }

    /// Calls `each` for every product of a convolution: the places of its result in `[B, H', W', O]`, of the weight in
    /// `[O, C, p, q]`, and of the pixel in images `[B, H, W, C]`.
    fn for_each_product(
        windows: &Windows,
        images: &[usize],
        outputs: usize,
        mut each: impl FnMut([usize; 4], [usize; 4], [usize; 4]),
    ) {
        let (p, q) = windows.kernel;
        let (_, columns) = windows.count(images[1], images[2]).expect("the windows fit");
        let channels_first = [images[0], images[3], images[1], images[2]];
        for_each_element(windows, &channels_first, |[b, m, e], [_, c, y, x]| {
            for o in 0..outputs {
                let weight = [o, e / (p * q), e / q % p, e % q];
                each([b, m / columns, m % columns, o], weight, [b, y, x, c]);
            }
        });
    }

    /// x `[B, H, W, C]`, w `[O, C, p, q]`, bias `[O]` to `[B, H', W', O]`.
    pub fn convolution(x: &Array, w: &Array, bias: Option<&Array>, windows: &Windows) -> Sum {
        let (shape, outputs) = (x.shape(), w.shape()[0]);
        let (rows, columns) = windows.count(shape[1], shape[2]).expect("the windows fit");
        let mut y = Sum::zeros(&[shape[0], rows, columns, outputs]);
        for (index, value) in y.value.indexed_iter_mut() {
            *value = bias.map_or(0.0, |bias| bias[[index[3]]]);
        }
        y.terms = y.value.mapv(f64::abs);
        for_each_product(windows, shape, outputs, |to, weight, pixel| {
            let term = w[weight.as_slice()] * x[pixel.as_slice()];
            y.value[to.as_slice()] += term;
            y.terms[to.as_slice()] += term.abs();
        });
        y
    }

    /// The gradient for images of a shape.
    pub fn convolution_grad_input(
        dy: &Array,
        w: &Array,
        windows: &Windows,
        shape: &[usize],
    ) -> Sum {
        let mut dx = Sum::zeros(shape);
        for_each_product(windows, shape, w.shape()[0], |from, weight, pixel| {
            let term = dy[from.as_slice()] * w[weight.as_slice()];
            dx.value[pixel.as_slice()] += term;
            dx.terms[pixel.as_slice()] += term.abs();
        });
        dx
    }

    /// For each pixel the sum of the absolute values of its windows' gradients.
    pub fn grad_input_terms(dy: &Array, w: &Array, windows: &Windows, shape: &[usize]) -> Array {
        let (outputs, size) = (w.shape()[0], w.len() / w.shape()[0]);
        let rows = dy.to_shape((dy.len() / outputs, outputs)).expect("as many elements");
        let grads = rows.dot(&w.to_shape((outputs, size)).expect("as many elements"));
        let grads = grads
            .into_dyn()
            .into_shape_with_order([shape[0], dy.shape()[1] * dy.shape()[2], size].as_slice());
        let channels_first = [shape[0], shape[3], shape[1], shape[2]];
        let pixels = fold(&grads.expect("as many elements"), windows, &channels_first).terms;
        pixels.permuted_axes([0, 2, 3, 1].as_slice())
    }

    /// The gradients for a weight of a shape and for the bias.
    pub fn convolution_grad_weight(
        dy: &Array,
        x: &Array,
        windows: &Windows,
        shape: &[usize],
    ) -> [Sum; 2] {
        let (mut dw, mut db) = (Sum::zeros(shape), Sum::zeros(&shape[..1]));
        for_each_product(windows, x.shape(), shape[0], |from, weight, pixel| {
            let term = dy[from.as_slice()] * x[pixel.as_slice()];
            dw.value[weight.as_slice()] += term;
            dw.terms[weight.as_slice()] += term.abs();
        });
        for (index, value) in dy.indexed_iter() {
            db.value[[index[3]]] += value;
            db.terms[[index[3]]] += value.abs();
        }
        [dw, db]
    }
}

/// As [`all`] gives them.
const CONVOLUTIONS: [&str; 3] =
    ["convolution", "convolution_grad_input", "convolution_grad_weight"];

pub(super) const fn windows(
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
    for (shape, window, shift) in [
        ([2, 4, 6, 3], (2, 3), (0, 0)),
        ([2, 4, 6, 3], (2, 3), (1, 2)),
        ([1, 7, 7, 65], (7, 7), (3, 3)),
        ([3, 14, 21, 5], (7, 7), (3, 3)),
        ([0, 2, 2, 1], (1, 1), (1, 1)),
    ] {
        for layout in Layout::ALL {
            let name = format!("{shape:?} by {window:?}, {shift:?}, {layout:?}");
            cases.push(Case::new("partition", name, move |s| {
                partition(s, shape, Partition { window, shift }, layout)
            }));
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

fn unfold(
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

fn fold(s: &Setup, shape: [usize; 4], windows: Windows, layout: Layout) -> Result<Vec<Comparison>> {
    let from = random(1, reference::unfold(&random(1, &shape), &windows).shape());
    let from = s.placed(&from, layout)?;
    let images = from.tensor.fold(&windows, &shape)?;
    let expected = reference::fold(&from.values, &windows, &shape);
    Ok(vec![match windows.are_apart() {
        true => Comparison::new("images", &images, &expected.value)?.exact(),
        false => Comparison::of_sum("images", &images, &expected)?,
    }])
}

/// A convolution with its gradients, of images whose shape is given as `[B, C, H, W]`.
fn all(
    name: String,
    shape: [usize; 4],
    outputs: usize,
    windows: Windows,
    [first, second]: [Layout; 2],
) -> [Case; 3] {
    let (rows, columns) = windows.count(shape[2], shape[3]).expect("the windows fit");
    let y_shape = [shape[0], rows, columns, outputs];
    let shape = [shape[0], shape[2], shape[3], shape[1]];
    let w_shape = [outputs, shape[3], windows.kernel.0, windows.kernel.1];
    let forward = move |s: &Setup| {
        let (x, w) = (s.laid_out(1, &shape, first)?, s.laid_out(2, &w_shape, second)?);
        let bias = s.laid_out(3, &[outputs], second)?;
        let y = x.tensor.convolution(&w.tensor, Some(&bias.tensor), &windows)?;
        let alone = x.tensor.convolution(&w.tensor, None, &windows)?;
        let expected = |bias| reference::convolution(&x.values, &w.values, bias, &windows);
        let with_bias = expected(Some(&bias.values));
        let mut found = vec![
            Comparison::of_sum("y", &y, &with_bias)?,
            Comparison::of_sum("y without bias", &alone, &expected(None))?,
        ];
        let normed = with_inputs(s, &y_shape, second, outputs, |_, statistics, norm, of| {
            let (w, bias, statistics_of) = (&w.tensor, Some(&bias.tensor), &statistics.tensor);
            let y = x.tensor.convolution_batch_norm(w, bias, &windows, statistics_of, norm)?;
            let expected = batch_norm(&with_bias.value, &statistics.values, of);
            let scaled = |mut values: Array| {
                for (index, value) in values.indexed_iter_mut() {
                    let root = (statistics.values[[1, index[3]]] + of.epsilon).sqrt();
                    *value = (*value * of.scale[[index[3]]] / root).abs();
                }
                values
            };
            let terms = scaled(with_bias.terms.clone()) + expected.mapv(|y| 4.0 + y.abs());
            let y = Comparison::new("y, normed", &y, &expected)?;
            let y = y.loosened(s.dtype.accumulator(), &terms);
            // Between the two, values may be rounded to the element type.
            Ok(vec![y.loosened(s.dtype, &scaled(with_bias.value.clone()))])
        });
        found.extend(normed?);
        Ok(found)
    };
    let input = move |s: &Setup| {
        let (dy, w) = (s.laid_out(1, &y_shape, first)?, s.laid_out(2, &w_shape, second)?);
        let dx = dy.tensor.convolution_grad_input(&w.tensor, &windows, &shape)?;
        let expected = reference::convolution_grad_input(&dy.values, &w.values, &windows, &shape);
        // The gradients of windows may be rounded to the element type before they are added up.
        let terms = reference::grad_input_terms(&dy.values, &w.values, &windows, &shape);
        Ok(vec![Comparison::of_sum("dx", &dx, &expected)?.loosened(s.dtype, &terms)])
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

/// The same at many sizes.
pub(super) fn sweep(reach: Reach) -> Vec<Case> {
    // Windows down and across an image, and pixels down and across a window; side by side, or small ones a
    // step of one apart and with padding.
    let axes = [
        Axis::new(&[2], &[]),
        Axis::new(&[3], &[]),
        Axis::new(&[2], &[]),
        Axis::new(&[3], &[32, 64]),
    ];
    let image = |[down, across, p, q]: [usize; 4], turn: usize| {
        let small = (1 + p % 4, 1 + q % 4);
        let windows = match turn % 4 {
            3 => Windows { kernel: small, stride: (1, 1), padding: (small.0 / 2, small.1 / 2) },
            _ => Windows::patches((p, q)),
        };
        ([1 + turn % 2, 1 + turn % 3, down * p, across * q], windows)
    };
    let mut cases = Vec::new();
    cases.extend(over(reach, "unfold", &axes, move |s, shape, turn| {
        let (shape, windows) = image(shape, turn);
        unfold(s, shape, windows, pick(turn / 2, &Layout::ALL))
    }));
    cases.extend(over(reach, "fold", &axes, move |s, shape, turn| {
        let (shape, windows) = image(shape, turn);
        fold(s, shape, windows, pick(turn / 2, &Layout::ALL))
    }));
    cases.extend(over(reach, "partition", &axes, move |s, [down, across, p, q], turn| {
        let window = (1 + p % 5, q);
        let shape = [1 + turn % 2, down * window.0, across * q, 1 + turn % 7];
        let shift = (turn % window.0, turn / 2 % q);
        partition(s, shape, Partition { window, shift }, pick(turn / 2, &Layout::ALL))
    }));
    for (i, op) in CONVOLUTIONS.into_iter().enumerate() {
        cases.extend(over(reach, op, &axes, move |s, shape, turn| {
            let (shape, windows) = image(shape, turn);
            let layouts = [pick(turn, &Layout::ALL), pick(turn / 2, &Layout::ALL)];
            let three = all(String::new(), shape, 1 + turn % 5, windows, layouts);
            three[i].run(&s.device, s.dtype)
        }));
    }
    cases
}

/// Window (i, j)'s pixel (r, c) is the image's pixel ((i·p + r + s) mod H, (j·q + c + t) mod W).
fn partition(
    s: &Setup,
    shape: [usize; 4],
    by: Partition,
    layout: Layout,
) -> Result<Vec<Comparison>> {
    let (images, (p, q)) = (s.laid_out(1, &shape, layout)?, by.window);
    let (rows, columns) = (shape[1] / p, shape[2] / q);
    let mut expected = crate::reference::zeros(&[shape[0] * rows * columns, p * q, shape[3]]);
    for (index, value) in expected.indexed_iter_mut() {
        let (window, pixel) = (index[0], index[1]);
        let y = window / columns % rows * p + pixel / q + by.shift.0;
        let x = window % columns * q + pixel % q + by.shift.1;
        let image = window / columns / rows;
        *value = images.values[[image, y % shape[1], x % shape[2], index[2]]];
    }
    let found = images.tensor.window_partition(&by)?;
    let windows = s.unspoiled().placed(&expected, layout)?;
    let back = windows.tensor.window_reverse(&by, &shape)?;
    Ok(vec![
        Comparison::new("windows", &found, &expected)?.exact(),
        Comparison::new("images", &back, &images.values)?.exact(),
    ])
}

faults! {
    Convolutions {
        partition(images: &Tensor, windows: &Tensor, partition: &Partition, to_windows: bool)
            writes [Some(if to_windows { windows } else { images })];
        unfold(images: &Tensor, windows: &Windows, to: &Tensor) writes [Some(to)];
        fold(from: &Tensor, windows: &Windows, images: &Tensor) writes [Some(images)];
        convolution(
            x: &Tensor, w: &Tensor, bias: Option<&Tensor>, windows: &Windows,
            norm: Option<(&Tensor, &BatchNorm<'_>)>, y: &Tensor
        ) writes [Some(y)];
        convolution_grad_input(dy: &Tensor, w: &Tensor, windows: &Windows, dx: &Tensor)
            writes [Some(dx)];
        convolution_grad_weight(
            dy: &Tensor, x: &Tensor, windows: &Windows, dw: &Tensor, db: Option<&Tensor>
        ) writes [Some(dw), db];
    }
}

#[cfg(test)]
mod tests {
    use super::Windows;
    use super::reference::*;
    use crate::gradcheck::{central, compare};
    use crate::inputs::random;
    use crate::reference::*;

    const WINDOWS: Windows = Windows { kernel: (3, 2), stride: (2, 1), padding: (1, 2) };

    #[test]
    fn gradients_are_those_of_central_differences() {
        let (x, w, bias) = (random(1, &[2, 4, 3, 2]), random(2, &[3, 2, 3, 2]), random(3, &[3]));
        let dy = random(4, convolution(&x, &w, None, &WINDOWS).value.shape());
        let f = |v: &[Array]| (convolution(&v[0], &v[1], Some(&v[2]), &WINDOWS).value * &dy).sum();
        let dx = convolution_grad_input(&dy, &w, &WINDOWS, x.shape()).value;
        let [dw, db] = convolution_grad_weight(&dy, &x, &WINDOWS, w.shape());
        compare(&central(f, &[x, w, bias]), &[dx, dw.value, db.value]).unwrap();
    }

    #[test]
    fn fold_is_the_gradient_of_unfold() {
        let x = random(1, &[2, 2, 4, 3]);
        let dy = random(2, unfold(&x, &WINDOWS).shape());
        let f = |v: &[Array]| (unfold(&v[0], &WINDOWS) * &dy).sum();
        let dx = fold(&dy, &WINDOWS, x.shape()).value;
        compare(&central(f, std::slice::from_ref(&x)), &[dx]).unwrap();
    }

    #[test]
    fn windows_of_small_numbers_are_those_written_by_hand() {
        let x = array(&[1, 1, 2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let windows = Windows { kernel: (2, 2), stride: (1, 2), padding: (0, 1) };
        let expected = [[0.0, 1.0, 0.0, 4.0], [2.0, 3.0, 5.0, 6.0]];
        assert_eq!(flat(&unfold(&x, &windows)), expected.as_flattened());
        let weight = array(&[1, 1, 2, 2], vec![1.0, 10.0, 100.0, 1000.0]);
        let x = array(&[1, 2, 3, 1], flat(&x).to_vec());
        let y = convolution(&x, &weight, None, &windows).value;
        assert_eq!(flat(&y), [4010.0, 6532.0]);
    }
}
