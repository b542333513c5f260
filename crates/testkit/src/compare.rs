//! [`Comparison`]: a result beside what was expected, and the verdict. NaN never passes, not even where it is expected.

use std::fmt;

use vitrine_tensor::{DType, Result, Tensor};

use crate::reference::{Array, Sum};
use crate::tolerance::{self, Tolerance};

/// One output of an operation beside its reference.
pub struct Comparison {
    output: &'static str,
    dtype: DType,
    shape: Vec<usize>,
    actual: Vec<f64>,
    expected: Array,
    tolerance: Tolerance,
    /// The largest finite expected value.
    largest: f64,
    /// Added to each element's bound.
    slack: Vec<f64>,
}

/// The element that is furthest out of bounds.
#[derive(Clone, Debug, PartialEq)]
pub enum Mismatch {
    /// The result has another shape.
    Shape {
        /// The shape found.
        actual: Vec<usize>,
        /// The shape expected.
        expected: Vec<usize>,
    },
    /// A value is out of bounds.
    Value {
        /// Position in row-major order.
        index: usize,
        /// The value found.
        actual: f64,
        /// The value expected.
        expected: f64,
        /// The largest difference allowed.
        bound: f64,
        /// How many values are out of bounds.
        wrong: usize,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape { actual, expected } => {
                write!(f, "shape {actual:?}, expected {expected:?}")
            }
            Self::Value { index, actual, expected, bound, wrong } => {
                let error = (actual - expected).abs();
                write!(
                    f,
                    "{wrong} wrong; worst at {index}: {actual:e}, expected {expected:e} \
                     (error {error:.2e}, allowed {bound:.2e})"
                )
            }
        }
    }
}

fn largest(values: &Array) -> f64 {
    values.iter().filter(|v| v.is_finite()).fold(0.0, |top, v| v.abs().max(top))
}

impl Comparison {
    /// Compares with the tolerance of the tensor's element type.
    pub fn new(output: &'static str, actual: &Tensor, expected: &Array) -> Result<Self> {
        Ok(Self {
            output,
            dtype: actual.dtype(),
            shape: actual.shape().to_vec(),
            actual: actual.to_f64_vec()?,
            expected: expected.clone(),
            tolerance: Tolerance::of(actual.dtype()),
            largest: largest(expected),
            slack: vec![0.0; expected.len()],
        })
    }

    /// Compares the result of a sum: [`tolerance::of_sum`] is added, for sums kept in the accumulator of the type.
    pub fn of_sum(output: &'static str, actual: &Tensor, expected: &Sum) -> Result<Self> {
        let accumulator = actual.dtype().accumulator();
        Ok(Self::new(output, actual, &expected.value)?.loosened(accumulator, &expected.terms))
    }

    /// Adds the error of a sum with these absolute terms that is kept in `accumulator`.
    pub fn loosened(mut self, accumulator: DType, terms: &Array) -> Self {
        for (slack, &terms) in self.slack.iter_mut().zip(terms) {
            *slack += tolerance::of_sum(accumulator, terms);
        }
        self
    }

    /// Takes the size of the values from these alone: the others are guards.
    pub(crate) fn sized_by(self, values: &Array) -> Self {
        Self { largest: largest(values), ..self }
    }

    /// Allows no difference: the operation only moves values.
    pub fn exact(self) -> Self {
        Self { tolerance: Tolerance::EXACT, ..self }
    }

    /// Which output this is.
    pub fn output(&self) -> &'static str {
        self.output
    }

    /// The element type of the output.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The values found, in row-major order.
    pub fn actual(&self) -> &[f64] {
        &self.actual
    }

    /// The largest error in parts of what is allowed, or the worst mismatch.
    pub fn verdict(&self) -> std::result::Result<f64, Mismatch> {
        self.judge(false)
    }

    /// As [`Comparison::verdict`], for inputs with a NaN or an infinity: where a number that is not finite is expected,
    /// one must come out, and nowhere else. Which one, the order of the arithmetic decides (infinity minus infinity).
    pub(crate) fn verdict_nonfinite(&self) -> std::result::Result<f64, Mismatch> {
        self.judge(true)
    }

    fn judge(&self, nonfinite: bool) -> std::result::Result<f64, Mismatch> {
        if self.shape != self.expected.shape() {
            return Err(Mismatch::Shape {
                actual: self.shape.clone(),
                expected: self.expected.shape().to_vec(),
            });
        }
        let (mut worst, mut wrong, mut at) = (0.0, 0, 0);
        // What surrounds a number that is not finite may not say how far others may be off.
        let slack =
            |i: usize| if nonfinite && !self.slack[i].is_finite() { 0.0 } else { self.slack[i] };
        let bound = |i: usize, expected| self.tolerance.bound(expected, self.largest) + slack(i);
        for (i, (&actual, &expected)) in self.actual.iter().zip(&self.expected).enumerate() {
            let ratio = match (actual - expected).abs() / bound(i, expected) {
                _ if actual == expected => 0.0,
                _ if nonfinite && !actual.is_finite() && !expected.is_finite() => 0.0,
                _ if !actual.is_finite() || !expected.is_finite() => f64::INFINITY,
                ratio if ratio.is_nan() => f64::INFINITY,
                ratio => ratio,
            };
            wrong += usize::from(ratio > 1.0);
            if ratio > worst {
                (worst, at) = (ratio, i);
            }
        }
        if wrong == 0 {
            return Ok(worst);
        }
        let expected = *self.expected.iter().nth(at).expect("`at` is one of the elements");
        let (actual, bound) = (self.actual[at], bound(at, expected));
        Err(Mismatch::Value { index: at, actual, expected, bound, wrong })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vitrine_tensor::Device;

    fn verdict(actual: &[f32], expected: &[f64]) -> std::result::Result<f64, Mismatch> {
        let tensor = Tensor::from_slice(actual, &[actual.len()], &Device::cpu()).unwrap();
        let expected = crate::reference::array(&[expected.len()], expected.to_vec());
        Comparison::new("x", &tensor, &expected).unwrap().verdict()
    }

    #[test]
    fn nan_never_passes() {
        for expected in [1.0, f64::NAN, f64::INFINITY] {
            assert!(verdict(&[f32::NAN], &[expected]).is_err(), "{expected}");
        }
        assert!(verdict(&[1.0], &[f64::NAN]).is_err());
        assert!(verdict(&[f32::INFINITY], &[1.0]).is_err());
        assert!(verdict(&[f32::NEG_INFINITY], &[f64::NEG_INFINITY]).is_ok());
    }

    #[test]
    fn the_worst_element_is_named() {
        let Err(Mismatch::Value { index, wrong, .. }) = verdict(&[1.0, 2.1, 3.5], &[1.0, 2.0, 3.0])
        else {
            panic!("two values are wrong")
        };
        assert_eq!((index, wrong), (2, 2));
        assert!(verdict(&[1.000001], &[1.0]).is_ok());
        assert!(verdict(&[1.0], &[1.0, 2.0]).is_err());
    }

    #[test]
    fn small_results_get_a_small_absolute_bound() {
        assert!(verdict(&[1.0e-6, 2.0e-6], &[1.0e-6, 2.1e-6]).is_err());
    }
}
