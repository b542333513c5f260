//! Decompositions of matrices by LAPACK, on the host: row-major values in, row-major values out. They need the feature
//! `linalg`; without it each is an error that says so.
//!
//! OpenBLAS splits its sums by the number of its threads, so it is told to use one: results are the same on every run.

use crate::error::{Error, Result};

#[cfg(feature = "linalg")]
pub(crate) use with_lapack::{Real, eigenvectors, qr};
#[cfg(not(feature = "linalg"))]
pub(crate) use without::{Real, eigenvectors, qr};

#[cfg(feature = "linalg")]
mod with_lapack {
    use std::ffi::c_int;
    use std::sync::Once;

    use ndarray::Array2;
    use ndarray_linalg::{Eigh, Lapack, QR, Scalar, UPLO};

    use super::{Error, Result};

    /// What LAPACK computes in.
    pub(crate) trait Real: Lapack + Scalar<Real = Self> {}
    impl Real for f32 {}
    impl Real for f64 {}

    fn matrix<T: Real>(op: &'static str, values: Vec<T>, rows: usize) -> Result<Array2<T>> {
        // SAFETY: this is its declaration in OpenBLAS' `cblas.h`.
        unsafe extern "C" {
            fn openblas_set_num_threads(threads: c_int);
        }
        static ONE_THREAD: Once = Once::new();
        // SAFETY: OpenBLAS, which this feature links, has this function; it takes any number.
        ONE_THREAD.call_once(|| unsafe { openblas_set_num_threads(1) });
        let columns = values.len() / rows.max(1);
        Array2::from_shape_vec((rows, columns), values).map_err(|e| failed(op, e))
    }

    fn failed(op: &'static str, error: impl ToString) -> Error {
        Error::Linalg { op, message: error.to_string() }
    }

    /// The eigenvectors of a symmetric matrix `[n, n]`, columns, the largest eigenvalue's first.
    pub(crate) fn eigenvectors<T: Real>(op: &'static str, values: Vec<T>) -> Result<Vec<T>> {
        let n = values.len().isqrt();
        let symmetric = matrix(op, values, n)?;
        let (_, vectors) = symmetric.eigh(UPLO::Lower).map_err(|e| failed(op, e))?;
        Ok((0..n * n).map(|i| vectors[(i / n, n - 1 - i % n)]).collect())
    }

    /// Q `[rows, min(rows, columns)]` and R's diagonal.
    pub(crate) fn qr<T: Real>(
        op: &'static str,
        values: Vec<T>,
        rows: usize,
    ) -> Result<(Vec<T>, Vec<T>)> {
        let (q, r) = matrix(op, values, rows)?.qr().map_err(|e| failed(op, e))?;
        Ok((q.iter().copied().collect(), r.diag().to_vec()))
    }
}

#[cfg(not(feature = "linalg"))]
mod without {
    use super::{Error, Result};

    pub(crate) trait Real {}
    impl<T> Real for T {}

    pub(crate) fn eigenvectors<T: Real>(what: &'static str, _: Vec<T>) -> Result<Vec<T>> {
        Err(Error::LinalgOff { what })
    }

    pub(crate) fn qr<T: Real>(what: &'static str, _: Vec<T>, _: usize) -> Result<(Vec<T>, Vec<T>)> {
        Err(Error::LinalgOff { what })
    }
}
