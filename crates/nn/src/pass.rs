//! [`Pass`]: one way through a model, for training or for inference.

use std::cell::{OnceCell, RefCell};

use vitrine_autodiff::{Gradients, Tape, Var};
use vitrine_tensor::{DType, StreamKey, Tensor};

use crate::dropout::Dropout;
use crate::error::Result;
use crate::parameters::{BufferId, ParameterId, Parameters};

/// One way through a model: the tape, the parameters as variables, and where dropout draws its masks.
pub struct Pass<'a> {
    tape: Tape,
    parameters: &'a Parameters,
    /// The values in the type that is computed in.
    values: OnceCell<Tensor>,
    variables: RefCell<Vec<Option<Var>>>,
    /// Seed and step; `None` outside training.
    masks: Option<(u64, u64)>,
    /// Whether a part is run again, whose buffers were updated the first time.
    again: bool,
    /// The attention weights of each layer so far, where they are asked for.
    attention: Option<RefCell<Vec<AttentionWeights>>>,
}

/// The attention weights of one layer, softmax and all.
#[derive(Clone)]
pub struct AttentionWeights {
    /// `[B, H, N, N]`: for each query, the share of each key.
    pub weights: Tensor,
    /// Zeros that were added to them: its gradient is theirs.
    pub added: Var,
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

    /// A pass that drops nothing, and is recorded for the gradients of its inputs and of attention weights, which it
    /// keeps ([`Pass::attention`]). Parameters get none.
    pub fn explaining(parameters: &'a Parameters) -> Self {
        Self { attention: Some(RefCell::default()), ..Self::new(parameters, Tape::new(), None) }
    }

    fn new(parameters: &'a Parameters, tape: Tape, masks: Option<(u64, u64)>) -> Self {
        let variables = RefCell::new(vec![None; parameters.infos().len()]);
        Self {
            tape,
            parameters,
            values: OnceCell::new(),
            variables,
            masks,
            again: false,
            attention: None,
        }
    }

    /// Whether this is a pass of [`Pass::explaining`]: everything is computed in full then.
    pub fn explains(&self) -> bool {
        self.attention.is_some()
    }

    /// The attention weights of the layers so far, in their order, where they are kept.
    pub fn attention(&self) -> Vec<AttentionWeights> {
        self.attention.as_ref().map_or(Vec::new(), |kept| kept.borrow().clone())
    }

    /// Keeps attention weights `[B, H, N, N]`, where that is asked for; gives what is to be used in their place.
    pub(crate) fn keep_attention(&self, weights: Var) -> Result<Var> {
        let Some(kept) = &self.attention else { return Ok(weights) };
        let like = weights.value();
        let zeros = Tensor::zeros(like.shape(), like.dtype(), like.device())?;
        let added = self.tape.variable(zeros);
        kept.borrow_mut().push(AttentionWeights { weights: like.clone(), added: added.clone() });
        Ok(weights.add(&added)?)
    }

    /// The tape of this pass.
    pub fn tape(&self) -> &Tape {
        &self.tape
    }

    /// An input that needs no gradient, such as a batch of images.
    pub fn constant(&self, value: Tensor) -> Var {
        self.tape.constant(value)
    }

    /// The type that this pass computes in: that of the parameters as variables.
    pub fn dtype(&self) -> DType {
        self.parameters.compute_dtype()
    }

    /// All values: the parameters themselves, or copies rounded to the type that is computed in.
    fn values(&self) -> Result<&Tensor> {
        if let Some(values) = self.values.get() {
            return Ok(values);
        }
        let values = self.parameters.computed_values()?;
        Ok(self.values.get_or_init(|| values))
    }

    /// A parameter; its gradient is added to the flat buffer.
    pub fn parameter(&self, id: ParameterId) -> Result<Var> {
        let known = self.variables.borrow().get(id.index()).cloned().flatten();
        if let Some(variable) = known {
            return Ok(variable);
        }
        let value = self.parameters.view(self.values()?, id)?;
        let variable = self.variable(id, value, || self.parameters.grad(id))?;
        if let Some(entry) = self.variables.borrow_mut().get_mut(id.index()) {
            *entry = Some(variable.clone());
        }
        Ok(variable)
    }

    /// `count` rows of a parameter from `first` on, under a shape, which says how long a row is: a part of fused
    /// weights, or all of them as they are used. As a variable of its own: its gradient goes to the flat buffer as it
    /// is summed.
    pub fn parameter_rows(
        &self,
        id: ParameterId,
        first: usize,
        count: usize,
        shape: &[usize],
    ) -> Result<Var> {
        let length = shape.iter().product::<usize>() / count.max(1);
        let rows = |all: Tensor| {
            let all = all.reshape(&[all.elements() / length.max(1), length])?;
            all.narrow(0, first, count)?.reshape(shape)
        };
        let value = rows(self.parameters.view(self.values()?, id)?)?;
        self.variable(id, value, || Ok(rows(self.parameters.grad(id)?)?))
    }

    fn variable(
        &self,
        id: ParameterId,
        value: Tensor,
        grad: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Var> {
        Ok(match self.tape.is_recording() && !self.explains() && !self.is_frozen(id)? {
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

    /// A buffer's values, in the parameters' own type.
    pub fn buffer(&self, id: BufferId) -> Result<Tensor> {
        self.parameters.buffer(id)
    }

    /// Whether this is training.
    pub fn is_training(&self) -> bool {
        self.masks.is_some()
    }

    /// Whether a parameter gets no gradient: its layer stays as it is.
    pub fn is_frozen(&self, id: ParameterId) -> Result<bool> {
        Ok(self.parameters.info(id)?.group.frozen)
    }

    /// Sets a buffer in training; nothing happens in inference, nor where a part is run again for its gradient.
    pub fn update_buffer(&self, id: BufferId, values: &Tensor) -> Result<()> {
        let buffer = self.parameters.buffer(id)?;
        match self.is_training() && !self.again {
            true => Ok(buffer.copy_(values)?),
            false => Ok(()),
        }
    }

    /// What this pass computes with, for an operation that runs a part of it again in backward.
    pub(crate) fn replay(&self) -> Result<Replay> {
        let (parameters, values) = (self.parameters.clone(), self.values()?.clone());
        let writes = values.writes();
        Ok(Replay { parameters, values, writes, masks: self.masks })
    }

    /// Differentiates a scalar of this pass: adds to the gradients of the parameters.
    pub fn backward(&self, loss: &Var) -> Result<Gradients> {
        Ok(self.tape.backward(loss)?)
    }
}

/// What a [`Pass`] computes with: handles to the parameters, and the address of its masks.
pub(crate) struct Replay {
    parameters: Parameters,
    values: Tensor,
    /// The writes to the values before the first run.
    writes: u64,
    masks: Option<(u64, u64)>,
}

impl Replay {
    /// The first run, of which nothing is recorded.
    pub(crate) fn first(&self) -> Pass<'_> {
        self.pass(Tape::inference(), false)
    }

    /// The second run, with the same values and masks: an error if they are no longer the same. Gradients of parameters
    /// are added to the same buffer.
    pub(crate) fn again(&self, op: &'static str) -> vitrine_autodiff::Result<Pass<'_>> {
        match self.values.writes() == self.writes {
            true => Ok(self.pass(Tape::new(), true)),
            false => Err(vitrine_autodiff::Error::ChangedInPlace { op }),
        }
    }

    fn pass(&self, tape: Tape, again: bool) -> Pass<'_> {
        let pass = Pass::new(&self.parameters, tape, self.masks);
        Pass { values: OnceCell::from(self.values.clone()), again, ..pass }
    }
}
