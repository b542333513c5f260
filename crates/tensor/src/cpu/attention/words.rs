//! The operands of attention's products as words: single numbers, or pairs of `bf16` where the machine multiplies
//! such. A pair is of neighbours on the inner axis, so what is paired depends on the product. For pairs, attention
//! weights and the gradients of scores are rounded to `bf16`, as they are for tensor cores.

use std::marker::PhantomData;

use super::super::number::{Number, Real};
use super::super::product::{MicroKernels, Small, pack_along, small_product, turn_rows};
use super::super::transpose::SIDE;
use crate::simd;

/// Heads narrower than this are multiplied in the arithmetic type: pairs would leave registers empty.
const PAIRS_FROM: usize = 16;

/// How one head's operands are made and multiplied.
#[derive(Clone, Copy)]
pub(super) struct Words<T: Number> {
    kernels: &'static MicroKernels<T::Acc>,
    of: PhantomData<T>,
}

impl<T: Number> Words<T> {
    /// For heads of this width.
    pub(super) fn new(head_width: usize) -> Self {
        let kernels = if head_width < PAIRS_FROM { T::Acc::kernels() } else { T::kernels() };
        Self { kernels, of: PhantomData }
    }

    /// Whether a word is a pair.
    pub(super) fn pairs(self) -> bool {
        self.kernels.pairs()
    }

    /// The number of words that hold `values` values of the inner axis.
    pub(super) fn count(self, values: usize) -> usize {
        if self.pairs() { values.div_ceil(2) } else { values }
    }

    /// `out = a·b`, or `out += a·b`; see [`small_product`]. The inner extent is in values.
    pub(super) fn multiply(
        self,
        a: Small<'_, T::Acc>,
        b: Small<'_, T::Acc>,
        [m, k, n]: [usize; 3],
        out: (&mut [T::Acc], usize),
        add: bool,
    ) {
        small_product(self.kernels, a, b, [m, self.count(k), n], out, add);
    }

    /// Rows of tokens whose columns are the inner axis: row by row, `stride` words apart.
    pub(super) fn along<'t>(
        self,
        tokens: impl Iterator<Item = &'t [T]>,
        (to, stride): (&mut [T::Acc], usize),
    ) where
        T: 't,
    {
        for (token, to) in tokens.zip(to.chunks_mut(stride)) {
            pack_along::<T>(token, self.pairs(), to);
        }
    }

    /// The transpose of [`Words::along`]: tokens become columns, of which `stride` are written.
    pub(super) fn turned<'t>(
        self,
        mut tokens: impl Iterator<Item = &'t [T]>,
        (to, stride): (&mut [T::Acc], usize),
    ) where
        T: 't,
    {
        for token in (0..stride).step_by(SIDE) {
            let tokens: [&[T]; SIDE] = std::array::from_fn(|_| tokens.next().unwrap_or(&[]));
            turn_rows(&tokens, self.pairs(), &mut to[token..], stride);
        }
    }

    /// Rows of tokens that are the inner axis themselves, `stride` words apart.
    pub(super) fn across<'t>(
        self,
        mut tokens: impl Iterator<Item = &'t [T]>,
        (to, stride): (&mut [T::Acc], usize),
    ) where
        T: 't,
    {
        if !self.pairs() {
            return self.along(tokens, (to, stride));
        }
        for to in to.chunks_mut(stride) {
            let Some(first) = tokens.next() else { return };
            across_rows::<T>([first, tokens.next().unwrap_or(&[])], to);
        }
    }

    /// Makes words of rows of `columns` numbers, which are the inner axis, in place.
    pub(super) fn round_along(self, rows: &mut [T::Acc], columns: usize, stride: usize) {
        if self.pairs() {
            for row in rows.chunks_exact_mut(stride) {
                round_row::<T>(row, columns);
            }
        }
    }

    /// As [`Words::round_along`] for rows that are the inner axis themselves, into `to`; gives where the words are,
    /// and what [`Words::multiply`] reads past them.
    pub(super) fn round_across<'w>(
        self,
        (values, stride): (&'w [T::Acc], usize),
        [rows, columns]: [usize; 2],
        to: &'w mut [T::Acc],
    ) -> &'w [T::Acc] {
        if !self.pairs() {
            return values;
        }
        let mut from = values.chunks_exact(stride).take(rows).map(|row| &row[..columns]);
        for to in to.chunks_exact_mut(stride) {
            let Some(first) = from.next() else { break };
            round_rows::<T>([first, from.next().unwrap_or(&[])], to);
        }
        to
    }
}

simd! {
    /// Pairs of two tokens' numbers, the second of which may be missing.
    fn across_rows<T: Number>(tokens: [&[T]; 2], to: &mut [T::Acc]) {
        let [first, second] = tokens;
        if second.is_empty() {
            for (to, &first) in to.iter_mut().zip(first) {
                *to = T::pair(first, T::default());
            }
        } else {
            for ((to, &first), &second) in to.iter_mut().zip(first).zip(second) {
                *to = T::pair(first, second);
            }
        }
    }

    /// Pairs of the first `columns` numbers of a row, in their place.
    fn round_row<T: Number>(row: &mut [T::Acc], columns: usize) {
        const NUMBERS: usize = 2 * SIDE;
        for start in (0..columns).step_by(NUMBERS) {
            // By value, so that reading and writing do not overlap.
            let (mut numbers, mut words) = ([T::Acc::of(0.0); NUMBERS], [T::Acc::of(0.0); SIDE]);
            let count = NUMBERS.min(columns - start);
            numbers[..count].copy_from_slice(&row[start..start + count]);
            for (word, pair) in words.iter_mut().zip(numbers.as_chunks::<2>().0) {
                *word = T::pair(T::narrow(pair[0]), T::narrow(pair[1]));
            }
            row[start / 2..][..SIDE].copy_from_slice(&words);
        }
    }

    /// Pairs of two rows' numbers, the second of which may be missing.
    fn round_rows<T: Number>(rows: [&[T::Acc]; 2], to: &mut [T::Acc]) {
        let [first, second] = rows;
        if second.is_empty() {
            for (to, &first) in to.iter_mut().zip(first) {
                *to = T::pair(T::narrow(first), T::default());
            }
        } else {
            for ((to, &first), &second) in to.iter_mut().zip(first).zip(second) {
                *to = T::pair(T::narrow(first), T::narrow(second));
            }
        }
    }
}
