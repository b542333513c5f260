//! The linear layer: product and epilogue by row blocks, and its gradients. Batched products are here too.

use rayon::prelude::*;

use super::activation::dropout_row;
use super::elementwise::{accumulate, sum_rows};
use super::number::{Number, Real};
use super::product::{Block, Matrix, product_by_rows, rows_per_part};
use super::scratch::with_scratch;
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
            Activation::GeluErf => apply(values, |v| Activation::GeluErf.value(v)),
            Activation::GeluTanh => apply(values, |v| Activation::GeluTanh.value(v)),
            Activation::Relu => apply(values, |v| Activation::Relu.value(v)),
        }
    }
}

/// Written as a loop: a closure that `for_each` takes may be compiled apart, without the caller's instruction set.
#[inline(always)]
fn apply<T: Real>(values: &mut [T], f: impl Fn(T) -> T) {
    for value in values {
        *value = f(*value);
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
    let x = Matrix::row_major(x, rows, inputs);
    let w = Matrix::row_major(w, outputs, inputs).transposed();
    let parts = parts(y, pre_activation, rows_per_part(rows) * outputs);
    product_by_rows(x, w, parts, |(y, pre), block, values| {
        for (i, values) in values.chunks_exact_mut(block.columns).enumerate() {
            let at = i * outputs + block.first_column;
            let pre = pre.as_deref_mut().map(|pre| &mut pre[at..][..block.columns]);
            finish.row(block.first_row + i, block.first_column, outputs, values, pre);
            store::<T>(values, &mut y[at..][..block.columns]);
        }
    });
}

impl<T: Number> Finish<'_, T> {
    /// Finishes a part of a row of the product, from column `first` on.
    fn row(
        &self,
        row: usize,
        first: usize,
        outputs: usize,
        values: &mut [T::Acc],
        pre_activation: Option<&mut [T]>,
    ) {
        let width = values.len();
        if let Some(bias) = self.bias {
            add_bias::<T>(values, &bias[first..][..width]);
        }
        if let Some(pre) = pre_activation {
            store::<T>(values, pre);
        }
        if let Some(activation) = self.activation {
            apply_activation(values, activation);
        }
        if let Some(dropout) = &self.dropout {
            let index = dropout.row_index(row, outputs, self.rows_per_sample) + first as u64;
            dropout_row::<T::Acc>(values, dropout, index);
        }
        if let Some(residual) = self.residual {
            add_bias::<T>(values, &residual[row * outputs + first..][..width]);
        }
    }
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
    let dy = Matrix::row_major(dy, rows, outputs);
    let w = Matrix::row_major(w, outputs, inputs);
    let parts = dx.chunks_mut(rows_per_part(rows) * inputs).collect();
    product_by_rows(dy, w, parts, |dx, block, values| {
        rows_of(dx, inputs, block, values).for_each(|(dx, values)| store::<T>(values, dx));
    });
}

/// The rows of a block of values, each with the part of `to` (rows of `width`) that it belongs to.
fn rows_of<'a, T, A>(
    to: &'a mut [T],
    width: usize,
    block: Block,
    values: &'a [A],
) -> impl Iterator<Item = (&'a mut [T], &'a [A])> {
    let rows = to.chunks_exact_mut(width).zip(values.chunks_exact(block.columns));
    rows.map(move |(to, values)| (&mut to[block.first_column..][..block.columns], values))
}

/// `dw += dyᵀ·x`
pub(crate) fn grad_weight<T: Number, S: Number<Acc = T::Acc>>(
    dy: &[T],
    x: &[T],
    dw: &mut [S],
    outputs: usize,
    inputs: usize,
) {
    if dw.is_empty() {
        return;
    }
    let rows = dy.len() / outputs;
    let (dy, x) = (Matrix::row_major(dy, rows, outputs), Matrix::row_major(x, rows, inputs));
    if inputs <= outputs {
        let parts = dw.chunks_mut(rows_per_part(outputs) * inputs).collect();
        product_by_rows(dy.transposed(), x, parts, |dw, block, values| {
            rows_of(dw, inputs, block, values).for_each(|(dw, values)| accumulate(dw, values));
        });
        return;
    }
    // The narrower matrix is the one to pack: the transpose is computed, which gives the same bits.
    with_scratch(inputs * outputs, |turned: &mut [T::Acc]| {
        let parts = turned.chunks_mut(rows_per_part(inputs) * outputs).collect();
        product_by_rows(x.transposed(), dy, parts, |turned, block, values| {
            rows_of(turned, outputs, block, values)
                .for_each(|(to, values)| to.copy_from_slice(values));
        });
        const LINE: usize = 16;
        dw.par_chunks_mut(LINE * inputs).enumerate().for_each(|(line, dw)| {
            for (i, turned) in turned.chunks_exact(outputs).enumerate() {
                for (row, &value) in dw.chunks_exact_mut(inputs).zip(&turned[line * LINE..]) {
                    row[i] = S::narrow(row[i].widen() + value);
                }
            }
        });
    });
}

/// `db += Σ dy` over the rows.
pub(crate) fn grad_bias<T: Number, S: Number<Acc = T::Acc>>(dy: &[T], db: &mut [S]) {
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

impl<'a, T: Number> Batched<'a, T> {
    fn matrix(&self, i: usize) -> Matrix<'a, T> {
        let (shape, strides) = (self.shape, self.strides);
        let start = (i * strides[0]).min(self.values.len());
        Matrix::new(&self.values[start..], [shape[1], shape[2]], [strides[1], strides[2]])
    }
}

/// `c[b] = a[b]·b[b]`
pub(crate) fn matmul<T: Number>(a: Batched<'_, T>, b: Batched<'_, T>, c: &mut [T]) {
    let (m, n) = (a.shape[1], b.shape[2]);
    if c.is_empty() {
        return;
    }
    c.par_chunks_mut(m * n).enumerate().for_each(|(i, c)| {
        let parts = c.chunks_mut(rows_per_part(m) * n).collect();
        product_by_rows(a.matrix(i), b.matrix(i), parts, |c, block, values| {
            rows_of(c, n, block, values).for_each(|(c, values)| store::<T>(values, c));
        });
    });
}
