//! A part of a model that keeps nothing but its input: backward runs it again. Memory for a part's activations is then
//! needed for one part at a time, for a third more arithmetic (Chen et al. 2016, "Training deep nets with sublinear
//! memory cost").

use vitrine_autodiff::{CustomOp, Error, Var};
use vitrine_tensor::Tensor;

use crate::error::Result;
use crate::pass::{Pass, Replay};

/// Runs `part` on `x` with nothing but `x` kept for backward. Results, gradients and masks are the same, bit for bit,
/// and buffers are updated once.
pub fn recompute(
    pass: &Pass<'_>,
    x: &Var,
    part: impl Fn(&Pass<'_>, &Var) -> Result<Var> + 'static,
) -> Result<Var> {
    if !pass.tape().is_recording() || pass.explains() {
        return part(pass, x);
    }
    Ok(Var::custom(Recomputed { part, replay: pass.replay()? }, &[x])?)
}

const NAME: &str = "recomputed part";

struct Recomputed<F> {
    part: F,
    replay: Replay,
}

impl<F: Fn(&Pass<'_>, &Var) -> Result<Var> + 'static> CustomOp for Recomputed<F> {
    fn name(&self) -> &str {
        NAME
    }

    fn forward(&self, inputs: &[&Tensor]) -> Result<Tensor, Error> {
        let pass = self.replay.first();
        let x = pass.constant(inputs[0].clone());
        Ok((self.part)(&pass, &x).map_err(failed)?.into_value())
    }

    /// The gradients of the part's parameters are added to their buffers on the way.
    fn backward(
        &self,
        inputs: &[Tensor],
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<Vec<Option<Tensor>>, Error> {
        let pass = self.replay.again(NAME)?;
        let x = pass.tape().variable(inputs[0].clone());
        let y = (self.part)(&pass, &x).map_err(failed)?;
        let grads = pass.tape().backward_from(&y, dy.clone())?;
        Ok(vec![grads.get(&x).cloned()])
    }
}

fn failed(error: crate::Error) -> Error {
    match error {
        crate::Error::Autodiff(error) => error,
        crate::Error::Tensor(error) => error.into(),
        other => Error::Custom { op: NAME.into(), message: other.to_string() },
    }
}
