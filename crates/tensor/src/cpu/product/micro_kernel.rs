//! Micro-kernels: one tile of a product, held in registers. [`MicroKernel`] says what a tile looks like; the portable
//! one is here, those of x86-64 are in `avx2` and `avx512`. How matrices become tiles is in `panels` and the module
//! above.

use std::array::from_fn;

use super::super::number::Real;
use super::matrix::MatrixMut;
use crate::simd;

/// What one tile multiplies. A word is one number, or the bits of two `bf16` that follow each other on the inner axis.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a, A> {
    /// Word k of row i is at `i·a_strides[0] + k·a_strides[1]`. All rows of the kernel's tile are read.
    pub(crate) a: &'a [A],
    pub(crate) a_strides: [usize; 2],
    /// Word k of column j is at `k·b_stride + j`. All columns of the kernel's tile are read.
    pub(crate) b: &'a [A],
    pub(crate) b_stride: usize,
    /// Words on the inner axis, at least 1.
    pub(crate) depth: usize,
    /// What later tiles read: a kernel may bring it nearer on the way.
    pub(crate) next: &'a [A],
}

/// Where one tile goes: as many of its rows and columns as this matrix has.
pub(crate) struct Tile<'a, A> {
    pub(crate) to: MatrixMut<'a, A>,
    /// Add to what is there.
    pub(crate) add: bool,
}

/// A way to compute one tile of `rows` by `columns` numbers.
pub(crate) struct MicroKernel<A> {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// The most rows of a block of the result, a multiple of the tile's: what fits, with what makes it, into the
    /// second-level cache of most machines that have this kernel.
    pub(crate) block_rows: usize,
    /// Whether a word is two `bf16`.
    pub(crate) pairs: bool,
    /// Each number of the tile is a sum over k in ascending order, from 0, added to the destination at the end: what
    /// comes out does not depend on where in the tile it lies.
    pub(crate) tile: TileFunction<A>,
    /// The same for the first rows of a tile, fewest first: how many, and the function.
    pub(crate) short: Vec<(usize, TileFunction<A>)>,
}

/// Computes one tile.
pub(crate) type TileFunction<A> = fn(Operands<'_, A>, Tile<'_, A>);

impl<A: Real> MicroKernel<A> {
    /// Computes one tile with the shortest function that has its rows.
    pub(super) fn run(&self, operands: Operands<'_, A>, tile: Tile<'_, A>) {
        let short = self.short.iter().find(|(rows, _)| tile.to.rows() <= *rows);
        short.map_or(self.tile, |(_, function)| *function)(operands, tile);
    }
}

/// Panics unless every word that a kernel of this size reads lies in its slice, and its tile in that size.
#[inline(always)]
pub(super) fn check<A: Real>(
    operands: &Operands<'_, A>,
    tile: &Tile<'_, A>,
    rows: usize,
    columns: usize,
) {
    let last = operands.depth.checked_sub(1).expect("a tile has an inner axis");
    let [over_rows, over_depth] = operands.a_strides;
    assert!(
        (rows - 1) * over_rows + last * over_depth < operands.a.len(),
        "left operand of a tile"
    );
    assert!(last * operands.b_stride + columns <= operands.b.len(), "right operand of a tile");
    assert!(tile.to.rows() <= rows && tile.to.columns() <= columns, "a tile's extents");
}

/// Numbers that the portable tile works on side by side: a register of every machine.
const LANES: usize = 4;
/// Rows of the portable tile, and registers in each: with a row's number and what it is multiplied by, all 16 registers
/// of x86-64, or 28 of the 32 of aarch64.
const ROWS: usize = if cfg!(target_arch = "aarch64") { 8 } else { 6 };
const VECTORS: usize = if cfg!(target_arch = "aarch64") { 3 } else { 2 };
const COLUMNS: usize = VECTORS * LANES;

/// The kernel of machines without one of their own.
pub(crate) fn portable<A: Real>() -> MicroKernel<A> {
    let (rows, columns, tile) = (ROWS, COLUMNS, portable_tile::<A>);
    MicroKernel { rows, columns, block_rows: 72, pairs: false, tile, short: Vec::new() }
}

simd! {
    fn portable_tile<A: Real>(operands: Operands<'_, A>, tile: Tile<'_, A>) {
        check(&operands, &tile, ROWS, COLUMNS);
        let [over_rows, over_depth] = operands.a_strides;
        let mut sums = [[[A::zero(); LANES]; VECTORS]; ROWS];
        for k in 0..operands.depth {
            // SAFETY: `check` found word `depth − 1` of the last row in `a`, and that of the last column in `b`. With
            // checks in this loop the sums would live in memory.
            let (a, b) = unsafe {
                let a = operands.a.as_ptr().add(k * over_depth);
                let b = operands.b.as_ptr().add(k * operands.b_stride).cast::<[[A; LANES]; VECTORS]>();
                (from_fn::<A, ROWS, _>(|i| *a.add(i * over_rows)), *b)
            };
            for (sums, a) in sums.iter_mut().zip(a) {
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = from_fn(|lane| multiply_add(a, b[lane], sum[lane]));
                }
            }
        }
        // Taken to memory by constants, as what is read at any index is kept there from the start.
        let sums: [[A; COLUMNS]; ROWS] =
            from_fn(|i| from_fn(|j| sums[i][j / LANES][j % LANES]));
        let Tile { mut to, add } = tile;
        for (i, sums) in sums.iter().take(to.rows()).enumerate() {
            for (to, &sum) in to.row(i).iter_mut().zip(sums) {
                *to = if add { *to + sum } else { sum };
            }
        }
    }
}

/// `a·b + c`, in one instruction where every machine of the target has it.
#[inline(always)]
fn multiply_add<A: Real>(a: A, b: A, c: A) -> A {
    if cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c }
}
