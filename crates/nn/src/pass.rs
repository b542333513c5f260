//! [`Pass`]: one way through a model, for training or for inference.

use std::cell::RefCell;

use vitrine_autodiff::{Gradients, Tape, Var};
use vitrine_tensor::{StreamKey, Tensor};

use crate::dropout::Dropout;
use crate::error::Result;
use crate::parameters::{ParameterId, Parameters};

/// One way through a model: the tape, the parameters as variables, and where dropout draws its masks.
pub struct Pass<'a> {
    tape: Tape,
    parameters: &'a Parameters,
    variables: RefCell<Vec<Option<Var>>>,
    /// Seed and step; `None` outside training.
    masks: Option<(u64, u64)>,
}

impl<'a> Pass<'a> {
    /// A recorded pass with dropout; its masks are a function of `seed`, `step`, the layer and the element.
    pub fn training(parameters: &'a Parameters, seed: u64, step: u64) -> Self {
        Self::new(parameters, Tape::new(), Some((seed, step)))
    }

    /// A pass that records nothing and drops nothing.
    pub fn inference(parameters: &'a Parameters) -> Self {
        Self::new(parameters, Tape::inference(), None)
    }

    fn new(parameters: &'a Parameters, tape: Tape, masks: Option<(u64, u64)>) -> Self {
        let variables = RefCell::new(vec![None; parameters.infos().len()]);
        Self { tape, parameters, variables, masks }
    }

    /// The tape of this pass.
    pub fn tape(&self) -> &Tape {
        &self.tape
    }

    /// An input that needs no gradient, such as a batch of images.
    pub fn constant(&self, value: Tensor) -> Var {
        self.tape.constant(value)
    }

    /// A parameter; its gradient is added to the flat buffer.
    pub fn parameter(&self, id: ParameterId) -> Result<Var> {
        let known = self.variables.borrow().get(id.index()).cloned().flatten();
        if let Some(variable) = known {
            return Ok(variable);
        }
        let variable = self.variable(self.parameters.value(id)?, || self.parameters.grad(id))?;
        if let Some(entry) = self.variables.borrow_mut().get_mut(id.index()) {
            *entry = Some(variable.clone());
        }
        Ok(variable)
    }

    /// `count` rows of a parameter from `first` on: a part of fused weights.
    pub fn parameter_rows(&self, id: ParameterId, first: usize, count: usize) -> Result<Var> {
        let value = self.parameters.value(id)?.narrow(0, first, count)?;
        self.variable(value, || Ok(self.parameters.grad(id)?.narrow(0, first, count)?))
    }

    fn variable(&self, value: Tensor, grad: impl FnOnce() -> Result<Tensor>) -> Result<Var> {
        Ok(match self.tape.is_recording() {
            true => self.tape.parameter(value, grad()?)?,
            false => self.tape.constant(value),
        })
    }

    /// The mask of a dropout layer in this pass; `None` if nothing is dropped.
    pub fn mask(&self, dropout: &Dropout) -> Option<vitrine_tensor::Dropout> {
        let (seed, step) = self.masks?;
        let key = StreamKey { seed, step, stream: dropout.stream() };
        (dropout.probability() > 0.0)
            .then(|| vitrine_tensor::Dropout::new(dropout.probability(), key))
    }

    /// Differentiates a scalar of this pass: adds to the gradients of the parameters.
    pub fn backward(&self, loss: &Var) -> Result<Gradients> {
        Ok(self.tape.backward(loss)?)
    }
}
