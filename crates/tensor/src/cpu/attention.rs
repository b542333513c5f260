//! Attention, head by head, in blocks of query rows: the scores of a block stay in cache, and
//! memory is linear in the number of tokens. The gradient computes the weights again (Dao et al. 2022, section 3.1).

use std::ops::Range;

use num_traits::Float;
use rayon::prelude::*;

use super::activation::dropout_factors;
use super::number::{Number, Real, sum_of};
use super::product::{MatrixMut, SLACK_COLUMNS, SLACK_ROWS, Small, cut, small_product};
use super::scratch::with_scratch;
use super::simd::simd;
use super::softmax::{masked_softmax, masked_softmax_again};
use super::transpose::SIDE;
use crate::Dropout;
use crate::backend::{Attention, AttentionInputs};

/// Query rows whose scores are held at a time.
const BLOCK: usize = 64;

/// Extents, strides and options of one call.
pub(crate) struct Plan<'a> {
    queries: usize,
    keys: usize,
    heads: usize,
    head_width: usize,
    /// Strides over images and tokens, of queries, keys and values.
    strides: [[usize; 2]; 3],
    valid_lens: Option<&'a [i64]>,
    dropout: Option<Dropout>,
}

/// What the gradient starts from.
pub(crate) struct Saved<'a, T: Number> {
    pub(crate) inputs: [&'a [T]; 3],
    pub(crate) y: &'a [T],
    pub(crate) log_sums: &'a [T::Acc],
    pub(crate) dy: &'a [T],
}

impl<'a> Plan<'a> {
    pub(crate) fn new(
        inputs: &AttentionInputs<'_>,
        attention: &Attention<'_>,
        valid_lens: Option<&'a [i64]>,
    ) -> Self {
        let of = |t: &crate::Tensor| [t.strides()[0], t.strides()[1]];
        Self {
            queries: inputs.query.shape()[1],
            keys: inputs.key.shape()[1],
            heads: attention.heads,
            head_width: inputs.query.shape()[2] / attention.heads,
            strides: [of(inputs.query), of(inputs.key), of(inputs.value)],
            valid_lens,
            dropout: attention.dropout,
        }
    }

    fn width(&self) -> usize {
        self.heads * self.head_width
    }

    /// The keys of an image that count.
    fn valid(&self, image: usize) -> usize {
        self.valid_lens.map_or(self.keys, |lens| {
            usize::try_from(lens[image]).map_or(0, |len| len.min(self.keys))
        })
    }

    fn scale<A: Real>(&self) -> A {
        A::of(1.0 / (self.head_width as f64).sqrt())
    }

    /// Copies one head of the queries, keys or values of an image into rows that lie `stride` apart, times `factor`.
    fn load<T: Number>(
        &self,
        from: &[T],
        kind: usize,
        at: [usize; 2],
        factor: T::Acc,
        (to, stride): (&mut [T::Acc], usize),
    ) {
        for (from, to) in self.rows(from, kind, at).zip(to.chunks_mut(stride)) {
            scale_row(from, factor, &mut to[..self.head_width]);
        }
    }

    /// As [`Plan::load`], transposed: tokens become columns, of which `stride` are written.
    fn load_transposed<T: Number>(
        &self,
        from: &[T],
        kind: usize,
        at: [usize; 2],
        (to, stride): (&mut [T::Acc], usize),
    ) {
        let mut rows = self.rows(from, kind, at);
        for token in (0..stride).step_by(SIDE) {
            let tokens: [&[T]; SIDE] = std::array::from_fn(|_| rows.next().unwrap_or(&[]));
            turn_rows(&tokens, self.head_width, &mut to[token..], stride);
        }
    }

    /// One head's part of each token of an image.
    fn rows<'t, T>(
        &self,
        from: &'t [T],
        kind: usize,
        [image, head]: [usize; 2],
    ) -> impl Iterator<Item = &'t [T]> + use<'t, T> {
        let [over_images, over_tokens] = self.strides[kind];
        let (start, width) = (image * over_images + head * self.head_width, self.head_width);
        let tokens = if kind == 0 { self.queries } else { self.keys };
        (0..tokens).map(move |token| &from[start + token * over_tokens..][..width])
    }

    /// The dropout factors of `rows` query rows from `first` on, dense; none without dropout.
    fn factors<A: Real>(&self, [image, head]: [usize; 2], first: usize, factors: &mut [A]) {
        if let Some(dropout) = &self.dropout {
            let all = self.queries.max(self.keys);
            let row = (image * self.heads + head) * all + first;
            dropout_factors(factors, dropout, (row * self.keys) as u64);
        }
    }

    /// Numbers from one row of keys or scores, and of a head, to the next in a thread's buffers: whole registers.
    fn padded(&self) -> [usize; 2] {
        [self.keys, self.head_width].map(|width| width.next_multiple_of(16))
    }

    /// `y = dropout(softmax(q·kᵀ/√d))·v`, and the logarithms of the denominators.
    pub(crate) fn forward<T: Number>(
        &self,
        [q, k, v]: [&[T]; 3],
        y: &mut [T],
        log_sums: &mut [T::Acc],
    ) {
        if y.is_empty() {
            return;
        }
        if self.keys == 0 {
            y.fill(T::from_f64(0.0));
            log_sums.fill(T::Acc::neg_infinity());
            return;
        }
        let [heads_of_y] = self.cut_heads(y, self.queries);
        let heads = heads_of_y.into_par_iter().zip(log_sums.par_chunks_mut(self.queries));
        heads.enumerate().for_each(|(i, (y, log_sums))| {
            self.forward_head([q, k, v], [i / self.heads, i % self.heads], y, log_sums);
        });
    }

    /// Cuts `[B, tokens, N·D]` into N kinds, each in heads of all images one after the other.
    fn cut_heads<'t, T: Number, const N: usize>(
        &self,
        values: &'t mut [T],
        tokens: usize,
    ) -> [Vec<MatrixMut<'t, T>>; N] {
        let width = N * self.width();
        let rows = values.len() / width;
        let (images, heads) = (cut(rows, |_| tokens), cut(width, |_| self.head_width));
        let blocks = MatrixMut::new(values, [rows, width], width).cut(&images, &heads);
        let mut kinds = [const { Vec::new() }; N];
        for (i, block) in blocks.into_iter().enumerate() {
            kinds[i / self.heads % N].push(block);
        }
        kinds
    }

    /// One head of one image.
    fn forward_head<T: Number>(
        &self,
        [q, k, v]: [&[T]; 3],
        at: [usize; 2],
        mut y: MatrixMut<'_, T>,
        log_sums: &mut [T::Acc],
    ) {
        let (d, rows) = (self.head_width, self.queries.min(BLOCK));
        let [by_key, by_head] = self.padded();
        let sizes = [
            matrix(self.queries, by_head),
            matrix(d, by_key),
            matrix(self.keys, by_head),
            matrix(rows, by_key),
            matrix(rows, by_head),
            self.dropout.map_or(0, |_| rows * self.keys),
        ];
        with_parts(sizes, |[q_head, k_columns, v_head, scores, out, factors]| {
            self.load(q, 0, at, self.scale(), (&mut *q_head, by_head));
            self.load_transposed(k, 1, at, (&mut *k_columns, by_key));
            self.load(v, 2, at, T::Acc::of(1.0), (&mut *v_head, by_head));
            for first in (0..self.queries).step_by(BLOCK) {
                let rows = BLOCK.min(self.queries - first);
                let queries = Small { values: &q_head[first * by_head..], strides: [by_head, 1] };
                let keys = Small { values: k_columns, strides: [by_key, 1] };
                let to = (&mut *scores, by_key);
                small_product(queries, keys, [rows, d, self.keys], to, false);
                for (i, row) in scores.chunks_exact_mut(by_key).take(rows).enumerate() {
                    log_sums[first + i] = masked_softmax(row, self.valid(at[0]));
                }
                let factors = &mut factors[..self.dropout.map_or(0, |_| rows * self.keys)];
                self.factors(at, first, factors);
                let masks = factors.chunks_exact(self.keys);
                for (row, mask) in scores.chunks_exact_mut(by_key).zip(masks) {
                    multiply_row(row, mask);
                }
                let weights = Small { values: scores, strides: [by_key, 1] };
                let values = Small { values: v_head, strides: [by_head, 1] };
                let to = (&mut *out, by_head);
                small_product(weights, values, [rows, self.keys, d], to, false);
                store_rows((out, by_head), first..first + rows, &mut y);
            }
        });
    }

    /// Gradients side by side in `[B, N, 3D]`.
    pub(crate) fn grad_packed<T: Number>(&self, saved: &Saved<'_, T>, grads: &mut [T]) {
        if !grads.is_empty() {
            self.grad(saved, self.cut_heads(grads, self.keys));
        }
    }

    /// Gradients of the queries in `[B, Q, D]`, of keys and values side by side in `[B, K, 2D]`.
    pub(crate) fn grad_split<T: Number>(
        &self,
        saved: &Saved<'_, T>,
        query_grads: &mut [T],
        key_value_grads: &mut [T],
    ) {
        if query_grads.is_empty() || key_value_grads.is_empty() {
            query_grads.fill(T::from_f64(0.0));
            key_value_grads.fill(T::from_f64(0.0));
            return;
        }
        let [dq] = self.cut_heads(query_grads, self.queries);
        let [dk, dv] = self.cut_heads(key_value_grads, self.keys);
        self.grad(saved, [dq, dk, dv]);
    }

    /// Gradients of queries, keys and values, in heads of all images one after the other.
    fn grad<T: Number>(&self, saved: &Saved<'_, T>, [dq, dk, dv]: [Vec<MatrixMut<'_, T>>; 3]) {
        let heads = dq.into_par_iter().zip(dk).zip(dv).enumerate();
        heads.for_each(|(i, ((dq, dk), dv))| {
            self.grad_head(saved, [i / self.heads, i % self.heads], [dq, dk, dv]);
        });
    }

    /// The gradients of one head of one image.
    fn grad_head<T: Number>(
        &self,
        saved: &Saved<'_, T>,
        at: [usize; 2],
        grads: [MatrixMut<'_, T>; 3],
    ) {
        let (d, rows) = (self.head_width, self.queries.min(BLOCK));
        let [image, head] = at;
        let [by_key, by_head] = self.padded();
        let [q, k, v] = saved.inputs;
        let (of_queries, of_keys) = (matrix(self.queries, by_head), matrix(self.keys, by_head));
        let (columns, scores) = (matrix(d, by_key), matrix(rows, by_key));
        let mask = self.dropout.map_or(0, |_| rows * self.keys);
        let sizes = [
            of_queries, of_keys, columns, columns, of_queries, of_queries, of_keys, of_keys,
            scores, scores, mask,
        ];
        with_parts(sizes, |parts| {
            let [
                q_head,
                k_head,
                k_columns,
                v_columns,
                dy_head,
                dq,
                dk,
                dv,
                weights,
                dweights,
                mask,
            ] = parts;
            let one = T::Acc::of(1.0);
            self.load(q, 0, at, self.scale(), (&mut *q_head, by_head));
            self.load(k, 1, at, one, (&mut *k_head, by_head));
            self.load_transposed(k, 1, at, (&mut *k_columns, by_key));
            self.load_transposed(v, 2, at, (&mut *v_columns, by_key));
            let row_of = |values, row: usize| -> &[T] {
                let values: &[T] = values;
                &values[(image * self.queries + row) * self.width() + head * d..][..d]
            };
            for (i, to) in dy_head.chunks_mut(by_head).take(self.queries).enumerate() {
                scale_row(row_of(saved.dy, i), one, &mut to[..d]);
            }
            for first in (0..self.queries).step_by(BLOCK) {
                let (rows, start) = (BLOCK.min(self.queries - first), first * by_head);
                let q_block = Small { values: &q_head[start..], strides: [by_head, 1] };
                let dy_block = Small { values: &dy_head[start..], strides: [by_head, 1] };
                let columns = |values| Small { values, strides: [by_key, 1] };
                let extents = [rows, d, self.keys];
                small_product(q_block, columns(k_columns), extents, (weights, by_key), false);
                small_product(dy_block, columns(v_columns), extents, (dweights, by_key), false);
                let mask = &mut mask[..self.dropout.map_or(0, |_| rows * self.keys)];
                self.factors(at, first, mask);
                for i in 0..rows {
                    let row_number = (image * self.heads + head) * self.queries + first + i;
                    let weights = &mut weights[i * by_key..][..by_key];
                    masked_softmax_again(weights, self.valid(image), saved.log_sums[row_number]);
                    let (y, dy) = (row_of(saved.y, first + i), row_of(saved.dy, first + i));
                    let mask = mask.get(i * self.keys..).map_or(&[][..], |m| m);
                    let dweights = &mut dweights[i * by_key..][..self.keys];
                    score_grad::<T>(dweights, weights, mask, y, dy);
                }
                let turned = |values| Small { values, strides: [1, by_key] };
                let extents = [self.keys, rows, d];
                small_product(turned(weights), dy_block, extents, (dv, by_head), first > 0);
                small_product(turned(dweights), q_block, extents, (dk, by_head), first > 0);
                let k_head = Small { values: k_head, strides: [by_head, 1] };
                let to = (&mut dq[start..], by_head);
                small_product(columns(dweights), k_head, [rows, self.keys, d], to, false);
            }
            // The scale was folded into the queries; the gradient for them still lacks it.
            scale_all(dq, self.scale());
            for (from, mut to) in [&*dq, dk, dv].into_iter().zip(grads) {
                store_rows((from, by_head), 0..to.rows(), &mut to);
            }
        });
    }
}

/// Numbers that a matrix takes in a thread's buffers, with what [`small_product`] reads past it.
fn matrix(rows: usize, stride: usize) -> usize {
    (rows + SLACK_ROWS) * stride + SLACK_COLUMNS
}

simd! {
    fn scale_row<T: Number>(from: &[T], factor: T::Acc, to: &mut [T::Acc]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.widen() * factor;
        }
    }
}

simd! {
    fn scale_all<A: Real>(values: &mut [A], factor: A) {
        for value in values {
            *value = *value * factor;
        }
    }
}

simd! {
    /// Writes rows of up to `width` numbers down columns: number k of row i to `k·stride + i`. All columns are written;
    /// those of rows that are missing get any content.
    fn turn_rows<T: Number>(
        rows: &[&[T]; SIDE],
        width: usize,
        to: &mut [T::Acc],
        stride: usize,
    ) {
        let mut square = [[T::Acc::of(0.0); SIDE]; SIDE];
        for first in (0..width).step_by(SIDE) {
            for (square, row) in square.iter_mut().zip(rows) {
                let row = row.get(first..).unwrap_or(&[]);
                for (to, from) in square.iter_mut().zip(row) {
                    *to = from.widen();
                }
            }
            T::Acc::transpose(&mut square);
            for (k, square) in (first..width).zip(&square) {
                to[k * stride..][..SIDE].copy_from_slice(square);
            }
        }
    }
}

simd! {
    fn multiply_row<A: Real>(row: &mut [A], factors: &[A]) {
        for (value, &factor) in row.iter_mut().zip(factors) {
            *value = *value * factor;
        }
    }
}

simd! {
    /// dS = P ∘ (mask ∘ dP − Σ dy·y) over dP, where the sum over keys of P·mask·dP is the dot product of the result
    /// with its gradient; and P ∘ mask over P.
    fn score_grad<T: Number>(
        dweights: &mut [T::Acc],
        weights: &mut [T::Acc],
        mask: &[T::Acc],
        y: &[T],
        dy: &[T],
    ) {
        let dot = sum_of([y, dy], |[y, dy]| y * dy);
        let pairs = dweights.iter_mut().zip(weights);
        if mask.is_empty() {
            for (dweight, weight) in pairs {
                *dweight = *weight * (*dweight - dot);
            }
        } else {
            for ((dweight, weight), &factor) in pairs.zip(mask) {
                *dweight = *weight * (*dweight * factor - dot);
                *weight = *weight * factor;
            }
        }
    }
}

simd! {
    /// Writes rows that lie `from.1` apart to those of a head.
    fn store_rows<T: Number>(
        from: (&[T::Acc], usize),
        rows: Range<usize>,
        to: &mut MatrixMut<'_, T>,
    ) {
        for (row, from) in rows.zip(from.0.chunks_exact(from.1)) {
            for (to, &value) in to.row(row).iter_mut().zip(from) {
                *to = T::narrow(value);
            }
        }
    }
}

/// A thread's buffer cut in parts of the given sizes.
fn with_parts<A: Real, const N: usize>(sizes: [usize; N], work: impl FnOnce([&mut [A]; N])) {
    with_scratch(sizes.iter().sum(), |mut rest: &mut [A]| {
        work(sizes.map(|size| {
            let (part, others) = std::mem::take(&mut rest).split_at_mut(size);
            rest = others;
            part
        }));
    });
}
