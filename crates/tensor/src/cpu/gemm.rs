//! Matrix products through the `gemm` crate. The only place that hands out raw pointers to matrices.

use std::cell::RefCell;

use rayon::prelude::*;

use super::number::Real;

/// A strided matrix that is read.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, A> {
    data: &'a [A],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, A> Matrix<'a, A> {
    /// A matrix in `data`, whose element (i, j) is at `i·row_stride + j·column_stride`.
    pub(crate) fn new(
        data: &'a [A],
        [rows, columns]: [usize; 2],
        [row_stride, column_stride]: [usize; 2],
    ) -> Self {
        let last = rows.saturating_sub(1) * row_stride + columns.saturating_sub(1) * column_stride;
        assert!(rows == 0 || columns == 0 || last < data.len(), "a matrix lies inside its data");
        Self { data, rows, columns, row_stride, column_stride }
    }

    /// A dense matrix in row-major order.
    pub(crate) fn row_major(data: &'a [A], rows: usize, columns: usize) -> Self {
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

    /// `count` rows from `first` on.
    pub(crate) fn row_range(self, first: usize, count: usize) -> Self {
        let data = &self.data[(first * self.row_stride).min(self.data.len())..];
        Self::new(data, [count, self.columns], [self.row_stride, self.column_stride])
    }
}

/// `out = a·b`, or `out += a·b`, on this thread; `out` is dense, row-major.
pub(crate) fn product<A: Real>(a: Matrix<'_, A>, b: Matrix<'_, A>, out: &mut [A], add: bool) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(k, b.rows, "inner extents of a product");
    assert_eq!(out.len(), m * n, "elements of a product");
    if k == 0 && !add {
        out.fill(A::zero());
    }
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    // SAFETY: `Matrix::new` checked that a and b lie inside their slices, the assertion above that `out` holds m·n
    // elements; `out` is borrowed mutably, so it overlaps neither.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            A::one(),
            A::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// How many rows of a product one task computes: a function of the shape alone, so that the result does not depend on
/// the number of threads. About 16 tasks, each with enough rows to repay packing the other operand.
pub(crate) fn rows_per_task(rows: usize) -> usize {
    rows.div_ceil(16).next_multiple_of(16).clamp(64, 512)
}

/// Computes `a·b` in blocks of [`rows_per_task`] rows, in parallel. `finish` gets each block while it is in cache: its
/// entry of `parts` (what the task may write), its first row, and its values.
pub(crate) fn product_by_rows<A: Real, P: Send>(
    a: Matrix<'_, A>,
    b: Matrix<'_, A>,
    parts: Vec<P>,
    finish: impl Fn(P, usize, &mut [A]) + Sync,
) {
    let step = rows_per_task(a.rows);
    assert_eq!(parts.len(), a.rows.div_ceil(step), "one part for each block of rows");
    parts.into_par_iter().enumerate().for_each(|(block, part)| {
        let first = block * step;
        let rows = step.min(a.rows - first);
        with_scratch(rows * b.columns, |values| {
            product(a.row_range(first, rows), b, values, false);
            finish(part, first, values);
        });
    });
}

/// Runs `work` on a thread's own buffer of `len` numbers with any content. May be nested.
pub(crate) fn with_scratch<A: Real, R>(len: usize, work: impl FnOnce(&mut [A]) -> R) -> R {
    thread_local! {
        static FREE: RefCell<Vec<Vec<super::memory::Line>>> = const { RefCell::new(Vec::new()) };
    }
    let mut buffer = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    let lines = (len * size_of::<A>()).div_ceil(size_of::<super::memory::Line>());
    if buffer.len() < lines {
        buffer.resize(lines, bytemuck::Zeroable::zeroed());
    }
    let result = work(&mut bytemuck::cast_slice_mut(&mut buffer)[..len]);
    FREE.with_borrow_mut(|free| free.push(buffer));
    result
}
