//! Activation functions and dropout on their own; after a linear layer they are part of `linear`.

use vitrine_tensor::{Activation, Dropout};

use crate::Var;
use crate::error::Result;

impl Var {
    /// `activation(x)`, element by element.
    pub fn activate(&self, activation: Activation) -> Result<Self> {
        let x = self.value().clone();
        let value = x.activate(activation)?;
        self.record_one("activate", value, &[self.value()], move |dy| {
            x.activate_grad(activation, &dy)
        })
    }

    /// Sets a random share of the elements to 0 and scales the others. The mask is drawn again for the gradient.
    pub fn dropout(&self, dropout: Dropout) -> Result<Self> {
        let value = self.value().dropout(dropout)?;
        self.record_one("dropout", value, &[], move |dy| dy.dropout(dropout))
    }
}
