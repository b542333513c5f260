//! Windows of images, and convolution.

use vitrine_tensor::Windows;

use super::{Array, Sum, zeros};

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

/// Calls `each` with every element of every window of images of a shape: its place in `[B, M, C·p·q]`, and its pixel's.
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

/// Calls `each` for every product of a convolution: the places of its result in `[B, O, H', W']`, of the weight in
/// `[O, C, p, q]`, and of the pixel.
fn for_each_product(
    windows: &Windows,
    images: &[usize],
    outputs: usize,
    mut each: impl FnMut([usize; 4], [usize; 4], [usize; 4]),
) {
    let (p, q) = windows.kernel;
    let (_, columns) = windows.count(images[2], images[3]).expect("the windows fit");
    for_each_element(windows, images, |[b, m, e], pixel| {
        for o in 0..outputs {
            let weight = [o, e / (p * q), e / q % p, e % q];
            each([b, o, m / columns, m % columns], weight, pixel);
        }
    });
}

/// x `[B, C, H, W]`, w `[O, C, p, q]`, bias `[O]` to `[B, O, H', W']`.
pub fn convolution(x: &Array, w: &Array, bias: Option<&Array>, windows: &Windows) -> Sum {
    let (shape, outputs) = (x.shape(), w.shape()[0]);
    let (rows, columns) = windows.count(shape[2], shape[3]).expect("the windows fit");
    let mut y = Sum::zeros(&[shape[0], outputs, rows, columns]);
    for (index, value) in y.value.indexed_iter_mut() {
        *value = bias.map_or(0.0, |bias| bias[[index[1]]]);
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
pub fn convolution_grad_input(dy: &Array, w: &Array, windows: &Windows, shape: &[usize]) -> Sum {
    let mut dx = Sum::zeros(shape);
    for_each_product(windows, shape, w.shape()[0], |from, weight, pixel| {
        let term = dy[from.as_slice()] * w[weight.as_slice()];
        dx.value[pixel.as_slice()] += term;
        dx.terms[pixel.as_slice()] += term.abs();
    });
    dx
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
        db.value[[index[1]]] += value;
        db.terms[[index[1]]] += value.abs();
    }
    [dw, db]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::{central, compare};
    use crate::inputs::random;

    const WINDOWS: Windows = Windows { kernel: (3, 2), stride: (2, 1), padding: (1, 2) };

    #[test]
    fn gradients_are_those_of_central_differences() {
        let (x, w, bias) = (random(1, &[2, 2, 4, 3]), random(2, &[3, 2, 3, 2]), random(3, &[3]));
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
        let x = crate::reference::array(&[1, 1, 2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let windows = Windows { kernel: (2, 2), stride: (1, 2), padding: (0, 1) };
        let expected = [[0.0, 1.0, 0.0, 4.0], [2.0, 3.0, 5.0, 6.0]];
        assert_eq!(crate::reference::flat(&unfold(&x, &windows)), expected.as_flattened());
        let weight = crate::reference::array(&[1, 1, 2, 2], vec![1.0, 10.0, 100.0, 1000.0]);
        let y = convolution(&x, &weight, None, &windows).value;
        assert_eq!(crate::reference::flat(&y), [4010.0, 6532.0]);
    }
}
