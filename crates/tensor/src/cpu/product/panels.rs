//! Packing: operands copied into the order in which a micro-kernel reads them, widened to words on the way.

use std::ops::Range;

use num_traits::Zero;

use super::super::number::Number;
use super::super::transpose::{SIDE, transpose};
use super::matrix::Matrix;
use super::micro_kernel::MicroKernel;
use crate::simd;
use crate::simd::Near;

/// Words of the inner axis that are multiplied at a time: a panel of either operand stays in the first-level cache.
pub(super) const DEPTH: usize = 256;

/// Words that are written at a time, and the room between panels for what that writes too much.
const RUN: usize = SIDE;

/// Words from one packed row of the left operand to the next: not a multiple of the cache's size over its ways, so
/// that the rows of a tile do not compete for the same lines.
const ROW_STRIDE: usize = DEPTH + RUN;

/// How many rows ahead of the one that is copied the caches are told to fetch. Rows are too far apart for the machine
/// to foresee; this makes the gradient of a weight a fifth faster.
const AHEAD: usize = 16;

/// Words that hold `values` values of the inner axis.
pub(super) fn words<A>(kernel: &MicroKernel<A>, values: usize) -> usize {
    if kernel.pairs { values.div_ceil(2) } else { values }
}

/// Words that [`left`] needs for that many rows.
pub(super) fn left_len<A>(kernel: &MicroKernel<A>, rows: usize) -> usize {
    rows.next_multiple_of(kernel.rows) * ROW_STRIDE + RUN
}

/// How a packed part of the left operand lies: tile t starts at `t·tile_stride`.
#[derive(Clone, Copy)]
pub(super) struct Left {
    pub(super) tile_stride: usize,
    pub(super) strides: [usize; 2],
}

/// How [`left`] packs such a matrix.
pub(super) fn left_layout<A, T>(kernel: &MicroKernel<A>, a: Matrix<'_, T>) -> Left {
    match columns_are_dense(a) {
        // Tiles with the inner axis outermost.
        true => Left { tile_stride: kernel.rows * DEPTH + RUN, strides: [1, kernel.rows] },
        false => Left { tile_stride: kernel.rows * ROW_STRIDE, strides: [ROW_STRIDE, 1] },
    }
}

fn columns_are_dense<T>(a: Matrix<'_, T>) -> bool {
    a.row_stride == 1 && a.column_stride != 1
}

/// Packs rows and a part of the inner axis of the left operand. What lies past its last row keeps any content.
pub(super) fn left<T: Number>(
    kernel: &MicroKernel<T::Acc>,
    a: Matrix<'_, T>,
    rows: Range<usize>,
    inner: Range<usize>,
    to: &mut [T::Acc],
) {
    if columns_are_dense(a) {
        let stride = left_layout(kernel, a).tile_stride;
        let panels = Panels { width: kernel.rows, stride, pairs: kernel.pairs };
        return pack_across::<T>(a.transposed(), inner, rows, &panels, to);
    }
    let mut buffer = [T::default(); 2 * DEPTH];
    for (row, to) in rows.clone().zip(to.chunks_exact_mut(ROW_STRIDE)) {
        if row + AHEAD < rows.end {
            a.comes([row + AHEAD, inner.start], inner.len(), Near::First);
        }
        if !kernel.pairs {
            let widen = |from: &[T], to: &mut [T::Acc]| pack_along::<T>(from, false, to);
            if a.put_window(row, inner.start, &mut to[..inner.len()], widen) {
                continue;
            }
        }
        let values = a.row(row, inner.start, inner.len(), &mut buffer);
        pack_along::<T>(values, kernel.pairs, to);
    }
}

/// Asks for the `i`-th of `n` shares of what [`left`] reads: the part of the inner axis that comes next, while this one
/// is multiplied.
pub(super) fn left_comes<T: Number>(
    a: Matrix<'_, T>,
    rows: Range<usize>,
    inner: Range<usize>,
    [i, n]: [usize; 2],
) {
    let (from, outer, run) = match columns_are_dense(a) {
        true => (a.transposed(), inner, rows),
        false => (a, rows, inner),
    };
    if !run.is_empty() {
        let share = |i: usize| outer.start + outer.len() * i / n;
        for row in share(i)..share(i + 1) {
            from.comes([row, run.start], run.len(), Near::Second);
        }
    }
}

/// Words that one panel of the right operand takes.
pub(super) fn panel_len<A>(kernel: &MicroKernel<A>, inner: usize) -> usize {
    words(kernel, inner) * kernel.columns + RUN
}

/// Packs panels of the right operand: a part of the inner axis, columns from `first` on, as many as fit into `to`.
/// Within a panel the inner axis is outermost; columns past the matrix are filled with zeros.
pub(super) fn pack<T: Number>(
    kernel: &MicroKernel<T::Acc>,
    b: Matrix<'_, T>,
    inner: Range<usize>,
    first: usize,
    to: &mut [T::Acc],
) {
    let (width, stride) = (kernel.columns, panel_len(kernel, inner.len()));
    let columns = first..b.columns.min(first + to.len() / stride * width);
    if !columns.len().is_multiple_of(width) {
        let last = columns.len() / width * stride;
        to[last..].fill(T::Acc::zero());
    }
    if b.column_stride == 1 {
        let panels = Panels { width, stride, pairs: kernel.pairs };
        return pack_across::<T>(b, inner, columns, &panels, to);
    }
    for (first, to) in columns.clone().step_by(width).zip(to.chunks_exact_mut(stride)) {
        let columns = first..columns.end.min(first + width);
        pack_turned::<T>(kernel, b.transposed(), inner.clone(), columns, to);
    }
}

/// Packs one panel from the transpose, whose rows are the panel's columns.
fn pack_turned<T: Number>(
    kernel: &MicroKernel<T::Acc>,
    from: Matrix<'_, T>,
    inner: Range<usize>,
    columns: Range<usize>,
    to: &mut [T::Acc],
) {
    let (width, per_word) = (kernel.columns, if kernel.pairs { 2 } else { 1 });
    let mut buffers = [[T::default(); 2 * RUN]; RUN];
    for (run, start) in inner.clone().step_by(RUN * per_word).enumerate() {
        let len = (RUN * per_word).min(inner.end - start);
        for first in columns.clone().step_by(RUN) {
            let mut taken = (first..columns.end).zip(&mut buffers);
            let rows: [&[T]; RUN] = std::array::from_fn(|_| match taken.next() {
                Some((column, buffer)) => from.row(column, start, len, buffer),
                None => &[],
            });
            let at = run * RUN * width + first - columns.start;
            turn_rows(&rows, kernel.pairs, &mut to[at..], width);
        }
    }
}

simd! {
    /// Writes the words of rows of one length down columns: word k of row i to `k·stride + i`, zeros for rows that are
    /// empty.
    pub(crate) fn turn_rows<T: Number>(
        rows: &[&[T]; SIDE],
        pairs: bool,
        to: &mut [T::Acc],
        stride: usize,
    ) {
        let per_word = if pairs { 2 } else { 1 };
        let words = rows[0].len().div_ceil(per_word);
        for first in (0..words).step_by(SIDE) {
            let mut square = [[T::Acc::zero(); SIDE]; SIDE];
            for (square, row) in square.iter_mut().zip(rows) {
                let rest = row.get(first * per_word..).unwrap_or(&[]);
                match (pairs, rest.first_chunk::<SIDE>(), rest.first_chunk::<{ 2 * SIDE }>()) {
                    // Whole registers: with a length that is known, no call. By value, as a loop over references may be
                    // compiled one number at a time.
                    (false, Some(values), _) => *square = values.map(T::widen),
                    (true, _, Some(values)) => words_along(values, pairs, square),
                    _ => words_along(&rest[..rest.len().min(SIDE * per_word)], pairs, square),
                }
            }
            transpose(&mut square);
            for (k, square) in (first..words).zip(&square) {
                to[k * stride..][..SIDE].copy_from_slice(square);
            }
        }
    }
}

/// How [`pack_across`] lays panels out: columns side by side, words `width` apart, panels `stride` apart.
struct Panels {
    width: usize,
    stride: usize,
    pairs: bool,
}

/// Copies `columns` of the rows `inner` into panels. Columns are dense. Rows are the outer loop: they lie far apart,
/// and each is read once, in order.
fn pack_across<T: Number>(
    from: Matrix<'_, T>,
    inner: Range<usize>,
    columns: Range<usize>,
    panels: &Panels,
    to: &mut [T::Acc],
) {
    let step = if panels.pairs { 2 } else { 1 };
    let count = columns.len();
    let room = if from.is_in_place() { 0 } else { count + RUN };
    let [mut first_buffer, mut second_buffer] = [(); 2].map(|()| vec![T::default(); room]);
    for (word, k) in inner.clone().step_by(step).enumerate() {
        for ahead in (k + AHEAD..inner.end).take(step) {
            from.comes([ahead, columns.start], count, Near::First);
        }
        let first = from.run(k, columns.start, count, &mut first_buffer);
        let to = &mut to[word * panels.width..];
        if !panels.pairs {
            spread_values(first, count, panels, to);
        } else if k + 1 < inner.end {
            let second = from.run(k + 1, columns.start, count, &mut second_buffer);
            spread_pairs([first, second], count, panels, to);
        } else {
            let zeros = vec![T::default(); count];
            spread_pairs([first, &zeros], count, panels, to);
        }
    }
}

simd! {
    /// Spreads the first `columns` values of a row over panels.
    fn spread_values<T: Number>(row: &[T], columns: usize, panels: &Panels, to: &mut [T::Acc]) {
        for (column, at) in panels.runs(columns) {
            let row = &row[column..];
            match row.first_chunk::<RUN>() {
                // A whole register where the source reaches so far: what is too much lies in the room between panels,
                // or is overwritten by the next word.
                Some(values) => {
                    for (to, value) in to[at..][..RUN].iter_mut().zip(values) {
                        *to = value.widen();
                    }
                }
                None => {
                    for (to, value) in to[at..].iter_mut().zip(&row[..columns - column]) {
                        *to = value.widen();
                    }
                }
            }
        }
    }

    /// Spreads the pairs that the first `columns` values of two rows make over panels.
    fn spread_pairs<T: Number>(
        rows: [&[T]; 2],
        columns: usize,
        panels: &Panels,
        to: &mut [T::Acc],
    ) {
        for (column, at) in panels.runs(columns) {
            let [first, second] = rows.map(|row| &row[column..]);
            match (first.first_chunk::<RUN>(), second.first_chunk::<RUN>()) {
                (Some(first), Some(second)) => {
                    for ((to, &first), &second) in to[at..][..RUN].iter_mut().zip(first).zip(second) {
                        *to = T::pair(first, second);
                    }
                }
                _ => {
                    let pairs = first.iter().zip(second).take(columns - column);
                    for (to, (&first, &second)) in to[at..].iter_mut().zip(pairs) {
                        *to = T::pair(first, second);
                    }
                }
            }
        }
    }
}

impl Panels {
    /// Cuts the words of that many columns into runs inside panels: the first column of each, and where its word goes.
    #[inline(always)]
    fn runs(&self, columns: usize) -> Runs<'_> {
        Runs { panels: self, columns, panel: [0, 0], inside: 0 }
    }
}

/// See [`Panels::runs`].
struct Runs<'a> {
    panels: &'a Panels,
    columns: usize,
    /// The first column of the panel, and where it starts.
    panel: [usize; 2],
    inside: usize,
}

impl Iterator for Runs<'_> {
    type Item = (usize, usize);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.inside >= self.panels.width {
            self.panel[0] += self.panels.width;
            self.panel[1] += self.panels.stride;
            self.inside = 0;
        }
        let [column, at] = self.panel.map(|start| start + self.inside);
        self.inside += RUN;
        (column < self.columns).then_some((column, at))
    }
}

simd! {
    /// Copies values that follow each other on the inner axis to words that do.
    pub(crate) fn pack_along<T: Number>(values: &[T], pairs: bool, to: &mut [T::Acc]) {
        words_along(values, pairs, to);
    }
}

/// The body of [`pack_along`], for what is compiled for an instruction set already.
#[inline(always)]
fn words_along<T: Number>(values: &[T], pairs: bool, to: &mut [T::Acc]) {
    if !pairs {
        for (to, from) in to.iter_mut().zip(values) {
            *to = from.widen();
        }
        return;
    }
    let (whole, odd) = values.as_chunks::<2>();
    for (to, &[first, second]) in to.iter_mut().zip(whole) {
        *to = T::pair(first, second);
    }
    if let [last] = odd {
        to[whole.len()] = T::pair(*last, T::default());
    }
}
