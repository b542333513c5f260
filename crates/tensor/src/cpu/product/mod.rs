//! Matrix products. Operands are packed into panels, and a micro-kernel chosen for the machine multiplies tiles of
//! them (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 2008). What is done to a
//! block of the result while it is in cache is the caller's: see [`product_by_rows`].
//!
//! Each number of a result is summed in an order that the inner axis alone decides, so how the work is cut, and on how
//! many threads, changes no bit.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod kernel;
mod matrix;
mod pack;
mod select;

use std::ops::Range;

use rayon::prelude::*;

use super::number::{Number, Real};
use super::scratch::with_scratch;
use kernel::{Kernel, Operands, Tile};
pub(crate) use matrix::Matrix;
pub(super) use select::{Kernels, bf16_kernels, f32_kernels, f64_kernels};

/// Columns of a block that is handed to the caller: with [`ROWS`] rows it takes a quarter of a second-level cache.
const COLUMNS: usize = 512;
/// Rows of such a block: a multiple of every kernel's.
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

/// Where a block lies in the product.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub(crate) first_row: usize,
    pub(crate) first_column: usize,
    pub(crate) columns: usize,
}

/// How many rows a part of a result with `rows` rows has, see [`product_by_rows`].
pub(crate) fn rows_per_part(rows: usize) -> usize {
    let threads = rayon::current_num_threads();
    if is_tall(rows) { ROWS } else { rows.div_ceil(4 * threads).max(1) }
}

/// Whether blocks of rows alone make enough tasks.
fn is_tall(rows: usize) -> bool {
    rows >= 8 * ROWS * rayon::current_num_threads()
}

/// Computes `a·b` in parallel. `parts` are what tasks may write: one for each [`rows_per_part`] rows. `finish` gets a
/// part, and a block of the product's rows that belong to it, dense, while that block is in cache; it is called for
/// each block of columns in turn.
pub(crate) fn product_by_rows<T: Number, P: Send + Sync>(
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    parts: Vec<P>,
    finish: impl Fn(&mut P, Block, &mut [T::Acc]) + Sync,
) {
    assert_eq!(a.columns, b.rows, "inner extents of a product");
    let step = rows_per_part(a.rows);
    assert_eq!(parts.len(), a.rows.div_ceil(step), "one part for each block of rows");
    if b.columns == 0 || a.rows == 0 {
        return;
    }
    let rows_of = |part: usize| part * step..a.rows.min((part + 1) * step);
    let kernel = &T::kernels().large;
    with_packed(kernel, b, |b| {
        if is_tall(a.rows) {
            parts.into_par_iter().enumerate().for_each(|(i, mut part)| {
                for first_column in (0..b.columns).step_by(COLUMNS) {
                    let columns = COLUMNS.min(b.columns - first_column);
                    let block = Block { first_row: i * step, first_column, columns };
                    with_scratch(rows_of(i).len() * columns, |values| {
                        multiply(a, rows_of(i), b, first_column..first_column + columns, values);
                        finish(&mut part, block, values);
                    });
                }
            });
            return;
        }
        // Few rows: columns are cut as well, and the blocks of a part gathered when all are there.
        let row_blocks = a.rows.div_ceil(ROWS);
        let height = a.rows.div_ceil(row_blocks).next_multiple_of(kernel.rows);
        let wanted = (4 * rayon::current_num_threads()).div_ceil(row_blocks);
        let width = b.columns.div_ceil(wanted).next_multiple_of(kernel.columns).min(COLUMNS);
        with_scratch(a.rows * b.columns, |product: &mut [T::Acc]| {
            let blocks = product.par_chunks_mut(a.rows * width).enumerate();
            blocks.for_each(|(j, product)| {
                let columns = j * width..b.columns.min((j + 1) * width);
                let blocks = product.par_chunks_mut(height * columns.len()).enumerate();
                blocks.for_each(|(i, values)| {
                    let rows = i * height..a.rows.min((i + 1) * height);
                    multiply(a, rows, b, columns.clone(), values);
                });
            });
            let product = &*product;
            parts.into_par_iter().enumerate().for_each(|(i, mut part)| {
                for (j, product) in product.chunks(a.rows * width).enumerate() {
                    let (rows, columns) = (rows_of(i), product.len() / a.rows);
                    let block = Block { first_row: rows.start, first_column: j * width, columns };
                    with_scratch(rows.len() * columns, |values| {
                        values.copy_from_slice(&product[rows.start * columns..rows.end * columns]);
                        finish(&mut part, block, values);
                    });
                }
            });
        });
    });
}

/// Packs `b`, in parallel.
fn with_packed<T: Number>(
    kernel: &Kernel<T::Acc>,
    b: Matrix<'_, T>,
    work: impl FnOnce(&Packed<'_, T::Acc>),
) {
    let panels = b.columns.div_ceil(kernel.columns);
    let parts = (0..b.rows).step_by(part_len(kernel));
    let part = |first: usize| first..b.rows.min(first + part_len(kernel));
    let sizes = parts.clone().map(|first| panels * pack::panel_len(kernel, part(first).len()));
    with_scratch(sizes.sum(), |words: &mut [T::Acc]| {
        let all = panels * pack::panel_len(kernel, part_len(kernel));
        let parts: Vec<usize> = parts.collect();
        parts.into_par_iter().zip(words.par_chunks_mut(all.max(1))).for_each(|(first, words)| {
            let group = GROUP * pack::panel_len(kernel, part(first).len());
            words.par_chunks_mut(group).enumerate().for_each(|(i, words)| {
                pack::panels(kernel, b, part(first), i * GROUP * kernel.columns, words);
            });
        });
        work(&Packed { kernel, words, inner: b.rows, columns: b.columns });
    });
}

/// Values of the inner axis that are packed, and multiplied, together.
fn part_len<A>(kernel: &Kernel<A>) -> usize {
    pack::DEPTH * if kernel.pairs { 2 } else { 1 }
}

/// Rows and columns of `a·b` into `out`, dense, on this thread. The first column is a panel's.
fn multiply<T: Number>(
    a: Matrix<'_, T>,
    rows: Range<usize>,
    b: &Packed<'_, T::Acc>,
    columns: Range<usize>,
    out: &mut [T::Acc],
) {
    let kernel = b.kernel;
    if b.inner == 0 {
        return out.fill(num_traits::Zero::zero());
    }
    let stride = columns.len();
    let panels = b.columns.div_ceil(kernel.columns);
    let whole_part = panels * pack::panel_len(kernel, part_len(kernel));
    with_scratch(pack::left_len(kernel, rows.len()), |packed: &mut [T::Acc]| {
        for (part, first) in (0..b.inner).step_by(part_len(kernel)).enumerate() {
            let inner = first..b.inner.min(first + part_len(kernel));
            let panel_len = pack::panel_len(kernel, inner.len());
            let depth = pack::words(kernel, inner.len());
            let left = pack::left(kernel, a, rows.clone(), inner, packed);
            for column in columns.clone().step_by(kernel.columns) {
                let right = &b.words[part * whole_part + column / kernel.columns * panel_len..];
                for (tile, row) in (0..rows.len()).step_by(kernel.rows).enumerate() {
                    let operands = Operands {
                        a: &packed[tile * left.tile_stride..],
                        a_strides: left.strides,
                        b: right,
                        b_stride: kernel.columns,
                        depth,
                    };
                    let at = row * stride + (column - columns.start);
                    (kernel.tile)(
                        operands,
                        Tile {
                            values: &mut out[at..],
                            stride,
                            rows: kernel.rows.min(rows.len() - row),
                            columns: kernel.columns.min(columns.end - column),
                            add: first > 0,
                        },
                    );
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
    if k == 0 {
        if !add {
            (0..m).for_each(|i| out[i * stride..][..n].fill(A::zero()));
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
            };
            let rows = kernel.rows.min(m - row);
            let values = &mut out[row * stride + column..];
            (kernel.tile)(operands, Tile { values, stride, rows, columns, add });
        }
        column += columns;
    }
}
