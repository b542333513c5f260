//! Attention, head by head, in blocks of query rows: the scores of a block stay in cache, and
//! memory is linear in the number of tokens. The gradient computes the weights again (Dao et al. 2022, section 3.1).
//! How operands of the products are made is in `words`.

mod words;

use std::ops::Range;

use num_traits::Float;

use super::CpuBackend;
use super::activation::dropout_factors;
use super::arithmetic::multiply_by;
use super::dispatch::with_float;
use super::memory::{read, write};
use super::norms::{masked_softmax, masked_softmax_again};
use super::number::{Number, Real, sum_of};
use super::parallel::try_each;
use super::product::{MatrixMut, SLACK_COLUMNS, SLACK_ROWS, Small, cut};
use super::scratch::with_scratch;
use crate::backend::{Attention, AttentionGrads, AttentionInputs, Attentions};
use crate::simd;
use crate::{Dropout, Result, Tensor};
use words::Words;

/// Query rows whose scores are held at a time: an even number, so that a block begins with a whole pair.
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
        let of = |t: &Tensor| [t.strides()[0], t.strides()[1]];
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

    /// Words from one row of keys or scores, of a head's numbers, and of a head's words to the next in a thread's
    /// buffers: whole registers.
    fn padded<T: Number>(&self, words: Words<T>) -> [usize; 3] {
        let widths = [self.keys, self.head_width, words.count(self.head_width)];
        widths.map(|width| width.next_multiple_of(16))
    }

    /// `y = dropout(softmax(q·kᵀ/√d))·v`, and the logarithms of the denominators.
    pub(crate) fn forward<T: Number>(
        &self,
        [q, k, v]: [&[T]; 3],
        y: &mut [T],
        log_sums: &mut [T::Acc],
    ) -> Result<()> {
        if y.is_empty() {
            return Ok(());
        }
        if self.keys == 0 {
            y.fill(T::from_f64(0.0));
            log_sums.fill(T::Acc::neg_infinity());
            return Ok(());
        }
        let [heads_of_y] = self.cut_heads(y, self.queries);
        let heads = heads_of_y.into_iter().zip(log_sums.chunks_mut(self.queries));
        try_each(heads.enumerate(), |(i, (y, log_sums))| {
            self.forward_head([q, k, v], [i / self.heads, i % self.heads], y, log_sums)
        })
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
    ) -> Result<()> {
        let (d, rows) = (self.head_width, self.queries.min(BLOCK));
        let words = Words::<T>::new(d);
        let [by_key, by_head, by_word] = self.padded(words);
        let sizes = [
            matrix(self.queries, by_word),
            matrix(words.count(d), by_key),
            matrix(words.count(self.keys), by_head),
            matrix(rows, by_key),
            matrix(rows, by_head),
            self.dropout.map_or(0, |_| rows * self.keys),
        ];
        with_parts(sizes, |[q_head, k_columns, v_head, scores, out, factors]| {
            words.along(self.rows(q, 0, at), (&mut *q_head, by_word));
            words.turned(self.rows(k, 1, at), (&mut *k_columns, by_key));
            words.across(self.rows(v, 2, at), (&mut *v_head, by_head));
            for first in (0..self.queries).step_by(BLOCK) {
                let rows = BLOCK.min(self.queries - first);
                let (queries, keys) =
                    (rows_of(q_head, first, by_word), rows_of(k_columns, 0, by_key));
                let to = (&mut *scores, by_key);
                words.multiply(queries, keys, [rows, d, self.keys], to, false);
                for (i, row) in scores.chunks_exact_mut(by_key).take(rows).enumerate() {
                    log_sums[first + i] = masked_softmax(row, self.scale(), self.valid(at[0]));
                }
                let factors = &mut factors[..self.dropout.map_or(0, |_| rows * self.keys)];
                self.factors(at, first, factors);
                let masks = factors.chunks_exact(self.keys);
                for (row, mask) in scores.chunks_exact_mut(by_key).zip(masks) {
                    multiply_by(row, mask);
                }
                words.round_along(&mut scores[..rows * by_key], self.keys, by_key);
                let (weights, values) = (rows_of(scores, 0, by_key), rows_of(v_head, 0, by_head));
                let to = (&mut *out, by_head);
                words.multiply(weights, values, [rows, self.keys, d], to, false);
                store_rows((out, by_head), first..first + rows, &mut y);
            }
        })
    }

    /// Gradients side by side in `[B, N, 3D]`.
    pub(crate) fn grad_packed<T: Number>(
        &self,
        saved: &Saved<'_, T>,
        grads: &mut [T],
    ) -> Result<()> {
        if grads.is_empty() {
            return Ok(());
        }
        self.grad(saved, self.cut_heads(grads, self.keys))
    }

    /// Gradients of the queries in `[B, Q, D]`, of keys and values side by side in `[B, K, 2D]`.
    pub(crate) fn grad_split<T: Number>(
        &self,
        saved: &Saved<'_, T>,
        query_grads: &mut [T],
        key_value_grads: &mut [T],
    ) -> Result<()> {
        if query_grads.is_empty() || key_value_grads.is_empty() {
            query_grads.fill(T::from_f64(0.0));
            key_value_grads.fill(T::from_f64(0.0));
            return Ok(());
        }
        let [dq] = self.cut_heads(query_grads, self.queries);
        let [dk, dv] = self.cut_heads(key_value_grads, self.keys);
        self.grad(saved, [dq, dk, dv])
    }

    /// Gradients of queries, keys and values, in heads of all images one after the other.
    fn grad<T: Number>(
        &self,
        saved: &Saved<'_, T>,
        [dq, dk, dv]: [Vec<MatrixMut<'_, T>>; 3],
    ) -> Result<()> {
        try_each(dq.into_iter().zip(dk).zip(dv).enumerate(), |(i, ((dq, dk), dv))| {
            self.grad_head(saved, [i / self.heads, i % self.heads], [dq, dk, dv])
        })
    }

    /// The gradients of one head of one image.
    fn grad_head<T: Number>(
        &self,
        saved: &Saved<'_, T>,
        at: [usize; 2],
        grads: [MatrixMut<'_, T>; 3],
    ) -> Result<()> {
        let (d, rows) = (self.head_width, self.queries.min(BLOCK));
        let [image, head] = at;
        let words = Words::<T>::new(d);
        let [by_key, by_head, by_word] = self.padded(words);
        let [q, k, v] = saved.inputs;
        let (columns, scores) = (matrix(words.count(d), by_key), matrix(rows, by_key));
        let across = |tokens| matrix(words.count(tokens), by_head);
        let mask = self.dropout.map_or(0, |_| rows * self.keys);
        // Where words are numbers, the inner axis makes no difference.
        let in_pairs = |size: usize| if words.pairs() { size } else { 0 };
        let sizes = [
            matrix(self.queries, by_word),
            matrix(self.queries, by_word),
            in_pairs(across(self.queries)),
            in_pairs(across(self.queries)),
            columns,
            columns,
            across(self.keys),
            matrix(self.queries, by_head),
            matrix(self.keys, by_head),
            matrix(self.keys, by_head),
            scores,
            scores,
            in_pairs(scores),
            mask,
        ];
        with_parts(sizes, |parts| {
            let [
                q_along,
                dy_along,
                q_across,
                dy_across,
                k_columns,
                v_columns,
                k_across,
                dq,
                dk,
                dv,
                weights,
                dweights,
                rounded,
                mask,
            ] = parts;
            let dense_row = |values, row: usize| -> &[T] {
                let values: &[T] = values;
                &values[(image * self.queries + row) * self.width() + head * d..][..d]
            };
            let dy_rows = || (0..self.queries).map(|row| dense_row(saved.dy, row));
            words.along(self.rows(q, 0, at), (&mut *q_along, by_word));
            words.along(dy_rows(), (&mut *dy_along, by_word));
            words.turned(self.rows(k, 1, at), (&mut *k_columns, by_key));
            words.turned(self.rows(v, 2, at), (&mut *v_columns, by_key));
            words.across(self.rows(k, 1, at), (&mut *k_across, by_head));
            let [q_along, dy_along] = [&*q_along, &*dy_along];
            let [q_across, dy_across] = match words.pairs() {
                true => {
                    words.across(self.rows(q, 0, at), (&mut *q_across, by_head));
                    words.across(dy_rows(), (&mut *dy_across, by_head));
                    [&*q_across, &*dy_across]
                }
                false => [q_along, dy_along],
            };
            for first in (0..self.queries).step_by(BLOCK) {
                let rows = BLOCK.min(self.queries - first);
                let extents = [rows, d, self.keys];
                for (vectors, columns, to) in
                    [(q_along, &*k_columns, &mut *weights), (dy_along, &*v_columns, &mut *dweights)]
                {
                    let (vectors, columns) =
                        (rows_of(vectors, first, by_word), rows_of(columns, 0, by_key));
                    words.multiply(vectors, columns, extents, (to, by_key), false);
                }
                let mask = &mut mask[..self.dropout.map_or(0, |_| rows * self.keys)];
                self.factors(at, first, mask);
                for i in 0..rows {
                    let row_number = (image * self.heads + head) * self.queries + first + i;
                    let log_sum = saved.log_sums[row_number];
                    let weights = &mut weights[i * by_key..][..by_key];
                    masked_softmax_again(weights, self.scale(), self.valid(image), log_sum);
                    let y_and_dy = [saved.y, saved.dy].map(|values| dense_row(values, first + i));
                    let mask = mask.get(i * self.keys..).map_or(&[][..], |m| m);
                    let dweights = &mut dweights[i * by_key..][..self.keys];
                    score_grad::<T>(dweights, weights, mask, y_and_dy, self.scale());
                }
                let extents = [self.keys, rows, d];
                for (scores, vectors, to) in
                    [(&*weights, dy_across, &mut *dv), (&*dweights, q_across, &mut *dk)]
                {
                    let scores = words.round_across((scores, by_key), [rows, self.keys], rounded);
                    let turned = Small { values: scores, strides: [1, by_key] };
                    let vectors = rows_of(vectors, words.count(first), by_head);
                    words.multiply(turned, vectors, extents, (to, by_head), first > 0);
                }
                words.round_along(&mut dweights[..rows * by_key], self.keys, by_key);
                let (scores, keys) = (rows_of(dweights, 0, by_key), rows_of(k_across, 0, by_head));
                let to = (&mut dq[first * by_head..], by_head);
                words.multiply(scores, keys, [rows, self.keys, d], to, false);
            }
            for (from, mut to) in [&*dq, dk, dv].into_iter().zip(grads) {
                store_rows((from, by_head), 0..to.rows(), &mut to);
            }
        })
    }
}

/// The rows of a matrix from one on, `stride` words apart.
fn rows_of<A>(values: &[A], first: usize, stride: usize) -> Small<'_, A> {
    Small { values: &values[first * stride..], strides: [stride, 1] }
}

/// Words that a matrix takes in a thread's buffers, with what [`Words::multiply`] reads past it.
fn matrix(rows: usize, stride: usize) -> usize {
    (rows + SLACK_ROWS) * stride + SLACK_COLUMNS
}

simd! {
    /// dS = P ∘ (mask ∘ dP − Σ dy·y)·scale over dP, where the sum over keys of P·mask·dP is the dot product of the
    /// result with its gradient; and P ∘ mask over P.
    fn score_grad<T: Number>(
        dweights: &mut [T::Acc],
        weights: &mut [T::Acc],
        mask: &[T::Acc],
        y_and_dy: [&[T]; 2],
        scale: T::Acc,
    ) {
        let dot = sum_of(y_and_dy, |[y, dy]| y * dy);
        let pairs = dweights.iter_mut().zip(weights);
        if mask.is_empty() {
            for (dweight, weight) in pairs {
                *dweight = *weight * (*dweight - dot) * scale;
            }
        } else {
            for ((dweight, weight), &factor) in pairs.zip(mask) {
                *dweight = *weight * (*dweight * factor - dot) * scale;
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
fn with_parts<A: Real, const N: usize>(
    sizes: [usize; N],
    work: impl FnOnce([&mut [A]; N]),
) -> Result<()> {
    with_scratch(sizes.iter().sum(), |mut rest: &mut [A]| {
        work(sizes.map(|size| {
            let (part, others) = std::mem::take(&mut rest).split_at_mut(size);
            rest = others;
            part
        }));
        Ok(())
    })
}

impl Attentions for CpuBackend {
    fn attention(
        &self,
        inputs: &AttentionInputs<'_>,
        attention: &Attention<'_>,
        y: &Tensor,
        log_sums: &Tensor,
    ) -> Result<()> {
        with_float!(y.dtype(), T => {
            let (q, k, v) = (read::<T>(inputs.query), read(inputs.key), read(inputs.value));
            let lens = attention.valid_lens.map(read::<i64>);
            let plan = Plan::new(inputs, attention, lens.as_deref());
            plan.forward::<T>([&q, &k, &v], &mut write(y), &mut write(log_sums))
        })
    }

    fn attention_grad(
        &self,
        inputs: &AttentionInputs<'_>,
        attention: &Attention<'_>,
        y: &Tensor,
        log_sums: &Tensor,
        dy: &Tensor,
        grads: &AttentionGrads<'_>,
    ) -> Result<()> {
        with_float!(y.dtype(), T => {
            let (q, k, v) = (read::<T>(inputs.query), read(inputs.key), read(inputs.value));
            let lens = attention.valid_lens.map(read::<i64>);
            let plan = Plan::new(inputs, attention, lens.as_deref());
            let saved = Saved {
                inputs: [&q, &k, &v],
                y: &read(y),
                log_sums: &read(log_sums),
                dy: &read(dy),
            };
            match grads {
                AttentionGrads::Packed(qkv) => plan.grad_packed::<T>(&saved, &mut write(qkv)),
                AttentionGrads::Split(q, kv) => {
                    plan.grad_split::<T>(&saved, &mut write(q), &mut write(kv))
                }
            }
        })
    }
}
