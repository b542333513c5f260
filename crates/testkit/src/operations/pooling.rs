//! Max pooling and its gradient.

use vitrine_tensor::backend::Poolings;
use vitrine_tensor::{DType, Result, Tensor, Windows};

use crate::case::Case;
use crate::compare::Comparison;
use crate::faulty::faults;
use crate::inputs::{Input, Layout, Setup, random};
use crate::operations::convolution::windows;
use crate::sweep::{Axis, Reach, over, pick};

/// What they mean, in plain `f64` loops.
pub mod reference {
    use vitrine_tensor::Windows;

    use crate::reference::{Array, Sum, zeros};

    /// For each window of images `[B, H, W, C]`, its place in `[B, H', W', C]`, and its pixels with their places in it.
    fn for_each_window(
        windows: &Windows,
        images: &[usize],
        mut each: impl FnMut([usize; 4], &[(u8, [usize; 4])]),
    ) {
        let Windows { kernel, stride, padding } = *windows;
        let (rows, columns) = windows.count(images[1], images[2]).expect("the windows fit");
        for index in ndarray::indices([images[0], rows, columns, images[3]].as_slice()) {
            let [b, row, column, c] = [index[0], index[1], index[2], index[3]];
            let mut pixels = Vec::new();
            for (i, j) in (0..kernel.0).flat_map(|i| (0..kernel.1).map(move |j| (i, j))) {
                let y = (row * stride.0 + i).wrapping_sub(padding.0);
                let x = (column * stride.1 + j).wrapping_sub(padding.1);
                if y < images[1] && x < images[2] {
                    pixels.push(((i * kernel.1 + j) as u8, [b, y, x, c]));
                }
            }
            each([b, row, column, c], &pixels);
        }
    }

    /// The largest of each window, or a NaN, and the first place where it is.
    pub fn max_pool(x: &Array, windows: &Windows) -> [Array; 2] {
        let (rows, columns) = windows.count(x.shape()[1], x.shape()[2]).expect("the windows fit");
        let shape = [x.shape()[0], rows, columns, x.shape()[3]];
        let [mut y, mut places] = [zeros(&shape), zeros(&shape)];
        for_each_window(windows, x.shape(), |at, pixels| {
            let mut best = pixels[0];
            for &(place, pixel) in pixels {
                let (value, top) = (x[pixel.as_slice()], x[best.1.as_slice()]);
                if value > top || (value.is_nan() && !top.is_nan()) {
                    best = (place, pixel);
                }
            }
            y[at.as_slice()] = x[best.1.as_slice()];
            places[at.as_slice()] = f64::from(best.0);
        });
        [y, places]
    }

    /// Each dy at the pixel that its window was at.
    pub fn max_pool_grad(dy: &Array, places: &Array, windows: &Windows, images: &[usize]) -> Sum {
        let mut dx = Sum::zeros(images);
        for_each_window(windows, images, |at, pixels| {
            for (place, pixel) in pixels {
                if f64::from(*place) == places[at.as_slice()] {
                    dx.value[pixel.as_slice()] += dy[at.as_slice()];
                    dx.terms[pixel.as_slice()] += dy[at.as_slice()].abs();
                }
            }
        });
        dx
    }
}

/// Images `[B, H, W, C]` with windows side by side, apart, overlapping, and with padding.
const WINDOWS: [([usize; 4], Windows); 7] = [
    ([1, 1, 1, 1], windows((1, 1), (1, 1), (0, 0))),
    ([2, 4, 6, 3], windows((2, 3), (2, 3), (0, 0))),
    ([0, 4, 4, 1], windows((2, 2), (2, 2), (0, 0))),
    ([3, 9, 8, 70], windows((3, 3), (2, 2), (1, 1))),
    ([2, 11, 15, 5], windows((3, 2), (4, 5), (0, 1))),
    ([2, 5, 7, 33], windows((3, 3), (1, 1), (2, 2))),
    ([1, 16, 16, 2], windows((16, 16), (1, 1), (8, 8))),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (shape, windows) in WINDOWS {
        for layout in Layout::ALL {
            let name = format!("{shape:?} in {windows:?}, {layout:?}");
            cases.push(Case::new("max_pool", name.clone(), move |s| {
                max_pool(s, shape, windows, layout)
            }));
            cases.push(Case::new("max_pool_grad", name, move |s| {
                max_pool_grad(s, shape, windows, layout)
            }));
        }
    }
    cases.push(Case::new("max_pool", "equal values", |s| {
        let windows = windows((2, 2), (1, 1), (1, 1));
        let values = random(1, &[2, 3, 3, 4]).mapv(f64::signum);
        compare_pooled(&s.placed(&values, Layout::Dense)?, windows)
    }));
    cases
}

fn max_pool(
    s: &Setup,
    shape: [usize; 4],
    windows: Windows,
    layout: Layout,
) -> Result<Vec<Comparison>> {
    compare_pooled(&s.laid_out(1, &shape, layout)?, windows)
}

fn compare_pooled(x: &Input, windows: Windows) -> Result<Vec<Comparison>> {
    let (y, places) = x.tensor.max_pool(&windows)?;
    let [expected, expected_places] = reference::max_pool(&x.values, &windows);
    Ok(vec![
        Comparison::new("y", &y, &expected)?.exact(),
        Comparison::new("places", &places, &expected_places)?.exact(),
    ])
}

fn max_pool_grad(
    s: &Setup,
    shape: [usize; 4],
    windows: Windows,
    layout: Layout,
) -> Result<Vec<Comparison>> {
    let [y, places] = reference::max_pool(&random(1, &shape), &windows);
    let dy = s.laid_out(2, y.shape(), layout)?;
    let places = s.placed_as(&places, layout, DType::U8)?;
    let dx = dy.tensor.max_pool_grad(&places.tensor, &windows, &shape)?;
    let expected = reference::max_pool_grad(&dy.values, &places.values, &windows, &shape);
    Ok(vec![Comparison::of_sum("dx", &dx, &expected)?])
}

/// The same at many sizes.
pub(super) fn sweep(reach: Reach) -> Vec<Case> {
    let axes = [
        Axis::new(&[3], &[]),
        Axis::new(&[5], &[]),
        Axis::new(&[2], &[]),
        Axis::new(&[3], &[32, 64]),
    ];
    // Height, width, the kernel's size, and channels.
    let image = |[height, width, size, channels]: [usize; 4], turn: usize| {
        let kernel = (1 + size % 5, 1 + (size + turn) % 4);
        let padding = (turn % kernel.0, turn / 2 % kernel.1);
        let windows = Windows { kernel, stride: (1 + turn % 3, 1 + turn % 2), padding };
        ([1 + turn % 2, height + kernel.0, width + kernel.1, channels], windows)
    };
    let mut cases = over(reach, "max_pool", &axes, move |s, shape, turn| {
        let (shape, windows) = image(shape, turn);
        max_pool(s, shape, windows, pick(turn / 2, &Layout::ALL))
    });
    cases.extend(over(reach, "max_pool_grad", &axes, move |s, shape, turn| {
        let (shape, windows) = image(shape, turn);
        max_pool_grad(s, shape, windows, pick(turn / 2, &Layout::ALL))
    }));
    cases
}

faults! {
    Poolings {
        max_pool(x: &Tensor, windows: &Windows, y: &Tensor, places: &Tensor)
            writes [Some(y), Some(places)];
        max_pool_grad(dy: &Tensor, places: &Tensor, windows: &Windows, dx: &Tensor)
            writes [Some(dx)];
    }
}

#[cfg(test)]
mod tests {
    use super::reference::*;
    use super::windows;
    use crate::gradcheck::{central, compare};
    use crate::inputs::random;

    #[test]
    fn gradients_are_those_of_central_differences() {
        let (x, windows) = (random(1, &[2, 4, 5, 2]), windows((3, 2), (2, 1), (1, 1)));
        let [y, places] = max_pool(&x, &windows);
        let dy = random(2, y.shape());
        let f = |v: &[crate::reference::Array]| (&max_pool(&v[0], &windows)[0] * &dy).sum();
        let exact = max_pool_grad(&dy, &places, &windows, x.shape()).value;
        compare(&central(f, &[x]), &[exact]).unwrap();
    }
}
