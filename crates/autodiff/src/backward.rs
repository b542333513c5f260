//! The way back: one exhaustive match over the operations, and the gradients on their way.

use vitrine_tensor::Tensor;

use crate::error::{Error, Result};
use crate::ops::Op;
use crate::tape::{Node, NodeId, Tape, Var};

/// The gradients of a tape's variables. Those of parameters went to their own buffers.
pub struct Gradients {
    grads: Vec<Option<Tensor>>,
}

impl Gradients {
    /// The gradient of a variable; `None` if the result does not depend on it.
    pub fn get(&self, variable: &Var) -> Option<&Tensor> {
        self.grads.get(variable.node()?)?.as_ref()
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
        if grad.shape() != result.shape() {
            return Err(vitrine_tensor::Error::ShapeMismatch {
                op: "backward_from",
                lhs: result.shape().to_vec(),
                rhs: grad.shape().to_vec(),
                rule: "the gradient must have the result's shape",
            }
            .into());
        }
        let nodes = self.take();
        let last = result.node().filter(|&id| id < nodes.len()).ok_or(Error::NotRecorded)?;
        let mut flow = Flow { grads: vec![None; nodes.len()], slots: Vec::new() };
        flow.slots = nodes.iter().map(Node::slot).collect();
        flow.grads[last] = Some(grad);
        for (id, node) in nodes.into_iter().enumerate().rev() {
            // A variable's gradient stays; any other is used up here, and the node's saved tensors with it.
            if matches!(node.op, Op::Leaf(_)) {
                continue;
            }
            if let Some(grad) = flow.grads[id].take() {
                step(node, grad, &mut flow)?;
            }
        }
        Ok(Gradients { grads: flow.grads })
    }
}

impl Node {
    fn slot(&self) -> Option<Tensor> {
        match &self.op {
            Op::Leaf(grad) => grad.clone(),
            _ => None,
        }
    }
}

/// Hands the gradient of one operation on to its inputs.
fn step(node: Node, dy: Tensor, flow: &mut Flow) -> Result<()> {
    let inputs = node.inputs.as_slice();
    match node.op {
        Op::Leaf(_) => Ok(()),
        Op::Binary(op) => op.backward(dy, inputs, flow),
        Op::Scale(op) => op.backward(dy, inputs, flow),
        Op::SumAxis(op) => op.backward(dy, inputs, flow),
        Op::Reshape(op) => op.backward(dy, inputs, flow),
        Op::Permute(op) => op.backward(dy, inputs, flow),
        Op::Narrow(op) => op.backward(dy, inputs, flow),
        Op::Concat(op) => op.backward(dy, inputs, flow),
        Op::Cast(op) => op.backward(dy, inputs, flow),
        Op::Linear(op) => op.backward(dy, inputs, flow),
        Op::Matmul(op) => op.backward(dy, inputs, flow),
        Op::Activate(op) => op.backward(dy, inputs, flow),
        Op::Dropout(op) => op.backward(dy, inputs, flow),
        Op::LayerNorm(op) => op.backward(dy, inputs, flow),
        Op::Softmax(op) => op.backward(dy, inputs, flow),
        Op::Attention(op) => op.backward(dy, inputs, flow),
        Op::CrossEntropy(op) => op.backward(dy, inputs, flow),
        Op::Patchify(op) => op.backward(dy, inputs, flow),
        Op::EmbedTokens(op) => op.backward(dy, inputs, flow),
        Op::Custom(op) => op.backward(dy, inputs, flow),
    }
}

/// Gradients on their way back.
pub(crate) struct Flow {
    grads: Vec<Option<Tensor>>,
    /// The buffers of parameters.
    slots: Vec<Option<Tensor>>,
}

impl Flow {
    /// Adds `grad` to what has come to an input so far. Does nothing for an input that needs no gradient.
    pub(crate) fn add(&mut self, input: Option<NodeId>, grad: Tensor) -> Result<()> {
        let Some(id) = input else { return Ok(()) };
        if let Some(slot) = &self.slots[id] {
            return Ok(slot.add_scaled_(&grad, 1.0)?);
        }
        self.grads[id] = Some(match self.grads[id].take() {
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

    /// A dense tensor that an operation may add an input's gradient to; `None` if the input needs no gradient.
    pub(crate) fn accumulator(
        &mut self,
        input: Option<NodeId>,
        like: &Tensor,
    ) -> Result<Option<Tensor>> {
        let Some(id) = input else { return Ok(None) };
        if let Some(slot) = &self.slots[id] {
            if slot.is_contiguous() {
                return Ok(Some(slot.clone()));
            }
        }
        let sum = match self.grads[id].take() {
            None => Tensor::zeros(like.shape(), like.dtype(), like.device())?,
            Some(sum) if sum.is_sole_owner() && sum.is_contiguous() => sum,
            Some(sum) => sum.copy()?,
        };
        self.grads[id] = Some(sum.clone());
        Ok(Some(sum))
    }
}
