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
mod kernel;
mod matrix;
mod one_row;
mod panels;
mod select;

use std::ops::Range;

use rayon::prelude::*;

use super::number::{Number, Real};
use super::scratch::with_scratch;
use kernel::{Kernel, Operands, Tile};
pub(crate) use matrix::{Matrix, MatrixMut};
pub(crate) use one_row::one_row;
pub(super) use select::{Kernels, bf16_kernels, f32_kernels, f64_kernels};

/// Columns of a block of the result: with [`ROWS`] rows it takes a quarter of a second-level cache.
const COLUMNS: usize = 512;
/// The most rows of such a block: a multiple of every kernel's.
const ROWS: usize = 126;

/// Panels of the right operand that one task packs.
const GROUP: usize = 8;

/// The right operand of a product, packed: parts of the inner axis one after the other, each in panels of columns.
struct Packed<'a, A> {
    kernel: &'a Kernel<A>,
    words: &'a [A],
    inner: usize,
    columns: usize,
}

impl<A> Packed<'_, A> {
    /// The panel of a part of the inner axis from a column on; empty past the last part.
    fn panel(&self, part: usize, column: usize) -> &[A] {
        let whole = panels::panel_len(self.kernel, part_len(self.kernel));
        let rest = self.inner.saturating_sub(part * part_len(self.kernel));
        if rest == 0 {
            return &[];
        }
        let len = panels::panel_len(self.kernel, rest.min(part_len(self.kernel)));
        let panels = self.columns.div_ceil(self.kernel.columns);
        &self.words[part * panels * whole + column / self.kernel.columns * len..][..len]
    }
}

/// How a result is cut into blocks, one for each task.
#[derive(Clone, Copy)]
pub(crate) struct Grid {
    rows: usize,
    columns: usize,
    block_rows: usize,
    block_columns: usize,
}

impl Grid {
    /// For a result of that many rows and columns: blocks as large as the cache allows, and at least four a thread.
    pub(crate) fn new<T: Number>(rows: usize, columns: usize) -> Self {
        let kernel = &T::kernels().large;
        let wanted = 4 * rayon::current_num_threads();
        let row_blocks = rows.div_ceil(ROWS).max(1);
        let block_rows = match row_blocks < 2 * wanted {
            // So that the last block is about as high as the others.
            true => rows.div_ceil(row_blocks).next_multiple_of(kernel.rows).min(ROWS),
            false => ROWS,
        };
        let column_blocks = wanted.div_ceil(row_blocks).max(columns.div_ceil(COLUMNS)).max(1);
        let block_columns = columns.div_ceil(column_blocks).next_multiple_of(kernel.columns);
        Self { rows, columns, block_rows, block_columns: block_columns.max(kernel.columns) }
    }

    /// Cuts a dense matrix of the result's shape.
    pub(crate) fn cut<'a, T: Copy + 'static>(&self, values: &'a mut [T]) -> Vec<MatrixMut<'a, T>> {
        MatrixMut::new(values, [self.rows, self.columns], self.columns)
            .cut(self.block_rows, self.block_columns)
    }

    /// Cuts the transpose of such a matrix: blocks are in the order of [`Grid::cut`].
    pub(crate) fn cut_transposed<'a, T: Copy + 'static>(
        &self,
        values: &'a mut [T],
    ) -> Vec<MatrixMut<'a, T>> {
        MatrixMut::new(values, [self.columns, self.rows], self.rows)
            .cut_by_columns(self.block_columns, self.block_rows)
    }
}

/// A block of a product that is to be computed.
pub(crate) struct Block<'a, T: Number> {
    a: Matrix<'a, T>,
    b: &'a Packed<'a, T::Acc>,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl<T: Number> Block<'_, T> {
    pub(crate) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    pub(crate) fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// Computes the block, or adds it to what is there.
    pub(crate) fn multiply(&self, out: &mut MatrixMut<'_, T::Acc>, add: bool) {
        assert_eq!((out.rows(), out.columns()), (self.rows.len(), self.columns.len()));
        multiply(self.a, self.rows.clone(), self.b, self.columns.clone(), out, add);
    }
}

/// The product `a·b` in parallel, block by block: `work` gets a part, of which there is one for each block as
/// [`Grid::cut`] orders them, and computes the block to where it wants it. What it does to it then is done while it is
/// in cache.
pub(crate) fn product<T: Number, P: Send>(
    a: Matrix<'_, T>,
    b: Right<'_, T>,
    grid: Grid,
    parts: Vec<P>,
    work: impl Fn(P, Block<'_, T>) + Sync,
) {
    assert_eq!(a.columns, b.matrix.rows, "inner extents of a product");
    assert_eq!((a.rows, b.matrix.columns), (grid.rows, grid.columns), "extents of a product");
    if grid.rows == 0 || grid.columns == 0 {
        return;
    }
    let across = grid.columns.div_ceil(grid.block_columns);
    with_packed(b, |b| {
        parts.into_par_iter().enumerate().for_each(|(i, part)| {
            let (first_row, first_column) =
                (i / across * grid.block_rows, i % across * grid.block_columns);
            let rows = first_row..grid.rows.min(first_row + grid.block_rows);
            let columns = first_column..grid.columns.min(first_column + grid.block_columns);
            work(part, Block { a, b, rows, columns });
        });
    });
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
    let len = |first| panels::panel_len(kernel, part_len(kernel).min(inner - first));
    let panels = (0..inner).step_by(part_len(kernel)).map(len).sum::<usize>();
    columns.div_ceil(kernel.columns) * panels
}

/// Packs a right operand, in parallel, into [`packed_len`] words.
pub(crate) fn pack<T: Number>(b: Matrix<'_, T>, words: &mut [T::Acc]) {
    let kernel = &T::kernels().large;
    let panels = b.columns.div_ceil(kernel.columns);
    let part = |first: usize| first..b.rows.min(first + part_len(kernel));
    let parts: Vec<usize> = (0..b.rows).step_by(part_len(kernel)).collect();
    let whole_part = panels * panels::panel_len(kernel, part_len(kernel));
    parts.into_par_iter().zip(words.par_chunks_mut(whole_part.max(1))).for_each(
        |(first, words)| {
            let group = GROUP * panels::panel_len(kernel, part(first).len());
            words.par_chunks_mut(group).enumerate().for_each(|(i, words)| {
                panels::pack(kernel, b, part(first), i * GROUP * kernel.columns, words);
            });
        },
    );
}

fn with_packed<T: Number>(b: Right<'_, T>, work: impl FnOnce(&Packed<'_, T::Acc>)) {
    let (kernel, matrix) = (&T::kernels().large, b.matrix);
    let (inner, columns) = (matrix.rows, matrix.columns);
    match b.packed {
        Some(words) => work(&Packed { kernel, words, inner, columns }),
        None => with_scratch(packed_len::<T>(inner, columns), |words: &mut [T::Acc]| {
            pack(matrix, words);
            work(&Packed { kernel, words, inner, columns });
        }),
    }
}

/// Values of the inner axis that are packed, and multiplied, together.
fn part_len<A>(kernel: &Kernel<A>) -> usize {
    panels::DEPTH * if kernel.pairs { 2 } else { 1 }
}

/// Rows and columns of `a·b` into `out`, or added to it, on this thread. The first column is a panel's.
fn multiply<T: Number>(
    a: Matrix<'_, T>,
    rows: Range<usize>,
    b: &Packed<'_, T::Acc>,
    columns: Range<usize>,
    out: &mut MatrixMut<'_, T::Acc>,
    add: bool,
) {
    let kernel = b.kernel;
    if b.inner == 0 && !add {
        (0..rows.len()).for_each(|row| out.row(row).fill(num_traits::Zero::zero()));
    }
    with_scratch(panels::left_len(kernel, rows.len()), |packed: &mut [T::Acc]| {
        for (part, first) in (0..b.inner).step_by(part_len(kernel)).enumerate() {
            let inner = first..b.inner.min(first + part_len(kernel));
            let depth = panels::words(kernel, inner.len());
            let left = panels::left(kernel, a, rows.clone(), inner, packed);
            for column in columns.clone().step_by(kernel.columns) {
                let right = b.panel(part, column);
                let next = match column + kernel.columns < columns.end {
                    true => b.panel(part, column + kernel.columns),
                    false => b.panel(part + 1, columns.start),
                };
                let tiles = rows.len().div_ceil(kernel.rows);
                for (tile, row) in (0..rows.len()).step_by(kernel.rows).enumerate() {
                    let operands = Operands {
                        a: &packed[tile * left.tile_stride..],
                        a_strides: left.strides,
                        b: right,
                        b_stride: kernel.columns,
                        depth,
                        next: &next[next.len() * tile / tiles..next.len() * (tile + 1) / tiles],
                    };
                    let at = [row, column - columns.start];
                    let extents = [
                        kernel.rows.min(rows.len() - row),
                        kernel.columns.min(columns.end - column),
                    ];
                    kernel.run(operands, Tile { to: out.part(at, extents), add: add || first > 0 });
                }
            }
        }
    });
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

/// `out = a·b`, or `out += a·b`, for `[m, k]` by `[k, n]` matrices that lie in cache: nothing is packed. Rows of `out`
/// are `stride` apart; the columns of b are dense. Reads up to [`SLACK_ROWS`] rows of a and [`SLACK_COLUMNS`] columns
/// of b past their ends.
pub(crate) fn small_product<A: Real>(
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
        let kernel = A::kernels().small(n - column);
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
