//! An operation of the user's own, with its gradient.

use vitrine_tensor::Tensor;

use super::Op;
use crate::Var;
use crate::backward::Flow;
use crate::error::{Error, Result};
use crate::tape::Inputs;

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

/// Saves inputs and result.
pub(crate) struct Custom {
    op: Box<dyn CustomOp>,
    inputs: Vec<Tensor>,
    output: Tensor,
}

impl Var {
    /// Applies and records an operation of your own. At least one input must be given.
    pub fn custom(op: impl CustomOp, inputs: &[&Self]) -> Result<Self> {
        let tensors: Vec<&Tensor> = inputs.iter().map(|input| input.value()).collect();
        let output = op.forward(&tensors)?;
        Self::record("custom", output.clone(), inputs, || {
            let inputs = inputs.iter().map(|input| input.value().clone()).collect();
            Op::Custom(Custom { op: Box::new(op), inputs, output })
        })
    }
}

impl Custom {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        let grads = self.op.backward(&self.inputs, &self.output, &dy)?;
        for (i, (&input, value)) in inputs.iter().zip(&self.inputs).enumerate() {
            let wrong = |found: &[usize]| Error::CustomGradient {
                op: self.op.name().to_owned(),
                input: i,
                expected: value.shape().to_vec(),
                found: found.to_vec(),
            };
            match grads.get(i) {
                None => return Err(wrong(&[])),
                Some(None) => {}
                Some(Some(grad)) if grad.shape() != value.shape() => {
                    return Err(wrong(grad.shape()));
                }
                Some(Some(grad)) => flow.add(input, grad.clone())?,
            }
        }
        Ok(())
    }
}
