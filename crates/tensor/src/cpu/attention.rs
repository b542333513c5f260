//! Attention, image by image and head by head, in blocks of query rows: the scores of a block stay in cache, and
//! memory is linear in the number of tokens. The gradient computes the weights again (Dao et al. 2022, section 3.1).

use num_traits::{Float, Zero};
use rayon::prelude::*;

use super::activation::dropout_row;
use super::gemm::{Matrix, product, with_scratch};
use super::number::{Number, Real, sum_of};
use super::simd::simd;
use super::softmax::{softmax_row, softmax_row_again};
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

/// Gradients of one image: where each kind starts in its slice, and the stride over tokens.
struct GradLayout {
    starts: [usize; 3],
    strides: [usize; 3],
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

    /// Copies one head of the queries, keys or values of an image into a dense matrix, times `factor`.
    fn load<T: Number>(
        &self,
        from: &[T],
        kind: usize,
        [image, head]: [usize; 2],
        factor: T::Acc,
        to: &mut [T::Acc],
    ) {
        let [over_images, over_tokens] = self.strides[kind];
        let start = image * over_images + head * self.head_width;
        for (token, to) in to.chunks_exact_mut(self.head_width).enumerate() {
            scale_row(&from[start + token * over_tokens..][..self.head_width], factor, to);
        }
    }

    /// Drops attention weights of query rows `first..` of a head.
    fn drop<A: Real>(&self, weights: &mut [A], [image, head]: [usize; 2], first: usize) {
        if let Some(dropout) = &self.dropout {
            let all = self.queries.max(self.keys);
            for (i, row) in weights.chunks_exact_mut(self.keys).enumerate() {
                let row_number = (image * self.heads + head) * all + first + i;
                dropout_row(row, dropout, (row_number * self.keys) as u64);
            }
        }
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
        let (d, rows) = (self.head_width, self.queries.min(BLOCK));
        let images = y
            .par_chunks_mut(self.queries * self.width())
            .zip(log_sums.par_chunks_mut(self.heads * self.queries));
        images.enumerate().for_each(|(image, (y, log_sums))| {
            let sizes =
                [self.queries * d, self.keys * d, self.keys * d, rows * self.keys, rows * d];
            with_parts(sizes, |[q_head, k_head, v_head, scores, out]| {
                for head in 0..self.heads {
                    let at = [image, head];
                    self.load(q, 0, at, self.scale(), q_head);
                    self.load(k, 1, at, T::Acc::of(1.0), k_head);
                    self.load(v, 2, at, T::Acc::of(1.0), v_head);
                    let k_head = Matrix::row_major(k_head, self.keys, d);
                    let v_head = Matrix::row_major(v_head, self.keys, d);
                    for (block, q_block) in q_head.chunks(BLOCK * d).enumerate() {
                        let (first, rows) = (block * BLOCK, q_block.len() / d);
                        let scores = &mut scores[..rows * self.keys];
                        let q_block = Matrix::row_major(q_block, rows, d);
                        product(q_block, k_head.transposed(), scores, false);
                        for (i, row) in scores.chunks_exact_mut(self.keys).enumerate() {
                            let (counted, masked) = row.split_at_mut(self.valid(image));
                            log_sums[head * self.queries + first + i] = softmax_row(counted);
                            masked.fill(T::Acc::zero());
                        }
                        self.drop(scores, at, first);
                        let out = &mut out[..rows * d];
                        let weights = Matrix::row_major(scores, rows, self.keys);
                        product(weights, v_head, out, false);
                        store_head(out, &mut y[first * self.width() + head * d..], self.width(), d);
                    }
                }
            });
        });
    }

    /// Gradients side by side in `[B, N, 3D]`.
    pub(crate) fn grad_packed<T: Number>(&self, saved: &Saved<'_, T>, grads: &mut [T]) {
        let width = self.width();
        if grads.is_empty() {
            return;
        }
        let layout = GradLayout { starts: [0, width, 2 * width], strides: [3 * width; 3] };
        grads.par_chunks_mut(self.keys * 3 * width).enumerate().for_each(|(image, grads)| {
            self.grad_image(saved, image, &layout, |kind, write| {
                write(&mut grads[layout.starts[kind]..])
            });
        });
    }

    /// Gradients of the queries in `[B, Q, D]`, of keys and values side by side in `[B, K, 2D]`.
    pub(crate) fn grad_split<T: Number>(
        &self,
        saved: &Saved<'_, T>,
        query_grads: &mut [T],
        key_value_grads: &mut [T],
    ) {
        let width = self.width();
        if query_grads.is_empty() || key_value_grads.is_empty() {
            query_grads.fill(T::from_f64(0.0));
            key_value_grads.fill(T::from_f64(0.0));
            return;
        }
        let layout = GradLayout { starts: [0, 0, width], strides: [width, 2 * width, 2 * width] };
        query_grads
            .par_chunks_mut(self.queries * width)
            .zip(key_value_grads.par_chunks_mut(self.keys * 2 * width))
            .enumerate()
            .for_each(|(image, (dq, dkv))| {
                self.grad_image(saved, image, &layout, |kind, write| {
                    let of_kind = if kind == 0 { &mut *dq } else { &mut *dkv };
                    write(&mut of_kind[layout.starts[kind]..]);
                });
            });
    }

    /// The gradients of one image; `write_to` gives the slice that a kind of gradient starts in.
    fn grad_image<T: Number>(
        &self,
        saved: &Saved<'_, T>,
        image: usize,
        layout: &GradLayout,
        mut write_to: impl FnMut(usize, &mut dyn FnMut(&mut [T])),
    ) {
        let (d, rows) = (self.head_width, self.queries.min(BLOCK));
        let [q, k, v] = saved.inputs;
        let (all_q, all_k, scores) = (self.queries * d, self.keys * d, rows * self.keys);
        let sizes = [all_q, all_k, all_k, all_q, all_q, all_k, all_k, scores, scores, all_q];
        with_parts(sizes, |parts| {
            let [q_head, k_head, v_head, dy_head, dq, dk, dv, weights, dweights, y_head] = parts;
            for head in 0..self.heads {
                let (at, one) = ([image, head], T::Acc::of(1.0));
                self.load(q, 0, at, self.scale(), q_head);
                self.load(k, 1, at, one, k_head);
                self.load(v, 2, at, one, v_head);
                for (from, to) in [(saved.y, &mut *y_head), (saved.dy, &mut *dy_head)] {
                    let start = image * self.queries * self.width() + head * d;
                    for (i, to) in to.chunks_exact_mut(d).enumerate() {
                        scale_row(&from[start + i * self.width()..][..d], one, to);
                    }
                }
                dk.fill(T::Acc::zero());
                dv.fill(T::Acc::zero());
                let k_head = Matrix::row_major(k_head, self.keys, d);
                let v_head = Matrix::row_major(v_head, self.keys, d);
                for first in (0..self.queries).step_by(BLOCK) {
                    let rows = BLOCK.min(self.queries - first);
                    let (span, size) = (first * d..(first + rows) * d, rows * self.keys);
                    let (weights, dweights) = (&mut weights[..size], &mut dweights[..size]);
                    let q_block = Matrix::row_major(&q_head[span.clone()], rows, d);
                    let dy_block = Matrix::row_major(&dy_head[span.clone()], rows, d);
                    product(q_block, k_head.transposed(), weights, false);
                    for (i, row) in weights.chunks_exact_mut(self.keys).enumerate() {
                        let row_number = (image * self.heads + head) * self.queries + first + i;
                        let (counted, masked) = row.split_at_mut(self.valid(image));
                        softmax_row_again(counted, saved.log_sums[row_number]);
                        masked.fill(T::Acc::zero());
                    }
                    // dS = P ∘ (mask ∘ dP − Σ dy·y), where the sum over keys of P·mask·dP is the dot product of the
                    // result with its gradient.
                    product(dy_block, v_head.transposed(), dweights, false);
                    self.drop(dweights, at, first);
                    for (i, (dweights, weights)) in dweights
                        .chunks_exact_mut(self.keys)
                        .zip(weights.chunks_exact(self.keys))
                        .enumerate()
                    {
                        let at = (first + i) * d;
                        let (y, dy) = (&y_head[at..at + d], &dy_head[at..at + d]);
                        score_grad::<T::Acc>(dweights, weights, y, dy);
                    }
                    self.drop(weights, at, first);
                    let weights = Matrix::row_major(weights, rows, self.keys);
                    product(weights.transposed(), dy_block, dv, true);
                    let dscores = Matrix::row_major(dweights, rows, self.keys);
                    product(dscores, k_head, &mut dq[span], false);
                    product(dscores.transposed(), q_block, dk, true);
                }
                // The scale was folded into the queries; the gradient for them still lacks it.
                dq.iter_mut().for_each(|g| *g = *g * self.scale());
                for (kind, grad) in [&*dq, dk, dv].into_iter().enumerate() {
                    let stride = layout.strides[kind];
                    write_to(kind, &mut |to| store_head(grad, &mut to[head * d..], stride, d));
                }
            }
        });
    }
}

simd! {
    fn scale_row<T: Number>(from: &[T], factor: T::Acc, to: &mut [T::Acc]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.widen() * factor;
        }
    }
}

simd! {
    fn score_grad<A: Real>(dweights: &mut [A], weights: &[A], y: &[A], dy: &[A]) {
        let dot = sum_of(y.len(), |i| y[i] * dy[i]);
        for (dweight, &weight) in dweights.iter_mut().zip(weights) {
            *dweight = weight * (*dweight - dot);
        }
    }
}

/// Writes a dense head `[tokens, d]` into rows that lie `stride` apart.
fn store_head<T: Number>(from: &[T::Acc], to: &mut [T], stride: usize, d: usize) {
    for (token, from) in from.chunks_exact(d).enumerate() {
        for (to, &value) in to[token * stride..][..d].iter_mut().zip(from) {
            *to = T::narrow(value);
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
