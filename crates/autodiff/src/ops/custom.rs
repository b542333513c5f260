//! An operation of the user's own, with its gradient.

use vitrine_tensor::Tensor;

use crate::Var;
use crate::error::{Error, Result};

/// An operation that this crate does not have.
///
/// ```
/// use vitrine_autodiff::{CustomOp, Result, Tape, Var};
/// use vitrine_tensor::{Device, Tensor};
///
/// /// `y = x³`
/// struct Cube;
/// impl CustomOp for Cube {
///     fn name(&self) -> &str { "cube" }
///     fn forward(&self, inputs: &[&Tensor]) -> Result<Tensor> {
///         Ok(inputs[0].mul(inputs[0])?.mul(inputs[0])?)
///     }
///     fn backward(&self, inputs: &[Tensor], _: &Tensor, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
///         Ok(vec![Some(inputs[0].mul(&inputs[0])?.scale(3.0)?.mul(dy)?)])
///     }
/// }
///
/// let tape = Tape::new();
/// let x = tape.variable(Tensor::from_slice(&[2.0f64], &[1], &Device::cpu())?);
/// let y = Var::custom(Cube, &[&x])?.sum()?;
/// assert_eq!(tape.backward(&y)?.get(&x).unwrap().to_vec::<f64>()?, [12.0]);
/// # Ok::<(), vitrine_autodiff::Error>(())
/// ```
pub trait CustomOp: 'static {
    /// What errors call it.
    fn name(&self) -> &str;
    /// The result.
    fn forward(&self, inputs: &[&Tensor]) -> Result<Tensor>;
    /// The gradient of each input, given the inputs, the result, and the result's gradient. `None` for an input that
    /// has none.
    fn backward(
        &self,
        inputs: &[Tensor],
        output: &Tensor,
        dy: &Tensor,
    ) -> Result<Vec<Option<Tensor>>>;
}

impl Var {
    /// Applies and records an operation of your own. At least one input must be given.
    pub fn custom(op: impl CustomOp, inputs: &[&Self]) -> Result<Self> {
        let mut saved: Vec<&Tensor> = inputs.iter().map(|input| input.value()).collect();
        let output = op.forward(&saved)?;
        let result = output.clone();
        saved.push(&result);
        let values: Vec<Tensor> = inputs.iter().map(|input| input.value().clone()).collect();
        Self::record("custom", result.clone(), inputs, &saved, move |dy, inputs, flow| {
            let grads = op.backward(&values, &output, &dy)?;
            let (op, expected, found) = (op.name().to_owned(), values.len(), grads.len());
            if found != expected {
                return Err(Error::CustomGradients { op, expected, found });
            }
            for (i, (grad, value)) in grads.into_iter().zip(&values).enumerate() {
                let Some(grad) = grad else { continue };
                let form = |tensor: &Tensor| (tensor.shape().to_vec(), tensor.dtype());
                let (expected, found) = (form(value), form(&grad));
                if found != expected {
                    return Err(Error::CustomGradient { op, input: i, expected, found });
                }
                flow.add(inputs[i], grad)?;
            }
            Ok(())
        })
    }
}
