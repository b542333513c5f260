//! A strided matrix that is read.

/// A matrix inside a slice. Rows and columns may lie any distance apart.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    data: &'a [T],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a, T: Copy> Matrix<'a, T> {
    /// A matrix in `data`, whose element (i, j) is at `i·row_stride + j·column_stride`.
    pub(crate) fn new(
        data: &'a [T],
        [rows, columns]: [usize; 2],
        [row_stride, column_stride]: [usize; 2],
    ) -> Self {
        let last = rows.saturating_sub(1) * row_stride + columns.saturating_sub(1) * column_stride;
        assert!(rows == 0 || columns == 0 || last < data.len(), "a matrix lies inside its data");
        Self { data, rows, columns, row_stride, column_stride }
    }

    /// A dense matrix in row-major order.
    pub(crate) fn row_major(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self::new(data, [rows, columns], [columns, 1])
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

    /// What the data hold from an element on: the rest of its row, if columns are dense, and more.
    #[inline(always)]
    pub(super) fn tail(&self, row: usize, column: usize) -> &'a [T] {
        &self.data[row * self.row_stride + column * self.column_stride..]
    }

    /// `len` elements of row `row` from column `first` on: where they are, if side by side, else copied to `buffer`.
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
        let start = row * self.row_stride + first * self.column_stride;
        if self.column_stride == 1 {
            return &self.data[start..start + len];
        }
        for (i, to) in buffer[..len].iter_mut().enumerate() {
            *to = self.data[start + i * self.column_stride];
        }
        &buffer[..len]
    }
}
