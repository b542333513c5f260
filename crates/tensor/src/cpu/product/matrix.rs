//! A strided matrix that is read, and one that is written.

use std::any::TypeId;
use std::marker::PhantomData;
use std::ops::Range;

use crate::dtype::Element;
use crate::simd::{Near, prefetch};

use super::super::windows::WindowRows;

/// A matrix inside a slice. Rows and columns may lie any distance apart. Or the windows of images, each a row, which
/// are found there and never written out.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    data: &'a [T],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
    windows: Option<&'a WindowRows>,
}

impl<'a, T: Element> Matrix<'a, T> {
    /// A matrix in `data`, whose element (i, j) is at `i·row_stride + j·column_stride`.
    pub(crate) fn new(
        data: &'a [T],
        [rows, columns]: [usize; 2],
        [row_stride, column_stride]: [usize; 2],
    ) -> Self {
        let last = rows.saturating_sub(1) * row_stride + columns.saturating_sub(1) * column_stride;
        assert!(rows == 0 || columns == 0 || last < data.len(), "a matrix lies inside its data");
        Self { data, rows, columns, row_stride, column_stride, windows: None }
    }

    /// The windows of images `[B, H, W, C]` as a matrix `[B·H'·W', p·q·C]`.
    pub(crate) fn windows(data: &'a [T], images: usize, windows: &'a WindowRows) -> Self {
        let [rows, columns] = windows.extents(images);
        // As if the windows were far apart, so that no stride but that of their elements is 1.
        Self { data, rows, columns, row_stride: 2, column_stride: 1, windows: Some(windows) }
    }

    /// A dense matrix in row-major order.
    pub(crate) fn row_major(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self::new(data, [rows, columns], [columns, 1])
    }

    /// Its rows and columns.
    pub(crate) fn extents(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// The transpose, by exchanging the strides.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// What the data hold from an element on: the rest of its row, if columns are dense, and more. Not for windows.
    #[inline(always)]
    pub(super) fn tail(&self, row: usize, column: usize) -> &'a [T] {
        &self.data[row * self.row_stride + column * self.column_stride..]
    }

    /// Whether rows are read where they are.
    pub(super) fn is_in_place(&self) -> bool {
        self.column_stride == 1 && self.windows.is_none()
    }

    /// Tells the caches that `len` elements from there on will be read, if they lie side by side.
    #[inline(always)]
    pub(super) fn comes(&self, [row, column]: [usize; 2], len: usize, near: Near) {
        if self.is_in_place() {
            prefetch(&self.data[row * self.row_stride + column..][..len], near);
        }
    }

    /// `len` elements of row `row` from column `first` on: where they are, if side by side, else copied to `buffer`.
    /// What follows them has any content.
    #[inline(always)]
    pub(super) fn run<'b>(
        &self,
        row: usize,
        first: usize,
        len: usize,
        buffer: &'b mut [T],
    ) -> &'b [T]
    where
        'a: 'b,
    {
        if let Some(windows) = self.windows {
            assert!(self.column_stride == 1, "windows are read one by one");
            windows.copy(self.data, row, first, &mut buffer[..len], |from, to| {
                to.copy_from_slice(from);
            });
            return buffer;
        }
        let start = row * self.row_stride + first * self.column_stride;
        if self.column_stride == 1 {
            return &self.data[start..];
        }
        for (i, to) in buffer[..len].iter_mut().enumerate() {
            *to = self.data[start + i * self.column_stride];
        }
        buffer
    }

    /// Puts elements of a row from column `first` on into `to`, run by run, if the rows are windows; else does nothing.
    #[inline(always)]
    pub(super) fn put_window<U: Element>(
        &self,
        row: usize,
        first: usize,
        to: &mut [U],
        put: impl Fn(&[T], &mut [U]),
    ) -> bool {
        self.windows.inspect(|windows| windows.copy(self.data, row, first, to, put)).is_some()
    }

    /// As [`Matrix::run`], without what follows.
    #[inline(always)]
    pub(super) fn row<'b>(
        &self,
        row: usize,
        first: usize,
        len: usize,
        buffer: &'b mut [T],
    ) -> &'b [T]
    where
        'a: 'b,
    {
        &self.run(row, first, len, buffer)[..len]
    }
}

/// A matrix that is written, dense along its rows: a block of a larger one, beside others that other threads write.
pub(crate) struct MatrixMut<'a, T> {
    /// Element (i, j) is at `i·row_stride + j`, and no other matrix that can be used at the same time holds it.
    start: *mut T,
    rows: usize,
    columns: usize,
    row_stride: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: it has its elements alone, as a `&mut [T]` has.
unsafe impl<T: Send> Send for MatrixMut<'_, T> {}

impl<'a, T: Copy + 'static> MatrixMut<'a, T> {
    /// The matrix at the start of `data` whose rows lie `row_stride` apart.
    pub(crate) fn new(data: &'a mut [T], [rows, columns]: [usize; 2], row_stride: usize) -> Self {
        let inside = rows.saturating_sub(1) * row_stride + columns <= data.len();
        assert!(rows == 0 || inside, "a matrix lies inside its data");
        assert!(rows <= 1 || columns <= row_stride, "a matrix's rows do not overlap");
        Self { start: data.as_mut_ptr(), rows, columns, row_stride, life: PhantomData }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// From one row to the next.
    pub(super) fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// Where element (0, 0) is.
    pub(super) fn start(&mut self) -> *mut T {
        self.start
    }

    /// Cuts the matrix into blocks, row by row of blocks. Neither `rows` nor `columns` may overlap.
    pub(crate) fn cut(self, rows: &[Range<usize>], columns: &[Range<usize>]) -> Vec<Self> {
        check_cuts(rows, self.rows);
        check_cuts(columns, self.columns);
        let across = |rows| columns.iter().map(move |columns| (rows, columns));
        rows.iter().flat_map(across).map(|(rows, columns)| self.block(rows, columns)).collect()
    }

    /// As [`MatrixMut::cut`], column by column of blocks.
    pub(super) fn cut_by_columns(
        self,
        rows: &[Range<usize>],
        columns: &[Range<usize>],
    ) -> Vec<Self> {
        check_cuts(rows, self.rows);
        check_cuts(columns, self.columns);
        let down = |columns| rows.iter().map(move |rows| (rows, columns));
        columns.iter().flat_map(down).map(|(rows, columns)| self.block(rows, columns)).collect()
    }

    /// A block inside the matrix. Blocks that are used together must not overlap.
    fn block(&self, rows: &Range<usize>, columns: &Range<usize>) -> Self {
        let start = self.at(rows.start, columns.start);
        Self { start, rows: rows.len(), columns: columns.len(), ..*self }
    }

    /// A part of the matrix, which cannot be used meanwhile.
    #[inline(always)]
    pub(super) fn part(
        &mut self,
        [row, column]: [usize; 2],
        [rows, columns]: [usize; 2],
    ) -> MatrixMut<'_, T> {
        assert!(row + rows <= self.rows && column + columns <= self.columns, "a matrix's part");
        MatrixMut { start: self.at(row, column), rows, columns, life: PhantomData, ..*self }
    }

    /// A row.
    #[inline(always)]
    pub(crate) fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "a matrix's row");
        // SAFETY: the row lies inside the matrix, which is borrowed as long as it.
        unsafe { std::slice::from_raw_parts_mut(self.at(row, 0), self.columns) }
    }

    /// The same matrix, if its elements are of type `U`.
    pub(crate) fn of_type<U: 'static>(self) -> Result<MatrixMut<'a, U>, Self> {
        let Self { start, rows, columns, row_stride, life: _ } = self;
        if TypeId::of::<T>() != TypeId::of::<U>() {
            return Err(self);
        }
        Ok(MatrixMut { start: start.cast(), rows, columns, row_stride, life: PhantomData })
    }

    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> *mut T {
        self.start.wrapping_add(row * self.row_stride + column)
    }
}

/// Panics unless ranges follow each other without overlapping and end inside `len`.
fn check_cuts(cuts: &[Range<usize>], len: usize) {
    let ends = cuts.iter().map(|cut| cut.end).chain([len]);
    let starts = cuts.iter().map(|cut| cut.start).chain([len]);
    let in_order = ends.clone().zip(starts.skip(1)).all(|(end, next)| end <= next);
    assert!(in_order && cuts.iter().all(|cut| cut.start <= cut.end), "where a matrix is cut");
}
