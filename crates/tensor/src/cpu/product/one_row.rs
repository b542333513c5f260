//! The product of one row with a matrix. Each number of the matrix is used once, so nothing is packed.

use super::super::number::{Number, sum_of};
use super::Matrix;
use crate::simd;

/// `out = a·b` for a of one row.
pub(crate) fn one_row<T: Number>(a: Matrix<'_, T>, b: Matrix<'_, T>, out: &mut [T::Acc]) {
    assert_eq!((a.rows, a.columns, b.columns), (1, b.rows, out.len()), "extents of a product");
    out.fill(num_traits::Zero::zero());
    if b.rows == 0 {
        return;
    }
    if b.row_stride == 1 && a.column_stride == 1 {
        for (j, out) in out.iter_mut().enumerate() {
            *out = dot(&a.tail(0, 0)[..b.rows], &b.tail(0, j)[..b.rows]);
        }
        return;
    }
    for k in 0..b.rows {
        let factor = a.tail(0, k)[0].widen();
        if b.column_stride == 1 {
            add_scaled(&b.tail(k, 0)[..b.columns], factor, out);
            continue;
        }
        for (j, out) in out.iter_mut().enumerate() {
            *out = *out + factor * b.tail(k, j)[0].widen();
        }
    }
}

simd! {
    fn add_scaled<T: Number>(from: &[T], factor: T::Acc, to: &mut [T::Acc]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *to + factor * from.widen();
        }
    }

    fn dot<T: Number>(a: &[T], b: &[T]) -> T::Acc {
        sum_of([a, b], |[a, b]| a * b)
    }
}
