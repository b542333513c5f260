//! How far a result may be off. One rule for all operations; what is looser than it says why.

use vitrine_tensor::DType;

/// The bound of one element: `relative·|expected| + absolute·min(1, largest |expected|)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// In parts of the expected value.
    pub relative: f64,
    /// For a result whose values are about 1; less where all are smaller.
    pub absolute: f64,
}

impl Tolerance {
    /// No difference at all: for operations that only move values.
    pub const EXACT: Self = Self { relative: 0.0, absolute: 0.0 };

    /// The tolerance for results of this element type. These are the ones that PyTorch's tests use.
    pub fn of(dtype: DType) -> Self {
        match dtype {
            DType::F64 => Self { relative: 1e-7, absolute: 1e-7 },
            DType::F32 => Self { relative: 1.3e-6, absolute: 1e-5 },
            DType::BF16 => Self { relative: 1.6e-2, absolute: 1e-5 },
            DType::U8 | DType::I64 => Self::EXACT,
        }
    }

    /// The bound for one expected value in a result whose largest value is `largest`.
    pub fn bound(&self, expected: f64, largest: f64) -> f64 {
        self.relative * expected.abs() + self.absolute * largest.min(1.0)
    }
}

/// What a sum adds to the bound: four roundings' worth of `Σ |terms|`.
///
/// The rounding error of a sum grows with the sum of the absolute values of its terms, not with the sum, which may be
/// near 0. In the worst case k terms err by `k·u·Σ|terms|`, with the unit roundoff `u` of the type that the sum is kept
/// in. With terms and roundings of random sign the partial sums are about `√i` terms large, and their k roundings add
/// up to about `u·Σ|terms|`: four times that is allowed.
pub fn of_sum(accumulator: DType, terms: f64) -> f64 {
    4.0 * unit_roundoff(accumulator) * terms
}

/// Half the distance from 1 to the next larger number.
pub fn unit_roundoff(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON / 2.0,
        DType::F32 => f64::from(f32::EPSILON) / 2.0,
        DType::BF16 => 0.5f64.powi(8),
        DType::U8 | DType::I64 => 0.0,
    }
}
