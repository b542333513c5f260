//! Activation functions and dropout on their own; after a linear layer they are part of `linear`.

use vitrine_tensor::{Activation, Dropout, Tensor};

use super::Op;
use crate::Var;
use crate::backward::Flow;
use crate::error::Result;
use crate::tape::Inputs;

/// Saves the input.
pub(crate) struct Activate {
    x: Tensor,
    activation: Activation,
}

impl Var {
    /// `activation(x)`, element by element.
    pub fn activate(&self, activation: Activation) -> Result<Self> {
        let value = self.value().activate(activation)?;
        Self::record("activate", value, &[self], || {
            Op::Activate(Activate { x: self.value().clone(), activation })
        })
    }
}

impl Activate {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        flow.add(inputs[0], self.x.activate_grad(self.activation, &dy)?)
    }
}

/// Saves the address of the mask, which is drawn again.
pub(crate) struct DropoutOp(Dropout);

impl Var {
    /// Sets a random share of the elements to 0 and scales the others.
    pub fn dropout(&self, dropout: Dropout) -> Result<Self> {
        let value = self.value().dropout(dropout)?;
        Self::record("dropout", value, &[self], || Op::Dropout(DropoutOp(dropout)))
    }
}

impl DropoutOp {
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        flow.add(inputs[0], dy.dropout(self.0)?)
    }
}
