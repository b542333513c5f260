//! A block that keeps nothing but its input: backward runs it again. Memory for a block's activations is then needed
//! for one block at a time, for a third more arithmetic (Chen et al. 2016, "Training deep nets with sublinear memory
//! cost").

use vitrine_autodiff::{CustomOp, Error, Tape, Var};
use vitrine_nn::{Pass, Replay, Result};
use vitrine_tensor::Tensor;

use crate::block::Block;

/// How a block is run: for all tokens, or for the first alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokens {
    All,
    First,
}

impl Block {
    /// Runs the block, for all tokens or for the first.
    pub(crate) fn run(&self, pass: &Pass<'_>, x: &Var, tokens: Tokens) -> Result<Var> {
        match tokens {
            Tokens::All => self.forward(pass, x, None),
            Tokens::First => self.forward_first(pass, x),
        }
    }

    /// As [`Block::run`], with nothing but `x` kept for backward. Results, gradients and masks are the same, bit for
    /// bit.
    pub(crate) fn run_recomputed(&self, pass: &Pass<'_>, x: &Var, tokens: Tokens) -> Result<Var> {
        let recomputed = Recomputed { block: self.clone(), tokens, replay: pass.replay()? };
        Ok(Var::custom(recomputed, &[x])?)
    }
}

struct Recomputed {
    block: Block,
    tokens: Tokens,
    replay: Replay,
}

impl CustomOp for Recomputed {
    fn name(&self) -> &str {
        "recomputed block"
    }

    fn forward(&self, inputs: &[&Tensor]) -> Result<Tensor, Error> {
        let pass = self.replay.pass(Tape::inference());
        let x = pass.constant(inputs[0].clone());
        Ok(self.block.run(&pass, &x, self.tokens).map_err(|e| failed(self, e))?.into_value())
    }

    /// The gradients of the block's parameters are added to their buffers on the way.
    fn backward(
        &self,
        inputs: &[Tensor],
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<Vec<Option<Tensor>>, Error> {
        let pass = self.replay.pass(Tape::new());
        let x = pass.tape().variable(inputs[0].clone());
        let y = self.block.run(&pass, &x, self.tokens).map_err(|e| failed(self, e))?;
        let grads = pass.tape().backward_from(&y, dy.clone())?;
        Ok(vec![grads.get(&x).cloned()])
    }
}

fn failed(op: &Recomputed, error: vitrine_nn::Error) -> Error {
    match error {
        vitrine_nn::Error::Autodiff(error) => error,
        vitrine_nn::Error::Tensor(error) => error.into(),
        other => Error::Custom { op: op.name().to_owned(), message: other.to_string() },
    }
}
