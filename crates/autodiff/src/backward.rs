//! The way back: the operations from the last to the first, and the gradients on their way.

use vitrine_tensor::{DType, Error as TensorError, Tensor};

use crate::error::{Error, Result};
use crate::ops::Rule;
use crate::tape::{Node, NodeId, Tape, Var};

/// The gradients of a tape's variables. Those of parameters went to their own buffers.
pub struct Gradients {
    grads: Vec<Option<Tensor>>,
    /// Whose gradients these are.
    tape: Tape,
    round: u64,
}

impl Gradients {
    /// The gradient of a variable; `None` if the result does not depend on it, or if it is not of this tape.
    pub fn get(&self, variable: &Var) -> Option<&Tensor> {
        self.grads.get(variable.node_in(&self.tape, self.round)?)?.as_ref()
    }
}

impl Tape {
    /// Differentiates the scalar `result` for every variable and parameter of this tape, and empties the tape.
    ///
    /// Gradients of parameters are added to their buffers; those of variables are in the result.
    pub fn backward(&self, result: &Var) -> Result<Gradients> {
        if result.value().elements() != 1 {
            return Err(Error::NotScalar { shape: result.shape().to_vec() });
        }
        let value = result.value();
        let one = Tensor::full(value.shape(), 1.0, value.dtype(), value.device())?;
        self.backward_from(result, one)
    }

    /// As [`Tape::backward`], for a result of any shape whose gradient is given.
    pub fn backward_from(&self, result: &Var, grad: Tensor) -> Result<Gradients> {
        let op = "backward_from";
        if grad.shape() != result.shape() {
            let rule = "the gradient must have the result's shape";
            return Err(TensorError::shapes(op, result.shape(), grad.shape(), rule).into());
        }
        let (lhs, rhs) = (result.value().dtype(), grad.dtype());
        if lhs != rhs {
            return Err(TensorError::DTypeMismatch { op, lhs, rhs }.into());
        }
        let round = self.round();
        let last = result.node_in(self, round).ok_or(Error::NotRecorded)?;
        let mut flow = Flow::new(self.take());
        flow.add(Some(last), grad)?;
        while let Some(node) = flow.nodes.pop() {
            let id = flow.nodes.len();
            // A variable's gradient stays; any other is used up here, and the node's saved tensors with it.
            if matches!(node.rule, Rule::Leaf(_)) {
                continue;
            }
            let grads = (flow.grads[id].take(), flow.product_grads[id].take());
            if !matches!(grads, (None, None)) {
                node.check_saved()?;
            }
            match grads {
                (None, None) => {}
                (Some(grad), None) => node.rule.backward(grad, &node.inputs, &mut flow)?,
                (grad, Some(product)) => {
                    let Rule::Linear(op) = node.rule else {
                        unreachable!("`Flow::derivative` is that of a linear layer")
                    };
                    let product = match grad {
                        Some(grad) => product.add(&op.product_grad(&grad)?)?,
                        None => product,
                    };
                    op.backward_product(product, &node.inputs, &mut flow)?;
                }
            }
        }
        Ok(Gradients { grads: flow.grads, tape: self.clone(), round })
    }
}

/// Gradients on their way back.
pub(crate) struct Flow {
    /// What is still on the tape.
    nodes: Vec<Node>,
    grads: Vec<Option<Tensor>>,
    /// Gradients of linear layers for the value before their activation.
    product_grads: Vec<Option<Tensor>>,
}

impl Flow {
    fn new(nodes: Vec<Node>) -> Self {
        let none = vec![None; nodes.len()];
        Self { nodes, grads: none.clone(), product_grads: none }
    }

    /// The buffer of a parameter.
    fn slot(&self, id: NodeId) -> Option<&Tensor> {
        match &self.nodes[id].rule {
            Rule::Leaf(grad) => grad.as_ref(),
            _ => None,
        }
    }

    /// The derivative of what made an input, if that was an activation after a linear layer: the gradient may be given
    /// for the value before the activation, to [`Flow::add_to_product`].
    pub(crate) fn derivative(&self, input: Option<NodeId>) -> Option<&Tensor> {
        match &self.nodes[input?].rule {
            Rule::Linear(op) => op.derivative(),
            _ => None,
        }
    }

    /// As [`Flow::add`], for the value before an input's activation.
    pub(crate) fn add_to_product(&mut self, input: Option<NodeId>, grad: Tensor) -> Result<()> {
        let Some(id) = input else { return Ok(()) };
        add(&mut self.product_grads[id], grad)
    }

    /// Adds `grad` to what has come to an input so far. Does nothing for an input that needs no gradient.
    pub(crate) fn add(&mut self, input: Option<NodeId>, grad: Tensor) -> Result<()> {
        let Some(id) = input else { return Ok(()) };
        if let Some(slot) = self.slot(id) {
            return Ok(slot.add_scaled_(&grad, 1.0)?);
        }
        add(&mut self.grads[id], grad)
    }

    /// As [`Flow::add`], for a sum in the accumulator's type of an input of type `dtype`: a parameter's buffer of that
    /// type gets it as it is.
    pub(crate) fn add_wide(
        &mut self,
        input: Option<NodeId>,
        grad: Tensor,
        dtype: DType,
    ) -> Result<()> {
        let slot = input.and_then(|id| self.slot(id));
        let dtype = slot.map_or(dtype, Tensor::dtype);
        self.add(input, grad.to_dtype(dtype)?)
    }

    /// Adds `dyᵀ·x` to an input's gradient `[.., O, I]`, for each matrix of `dy [.., M, O]` and `x [.., M, I]`. A
    /// parameter's buffer of a wider type gets sums that were not rounded before.
    pub(crate) fn add_product(
        &mut self,
        input: Option<NodeId>,
        dy: &Tensor,
        x: &Tensor,
    ) -> Result<()> {
        let slot = input.and_then(|id| self.slot(id)).filter(|slot| slot.dtype() != x.dtype());
        let Some(slot) = slot else {
            let last = dy.rank() - 1;
            return self.add_with(input, || dy.transpose(last - 1, last)?.matmul(x));
        };
        let flat = |tensor: &Tensor| {
            let &[ref batch @ .., rows, columns] = tensor.shape() else {
                unreachable!("`matmul` takes matrices")
            };
            tensor.reshape(&[batch.iter().product(), rows, columns])
        };
        let (slot, dy, x) = (flat(slot)?, flat(dy)?, flat(x)?);
        for i in 0..dy.shape()[0] {
            let matrix = |tensor: &Tensor| tensor.narrow(0, i, 1)?.reshape(&tensor.shape()[1..]);
            matrix(&dy)?.linear_grad_weight_(&matrix(&x)?, &matrix(&slot)?, None)?;
        }
        Ok(())
    }

    /// As [`Flow::add`], for a gradient that is computed only where it is needed.
    pub(crate) fn add_with(
        &mut self,
        input: Option<NodeId>,
        grad: impl FnOnce() -> vitrine_tensor::Result<Tensor>,
    ) -> Result<()> {
        if input.is_some() { self.add(input, grad()?) } else { Ok(()) }
    }

    /// A dense tensor of `shape` that an operation may add an input's gradient to; `None` if the input needs no
    /// gradient. A second call for the same input, while the first one's tensor is in use, would orphan that.
    pub(crate) fn accumulator(
        &mut self,
        input: Option<NodeId>,
        shape: &[usize],
        like: &Tensor,
    ) -> Result<Option<Tensor>> {
        let Some(id) = input else { return Ok(None) };
        if let Some(slot) = self.slot(id) {
            return Ok(Some(slot.clone()));
        }
        let sum = match self.grads[id].take() {
            None => Tensor::zeros(shape, like.dtype(), like.device())?,
            Some(sum) if sum.is_sole_owner() && sum.is_contiguous() => sum,
            Some(sum) => sum.copy()?,
        };
        self.grads[id] = Some(sum.clone());
        Ok(Some(sum))
    }
}

/// Adds to a sum of gradients.
fn add(sum: &mut Option<Tensor>, grad: Tensor) -> Result<()> {
    *sum = Some(match sum.take() {
        None => grad,
        // In place where no other tensor would see it: a residual's gradient is shared until its branch is done.
        Some(sum) if sum.is_sole_owner() && sum.is_contiguous() => {
            sum.add_scaled_(&grad, 1.0)?;
            sum
        }
        Some(sum) => sum.add(&grad)?,
    });
    Ok(())
}
