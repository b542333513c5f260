//! What the references of the operations are written with: arrays, sums with their terms, and dropout masks.

pub mod philox;

use ndarray::IxDyn;

/// Values in `f64` with any number of axes.
pub type Array = ndarray::ArrayD<f64>;

/// A sum of many terms, and the sum of their absolute values: rounding errors grow with the latter.
#[derive(Clone, Debug)]
pub struct Sum {
    /// `Σ terms`
    pub value: Array,
    /// `Σ |terms|`
    pub terms: Array,
}

impl Sum {
    pub(crate) fn zeros(shape: &[usize]) -> Self {
        Self { value: zeros(shape), terms: zeros(shape) }
    }
}

/// An array of zeros.
pub fn zeros(shape: &[usize]) -> Array {
    Array::zeros(IxDyn(shape))
}

/// An array from values in row-major order.
pub(crate) fn array(shape: &[usize], values: Vec<f64>) -> Array {
    Array::from_shape_vec(IxDyn(shape), values).expect("a reference fills its whole result")
}

/// The values of an array in row-major order.
pub fn flat(array: &Array) -> Vec<f64> {
    array.iter().copied().collect()
}

/// All axes but the last as one, and the last.
pub(crate) fn rows_and_width(array: &Array) -> (usize, usize) {
    let width = array.shape().last().copied().unwrap_or(1);
    (array.shape().iter().rev().skip(1).product(), width)
}
