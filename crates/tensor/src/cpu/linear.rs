//! The linear layer: product and epilogue by row blocks, and its gradients. Batched products are here too.

use rayon::prelude::*;

use super::activation::dropout_row;
use super::elementwise::{accumulate, sum_rows};
use super::gemm::{Matrix, product, product_by_rows, rows_per_task, with_scratch};
use super::number::{Number, Real};
use super::simd::simd;
use crate::{Activation, Dropout};

/// What happens to a row of the product.
pub(crate) struct Finish<'a, T> {
    pub(crate) bias: Option<&'a [T]>,
    pub(crate) activation: Option<Activation>,
    pub(crate) dropout: Option<Dropout>,
    pub(crate) residual: Option<&'a [T]>,
    pub(crate) rows_per_sample: usize,
}

simd! {
    fn add_bias<T: Number>(values: &mut [T::Acc], bias: &[T]) {
        for (value, bias) in values.iter_mut().zip(bias) {
            *value = *value + bias.widen();
        }
    }
}

simd! {
    fn apply_activation<T: Real>(values: &mut [T], activation: Activation) {
        // One loop an activation: the choice must not be inside.
        match activation {
            Activation::GeluErf => values.iter_mut().for_each(|v| *v = Activation::GeluErf.value(*v)),
            Activation::GeluTanh => values.iter_mut().for_each(|v| *v = Activation::GeluTanh.value(*v)),
            Activation::Relu => values.iter_mut().for_each(|v| *v = Activation::Relu.value(*v)),
        }
    }
}

simd! {
    fn store<T: Number>(values: &[T::Acc], to: &mut [T]) {
        for (to, &value) in to.iter_mut().zip(values) {
            *to = T::narrow(value);
        }
    }
}

/// `y = epilogue(x·wᵀ)` with w `[outputs, inputs]`.
pub(crate) fn forward<T: Number>(
    x: &[T],
    w: &[T],
    finish: &Finish<'_, T>,
    pre_activation: Option<&mut [T]>,
    y: &mut [T],
    outputs: usize,
) {
    if y.is_empty() {
        return;
    }
    let (rows, inputs) = (y.len() / outputs, w.len() / outputs);
    let (x, w) = (T::widen_all(x), T::widen_all(w));
    let x = Matrix::row_major(&x, rows, inputs);
    let w = Matrix::row_major(&w, outputs, inputs).transposed();
    let block = rows_per_task(rows) * outputs;
    product_by_rows(x, w, parts(y, pre_activation, block), |(y, mut pre), first, values| {
        for (i, (values, y)) in
            values.chunks_exact_mut(outputs).zip(y.chunks_exact_mut(outputs)).enumerate()
        {
            let row = first + i;
            if let Some(bias) = finish.bias {
                add_bias::<T>(values, bias);
            }
            if let Some(pre) = &mut pre {
                store::<T>(values, &mut pre[i * outputs..][..outputs]);
            }
            if let Some(activation) = finish.activation {
                apply_activation(values, activation);
            }
            if let Some(dropout) = &finish.dropout {
                let index = dropout.row_index(row, outputs, finish.rows_per_sample);
                dropout_row::<T::Acc>(values, dropout, index);
            }
            if let Some(residual) = finish.residual {
                add_bias::<T>(values, &residual[row * outputs..][..outputs]);
            }
            store::<T>(values, y);
        }
    });
}

/// One block of the result, and of the pre-activation where it is kept.
type Part<'a, T> = (&'a mut [T], Option<&'a mut [T]>);

/// Cuts one or two destinations in blocks, a pair for each task.
fn parts<'a, T>(first: &'a mut [T], second: Option<&'a mut [T]>, block: usize) -> Vec<Part<'a, T>> {
    let mut second = second.map(|s| s.chunks_mut(block));
    let mut next = || second.as_mut().and_then(Iterator::next);
    first.chunks_mut(block).map(|part| (part, next())).collect()
}

/// `dx = dy·w`
pub(crate) fn grad_input<T: Number>(
    dy: &[T],
    w: &[T],
    dx: &mut [T],
    outputs: usize,
    inputs: usize,
) {
    if dx.is_empty() {
        return;
    }
    let rows = dx.len() / inputs;
    let (dy, w) = (T::widen_all(dy), T::widen_all(w));
    let dy = Matrix::row_major(&dy, rows, outputs);
    let w = Matrix::row_major(&w, outputs, inputs);
    let block = rows_per_task(rows) * inputs;
    product_by_rows(dy, w, parts(dx, None, block), |(dx, _), _, values| store::<T>(values, dx));
}

/// `dw += dyᵀ·x`
pub(crate) fn grad_weight<T: Number>(
    dy: &[T],
    x: &[T],
    dw: &mut [T],
    outputs: usize,
    inputs: usize,
) {
    if dw.is_empty() {
        return;
    }
    let rows = dy.len() / outputs;
    let (dy, x) = (T::widen_all(dy), T::widen_all(x));
    let dy = Matrix::row_major(&dy, rows, outputs).transposed();
    let x = Matrix::row_major(&x, rows, inputs);
    let block = rows_per_task(outputs) * inputs;
    product_by_rows(dy, x, parts(dw, None, block), |(dw, _), _, values| accumulate(dw, values));
}

/// `db += Σ dy` over the rows.
pub(crate) fn grad_bias<T: Number>(dy: &[T], db: &mut [T]) {
    let sums = sum_rows(dy, db.len());
    accumulate(db, &sums);
}

/// A batch of strided matrices.
#[derive(Clone, Copy)]
pub(crate) struct Batched<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) shape: &'a [usize],
    pub(crate) strides: &'a [usize],
}

/// `c[b] = a[b]·b[b]`
pub(crate) fn matmul<T: Number>(a: Batched<'_, T>, b: Batched<'_, T>, c: &mut [T]) {
    let (m, n) = (a.shape[1], b.shape[2]);
    if c.is_empty() {
        return;
    }
    let (left, right) = (T::widen_all(a.values), T::widen_all(b.values));
    let matrix = |values, of: &Batched<'_, T>, i: usize| {
        let start = (i * of.strides[0]).min(<[T::Acc]>::len(values));
        Matrix::new(&values[start..], [of.shape[1], of.shape[2]], [of.strides[1], of.strides[2]])
    };
    let step = rows_per_task(m);
    c.par_chunks_mut(m * n).enumerate().for_each(|(i, c)| {
        let (a, b) = (matrix(&left, &a, i), matrix(&right, &b, i));
        c.par_chunks_mut(step * n).enumerate().for_each(|(block, c)| {
            with_scratch(c.len(), |values| {
                product(a.row_range(block * step, c.len() / n), b, values, false);
                store::<T>(values, c);
            });
        });
    });
}
