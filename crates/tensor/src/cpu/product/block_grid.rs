//! How the result of a product is cut into blocks, and which of them make a task. What is done with one is not here.

use std::ops::Range;

use super::super::number::Number;
use super::matrix::MatrixMut;

/// Columns of a block of the result, whose rows are a kernel's `block_rows`.
const COLUMNS: usize = 512;
/// The fewest rows of a block that is cut lower than the others so that all threads end together.
const LAST_ROWS: usize = 42;

/// How a result is cut into blocks.
pub(crate) struct BlockGrid {
    rows: Vec<Range<usize>>,
    columns: Vec<Range<usize>>,
    /// Whether the blocks that lie side by side make one task. Else each is one.
    side_by_side: bool,
}

impl BlockGrid {
    /// For a result of that many rows and columns: blocks as large as the cache allows, and at least four a thread.
    pub(crate) fn new<T: Number>(rows: usize, columns: usize) -> Self {
        let kernel = &T::kernels().large;
        let (threads, most) = (rayon::current_num_threads(), kernel.block_rows);
        let (wanted, row_blocks) = (4 * threads, rows.div_ceil(most).max(1));
        let side_by_side = row_blocks >= wanted;
        let height = |left: usize| match side_by_side {
            // Lower ones at the end: a thread that has nothing left to do does not wait long for the others.
            true => (left / (2 * threads)).next_multiple_of(kernel.rows).clamp(LAST_ROWS, most),
            // So that the last block is about as high as the others.
            false => rows.div_ceil(row_blocks).next_multiple_of(kernel.rows).min(most),
        };
        let column_blocks = wanted.div_ceil(row_blocks).max(columns.div_ceil(COLUMNS));
        let width = columns.div_ceil(column_blocks).next_multiple_of(kernel.columns);
        Self { rows: cut(rows, height), columns: cut(columns, |_| width), side_by_side }
    }

    /// The number of blocks that make one task: they lie side by side.
    pub(super) fn blocks_in_task(&self) -> usize {
        if self.side_by_side { self.columns.len() } else { 1 }
    }

    /// Rows and columns of a block, in the order of [`BlockGrid::cut`].
    pub(super) fn block(&self, i: usize) -> [Range<usize>; 2] {
        let across = self.columns.len();
        [self.rows[i / across].clone(), self.columns[i % across].clone()]
    }

    /// Rows and columns of the whole.
    pub(super) fn extents(&self) -> [usize; 2] {
        [&self.rows, &self.columns].map(|cuts| cuts.last().map_or(0, |last| last.end))
    }

    /// Cuts a dense matrix of the result's shape, row by row of blocks.
    pub(crate) fn cut<'a, T: Copy + 'static>(&self, values: &'a mut [T]) -> Vec<MatrixMut<'a, T>> {
        let [rows, columns] = self.extents();
        MatrixMut::new(values, [rows, columns], columns).cut(&self.rows, &self.columns)
    }

    /// Cuts the transpose of such a matrix: blocks are in the order of [`BlockGrid::cut`].
    pub(crate) fn cut_transposed<'a, T: Copy + 'static>(
        &self,
        values: &'a mut [T],
    ) -> Vec<MatrixMut<'a, T>> {
        let [rows, columns] = self.extents();
        MatrixMut::new(values, [columns, rows], rows).cut_by_columns(&self.columns, &self.rows)
    }
}

/// Cuts `0..len` into ranges; `size` gives the length of the next, at least 1, from what is left.
pub(crate) fn cut(len: usize, size: impl Fn(usize) -> usize) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    while start < len {
        let end = len.min(start + size(len - start));
        ranges.push(start..end);
        start = end;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(threads: usize, rows: usize, columns: usize) -> BlockGrid {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| BlockGrid::new::<f32>(rows, columns))
    }

    fn most() -> usize {
        f32::kernels().large.block_rows
    }

    #[test]
    fn blocks_cover_the_result_once() {
        for threads in [1, 2, 7, 64] {
            for [rows, columns] in [[1, 1], [37, 512], [512, 512], [4736, 2048], [2048, 513]] {
                let grid = grid(threads, rows, columns);
                assert_eq!(grid.extents(), [rows, columns]);
                for cuts in [&grid.rows, &grid.columns] {
                    assert!(cuts.iter().all(|cut| !cut.is_empty()));
                    assert!(cuts.windows(2).all(|pair| pair[0].end == pair[1].start));
                }
                assert!(grid.rows.iter().all(|rows| rows.len() <= most()));
                assert!(grid.columns.iter().all(|columns| columns.len() <= COLUMNS));
            }
        }
    }

    #[test]
    fn the_last_tasks_of_many_are_short() {
        let grid = grid(2, 4736, 2048);
        assert_eq!((grid.rows[0].len(), grid.blocks_in_task()), (most(), 4));
        let last = &grid.rows[grid.rows.len() - 3..];
        assert!(last.iter().all(|rows| rows.len() <= LAST_ROWS), "{last:?}");
    }

    #[test]
    fn an_empty_result_has_no_blocks() {
        assert_eq!(grid(2, 0, 512).extents(), [0, 512]);
        assert_eq!(grid(2, 37, 0).extents(), [37, 0]);
    }
}
