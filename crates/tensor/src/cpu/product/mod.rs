//! Matrix products. Operands are packed into panels, and a micro-kernel chosen for the machine multiplies tiles of
//! them (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 2008). Where a block of the
//! result goes, and what is done to it while it is in cache, is the caller's: see [`product`].
//!
//! Each number of a result is summed in an order that the inner axis alone decides, so how the work is cut, and on how
//! many threads, changes no bit.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod block_grid;
mod matrix;
mod micro_kernel;
mod one_row;
mod panels;
mod select;

use std::ops::Range;

use super::number::{Number, Real};
use super::parallel::{each, each_task};
use super::scratch::with_scratch;
use crate::Result;
pub(crate) use block_grid::{BlockGrid, cut};
pub(crate) use matrix::{Matrix, MatrixMut};
use micro_kernel::{MicroKernel, Operands, Tile};
pub(crate) use one_row::one_row;
use panels::Left;
pub(crate) use panels::{pack_along, turn_rows};
pub(crate) use select::MicroKernels;
pub(super) use select::{for_bf16, for_f32, portable};

/// Panels of the right operand that one task packs.
const GROUP: usize = 8;
/// Parts of the inner axis up to which a task keeps its packed left operand for all its blocks: with three it takes
/// less than a second-level cache, beside a block of the result.
const KEPT_PARTS: usize = 3;

/// The right operand of a product, packed: parts of the inner axis one after the other, each in panels of columns.
struct Packed<'a, A> {
    kernel: &'a MicroKernel<A>,
    words: &'a [A],
    inner: usize,
    columns: usize,
}

impl<A> Packed<'_, A> {
    /// The number of parts of the inner axis.
    fn parts(&self) -> usize {
        self.inner.div_ceil(part_len(self.kernel))
    }

    /// A part of the inner axis; empty past the last.
    fn part(&self, part: usize) -> Range<usize> {
        let first = self.inner.min(part * part_len(self.kernel));
        first..self.inner.min(first + part_len(self.kernel))
    }

    /// The panel of a part of the inner axis from a column on; empty past the last part.
    fn panel(&self, part: usize, column: usize) -> &[A] {
        let inner = self.part(part).len();
        if inner == 0 {
            return &[];
        }
        let whole = panels::panel_len(self.kernel, part_len(self.kernel));
        let len = panels::panel_len(self.kernel, inner);
        let panels = self.columns.div_ceil(self.kernel.columns);
        &self.words[part * panels * whole + column / self.kernel.columns * len..][..len]
    }
}

/// A block of a product that is to be computed.
pub(crate) struct ResultBlock<'a, T: Number> {
    a: Matrix<'a, T>,
    /// The block's rows of `a`, if they are packed already: part by part.
    left: Option<&'a [T::Acc]>,
    b: &'a Packed<'a, T::Acc>,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl<T: Number> ResultBlock<'_, T> {
    pub(crate) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    pub(crate) fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// Computes the block, or adds it to what is there.
    pub(crate) fn multiply(&self, out: &mut MatrixMut<'_, T::Acc>, add: bool) -> Result<()> {
        assert_eq!((out.rows(), out.columns()), (self.rows.len(), self.columns.len()));
        let (kernel, parts) = (self.b.kernel, self.b.parts());
        if self.b.inner == 0 && !add {
            (0..self.rows.len()).for_each(|row| out.row(row).fill(num_traits::Zero::zero()));
        }
        let (len, layout) =
            (panels::left_len(kernel, self.rows.len()), panels::left_layout(kernel, self.a));
        let (rows, columns) = (self.rows.clone(), self.columns.clone());
        match self.left {
            Some(left) => {
                for part in 0..parts {
                    let left = (&left[part * len..][..len], layout);
                    multiply_part(left, self.b, part, columns.clone(), out, add, |_| ());
                }
                Ok(())
            }
            None => with_scratch(len, |words: &mut [T::Acc]| {
                for part in 0..parts {
                    panels::left(kernel, self.a, rows.clone(), self.b.part(part), words);
                    let left = (&*words, layout);
                    let comes = |share| {
                        panels::left_comes(self.a, rows.clone(), self.b.part(part + 1), share);
                    };
                    multiply_part(left, self.b, part, columns.clone(), out, add, comes);
                }
                Ok(())
            }),
        }
    }
}

/// The product `a·b` in parallel, block by block: `work` gets a part, of which there is one for each block as
/// [`BlockGrid::cut`] orders them, and computes the block to where it wants it. What it does to it then is done while
/// it is in cache.
pub(crate) fn product<T: Number, P: Send>(
    a: Matrix<'_, T>,
    b: Right<'_, T>,
    grid: &BlockGrid,
    parts: impl IntoIterator<Item = P, IntoIter: ExactSizeIterator + Send>,
    work: impl Fn(P, ResultBlock<'_, T>) -> Result<()> + Sync,
) -> Result<()> {
    assert_eq!(a.columns, b.matrix.rows, "inner extents of a product");
    assert_eq!([a.rows, b.matrix.columns], grid.extents(), "extents of a product");
    if a.rows == 0 || b.matrix.columns == 0 {
        return Ok(());
    }
    let in_task = grid.blocks_in_task();
    with_packed(b, |b| {
        let kept = in_task > 1 && b.parts() <= KEPT_PARTS;
        each_task(parts, in_task, |first, task| {
            let [rows, _] = grid.block(first);
            let len = panels::left_len(b.kernel, rows.len());
            with_scratch(if kept { b.parts() * len } else { 0 }, |words: &mut [T::Acc]| {
                for (part, words) in words.chunks_exact_mut(len).enumerate() {
                    panels::left(b.kernel, a, rows.clone(), b.part(part), words);
                }
                let left = kept.then_some(&*words);
                for (i, part) in task.into_iter().enumerate() {
                    let [rows, columns] = grid.block(first + i);
                    work(part, ResultBlock { a, left, b, rows, columns })?;
                }
                Ok(())
            })
        })
    })
}

/// The right operand of a product, which may have been packed before.
pub(crate) struct Right<'a, T: Number> {
    pub(crate) matrix: Matrix<'a, T>,
    /// What [`pack`] wrote.
    pub(crate) packed: Option<&'a [T::Acc]>,
}

impl<'a, T: Number> From<Matrix<'a, T>> for Right<'a, T> {
    fn from(matrix: Matrix<'a, T>) -> Self {
        Self { matrix, packed: None }
    }
}

/// Words that a right operand of `inner` rows takes when it is packed.
pub(crate) fn packed_len<T: Number>(inner: usize, columns: usize) -> usize {
    let kernel = &T::kernels().large;
    let (whole, rest) = (inner / part_len(kernel), inner % part_len(kernel));
    let last = if rest > 0 { panels::panel_len(kernel, rest) } else { 0 };
    let panels = whole.saturating_mul(panels::panel_len(kernel, part_len(kernel)));
    columns.div_ceil(kernel.columns).saturating_mul(panels.saturating_add(last))
}

/// Packs a right operand, in parallel, into [`packed_len`] words.
pub(crate) fn pack<T: Number>(b: Matrix<'_, T>, words: &mut [T::Acc]) {
    let kernel = &T::kernels().large;
    let panels = b.columns.div_ceil(kernel.columns);
    let part = |first: usize| first..b.rows.min(first + part_len(kernel));
    let parts: Vec<usize> = (0..b.rows).step_by(part_len(kernel)).collect();
    let whole_part = panels * panels::panel_len(kernel, part_len(kernel));
    each(parts.into_iter().zip(words.chunks_mut(whole_part.max(1))), |(first, words)| {
        let group = GROUP * panels::panel_len(kernel, part(first).len());
        each(words.chunks_mut(group).enumerate(), |(i, words)| {
            panels::pack(kernel, b, part(first), i * GROUP * kernel.columns, words);
        });
    });
}

fn with_packed<T: Number>(
    b: Right<'_, T>,
    work: impl FnOnce(&Packed<'_, T::Acc>) -> Result<()>,
) -> Result<()> {
    let (kernel, matrix) = (&T::kernels().large, b.matrix);
    let (inner, columns) = (matrix.rows, matrix.columns);
    match b.packed {
        Some(words) => work(&Packed { kernel, words, inner, columns }),
        None => with_scratch(packed_len::<T>(inner, columns), |words: &mut [T::Acc]| {
            pack(matrix, words);
            work(&Packed { kernel, words, inner, columns })
        }),
    }
}

/// Values of the inner axis that are packed, and multiplied, together.
fn part_len<A>(kernel: &MicroKernel<A>) -> usize {
    panels::DEPTH * if kernel.pairs { 2 } else { 1 }
}

/// Adds, to the columns of a block, what a part of the inner axis contributes, from its packed left operand; the first
/// part overwrites what is there unless it is to `add`. The first column is a panel's. `meanwhile` is called before
/// each panel, with its number and that of all.
fn multiply_part<A: Real>(
    (left, layout): (&[A], Left),
    b: &Packed<'_, A>,
    part: usize,
    columns: Range<usize>,
    out: &mut MatrixMut<'_, A>,
    add: bool,
    meanwhile: impl Fn([usize; 2]),
) {
    let (kernel, rows) = (b.kernel, out.rows());
    let depth = panels::words(kernel, b.part(part).len());
    let panels = columns.len().div_ceil(kernel.columns);
    for (panel, column) in columns.clone().step_by(kernel.columns).enumerate() {
        meanwhile([panel, panels]);
        let right = b.panel(part, column);
        let next = match column + kernel.columns < columns.end {
            true => b.panel(part, column + kernel.columns),
            false => b.panel(part + 1, columns.start),
        };
        let tiles = rows.div_ceil(kernel.rows);
        for (tile, row) in (0..rows).step_by(kernel.rows).enumerate() {
            let operands = Operands {
                a: &left[tile * layout.tile_stride..],
                a_strides: layout.strides,
                b: right,
                b_stride: kernel.columns,
                depth,
                next: &next[next.len() * tile / tiles..next.len() * (tile + 1) / tiles],
            };
            let at = [row, column - columns.start];
            let extents = [kernel.rows.min(rows - row), kernel.columns.min(columns.end - column)];
            kernel.run(operands, Tile { to: out.part(at, extents), add: add || part > 0 });
        }
    }
}

/// Numbers that must be readable past the end of each operand of [`small_product`]: for rows and columns that fill up
/// its tiles. Their content does not matter.
pub(crate) const SLACK_ROWS: usize = 14;
pub(crate) const SLACK_COLUMNS: usize = 64;

/// A matrix of [`small_product`].
#[derive(Clone, Copy)]
pub(crate) struct Small<'a, A> {
    pub(crate) values: &'a [A],
    /// From one row to the next, and, for the left operand, from one column to the next.
    pub(crate) strides: [usize; 2],
}

/// `out = a·b`, or `out += a·b`, for `[m, k]` by `[k, n]` matrices of words that lie in cache: nothing is packed. Rows
/// of `out` are `stride` apart; the columns of b are dense. Reads up to [`SLACK_ROWS`] rows of a and [`SLACK_COLUMNS`]
/// columns of b past their ends.
pub(crate) fn small_product<A: Real>(
    kernels: &MicroKernels<A>,
    a: Small<'_, A>,
    b: Small<'_, A>,
    [m, k, n]: [usize; 3],
    (out, stride): (&mut [A], usize),
    add: bool,
) {
    let mut out = MatrixMut::new(out, [m, n], stride);
    if k == 0 {
        if !add {
            (0..m).for_each(|i| out.row(i).fill(A::zero()));
        }
        return;
    }
    let mut column = 0;
    while column < n {
        let kernel = kernels.small(n - column);
        let columns = kernel.columns.min(n - column);
        for row in (0..m).step_by(kernel.rows) {
            let operands = Operands {
                a: &a.values[row * a.strides[0]..],
                a_strides: a.strides,
                b: &b.values[column..],
                b_stride: b.strides[0],
                depth: k,
                next: &[],
            };
            let rows = kernel.rows.min(m - row);
            kernel.run(operands, Tile { to: out.part([row, column], [rows, columns]), add });
        }
        column += columns;
    }
}
