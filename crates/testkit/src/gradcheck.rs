//! Gradients against central differences, `(f(x + h) − f(x − h))/2h`, in `f64`. Knows no tape: it takes closures.

use std::fmt;

use vitrine_tensor::{DType, Result, Tensor};

use crate::reference::{Array, array};

/// The step h. The error is about `h²·f‴/6 + 10⁻¹⁶·|f|/h`: with this step some 1e-10 where f and its derivatives
/// are about 1.
const STEP: f64 = 1e-5;

/// The difference allowed, in parts of the largest gradient of an input and of 1 %: far above the error of the
/// differences, far below any wrong formula.
const TOLERANCE: f64 = 1e-6;

/// A gradient that is not the one of central differences.
#[derive(Clone, Debug, PartialEq)]
pub enum GradientError {
    /// An element differs.
    Value {
        /// Which input.
        input: usize,
        /// Which element of it, in row-major order.
        index: usize,
        /// The gradient that was given.
        analytic: f64,
        /// The gradient by central differences.
        numeric: f64,
    },
    /// The gradients are not one for each input, of its shape.
    Shape {
        /// Which input.
        input: usize,
    },
    /// An input is not `f64`.
    DType {
        /// Which input.
        input: usize,
        /// Its element type.
        dtype: DType,
    },
    /// The function failed.
    Function(vitrine_tensor::Error),
}

impl fmt::Display for GradientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { input, index, analytic, numeric } => write!(
                f,
                "gradient of input {input} at {index} is {analytic:e}, by central differences {numeric:e}"
            ),
            Self::Shape { input } => write!(f, "no gradient of input {input}'s shape"),
            Self::DType { input, dtype } => {
                write!(f, "input {input} is {dtype}; gradients are checked in f64")
            }
            Self::Function(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for GradientError {}

impl From<vitrine_tensor::Error> for GradientError {
    fn from(error: vitrine_tensor::Error) -> Self {
        Self::Function(error)
    }
}

/// Compares gradients that some code computed with central differences of `f`, a function of `f64` tensors whose
/// result has one element. `analytic` holds one gradient for each input.
///
/// ```
/// use vitrine_tensor::{Device, Tensor};
/// let x = Tensor::from_slice(&[1.0, -2.0], &[2], &Device::cpu())?;
/// let square_sum = |x: &[Tensor]| x[0].mul(&x[0])?.sum();
/// vitrine_testkit::gradcheck::check(square_sum, &[x.clone()], &[x.scale(2.0)?])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check(
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    analytic: &[Tensor],
) -> std::result::Result<(), GradientError> {
    if let Some((input, x)) = inputs.iter().enumerate().find(|(_, x)| x.dtype() != DType::F64) {
        return Err(GradientError::DType { input, dtype: x.dtype() });
    }
    let host = |tensors: &[Tensor]| -> Result<Vec<Array>> {
        tensors.iter().map(|t| Ok(array(t.shape(), t.to_f64_vec()?))).collect()
    };
    let values = host(inputs)?;
    let mut failed = None;
    let numeric = central(
        |arrays| {
            let tensors = arrays.iter().zip(inputs).map(|(array, like)| {
                Tensor::from_slice(&crate::reference::flat(array), array.shape(), like.device())
            });
            let value = tensors.collect::<Result<Vec<_>>>().and_then(|x| f(&x)?.to_scalar());
            value.unwrap_or_else(|error| {
                failed = Some(error);
                f64::NAN
            })
        },
        &values,
    );
    match failed {
        Some(error) => Err(error.into()),
        None => compare(&numeric, &host(analytic)?),
    }
}

/// The gradients of `f` by central differences, one for each input.
pub fn central(mut f: impl FnMut(&[Array]) -> f64, inputs: &[Array]) -> Vec<Array> {
    let mut moved = inputs.to_vec();
    let gradient = |input: usize| {
        let mut gradient = Vec::with_capacity(inputs[input].len());
        for (index, &x) in inputs[input].iter().enumerate() {
            let mut at = |x: f64| {
                *moved[input].iter_mut().nth(index).expect("the copy has the same elements") = x;
                f(&moved)
            };
            let difference = at(x + STEP) - at(x - STEP);
            at(x);
            gradient.push(difference / (2.0 * STEP));
        }
        array(inputs[input].shape(), gradient)
    };
    (0..inputs.len()).map(gradient).collect()
}

/// Compares gradients with those of [`central`].
pub fn compare(numeric: &[Array], analytic: &[Array]) -> std::result::Result<(), GradientError> {
    for (input, numeric) in numeric.iter().enumerate() {
        let analytic = analytic.get(input).filter(|a| a.shape() == numeric.shape());
        let Some(analytic) = analytic else { return Err(GradientError::Shape { input }) };
        let largest = numeric.iter().fold(0.01, |top: f64, g| top.max(g.abs()));
        for (index, (&analytic, &numeric)) in analytic.iter().zip(numeric).enumerate() {
            let error = (analytic - numeric).abs();
            if error.is_nan() || error > TOLERANCE * largest {
                return Err(GradientError::Value { input, index, analytic, numeric });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vitrine_tensor::Device;

    fn cube_sum(x: &[Tensor]) -> Result<Tensor> {
        x[0].mul(&x[0])?.mul(&x[0])?.sum()
    }

    #[test]
    fn right_gradients_pass_and_wrong_ones_do_not() {
        let x = Tensor::from_slice(&[0.5, -1.0, 2.0], &[3], &Device::cpu()).unwrap();
        let right = x.mul(&x).unwrap().scale(3.0).unwrap();
        let inputs = std::slice::from_ref(&x);
        check(cube_sum, inputs, std::slice::from_ref(&right)).unwrap();
        for wrong in [right.scale(1.00001).unwrap(), right.scale(-1.0).unwrap()] {
            let verdict = check(cube_sum, inputs, &[wrong]);
            assert!(matches!(verdict, Err(GradientError::Value { .. })));
        }
        right.narrow(0, 1, 1).unwrap().fill_(f64::NAN).unwrap();
        let verdict = check(cube_sum, inputs, &[right]);
        assert!(matches!(verdict, Err(GradientError::Value { index: 1, .. })));
        assert_eq!(check(cube_sum, inputs, &[]), Err(GradientError::Shape { input: 0 }));
    }

    #[test]
    fn other_element_types_and_errors_of_the_function_are_errors() {
        let x = Tensor::from_slice(&[1.0f32], &[1], &Device::cpu()).unwrap();
        let verdict = check(cube_sum, std::slice::from_ref(&x), std::slice::from_ref(&x));
        assert_eq!(verdict, Err(GradientError::DType { input: 0, dtype: DType::F32 }));
        let x = Tensor::from_slice(&[1.0], &[1], &Device::cpu()).unwrap();
        let verdict =
            check(|x| x[0].reshape(&[2]), std::slice::from_ref(&x), std::slice::from_ref(&x));
        assert!(matches!(verdict, Err(GradientError::Function(_))));
    }
}
