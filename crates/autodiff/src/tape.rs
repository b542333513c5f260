//! [`Tape`] and [`Var`]: what is recorded. How gradients flow back is in `backward`, the operations are in `ops`.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use vitrine_tensor::{Error as TensorError, Tensor};

use crate::backward::Flow;
use crate::error::{Error, Result};
use crate::ops::Rule;

/// The number of a recorded operation: its place on the tape.
pub(crate) type NodeId = usize;

/// What made each input of an operation; `None` for inputs that need no gradient.
pub(crate) type Inputs = [Option<NodeId>];

/// A recorded operation.
pub(crate) struct Node {
    /// What it is called, for people who print a tape.
    name: &'static str,
    pub(crate) rule: Rule,
    /// What the rule needs as it was, each with the count of writes to it.
    saved: Vec<(Tensor, u64)>,
    /// As [`Inputs`].
    pub(crate) inputs: Vec<Option<NodeId>>,
}

impl Node {
    /// Whether all that was saved is as it was.
    pub(crate) fn check_saved(&self) -> Result<()> {
        match self.saved.iter().all(|(tensor, writes)| tensor.writes() == *writes) {
            true => Ok(()),
            false => Err(Error::ChangedInPlace { op: self.name }),
        }
    }
}

/// What a tape holds.
#[derive(Default)]
struct Record {
    nodes: Vec<Node>,
    /// How often backward emptied the tape: a variable from before must not be taken for one from after.
    round: u64,
}

/// A list of recorded operations. Cloning gives another handle to the same list.
#[derive(Clone)]
pub struct Tape {
    record: Option<Rc<RefCell<Record>>>,
}

impl Default for Tape {
    fn default() -> Self {
        Self::new()
    }
}

impl Tape {
    /// A tape that records.
    pub fn new() -> Self {
        Self { record: Some(Rc::default()) }
    }

    /// A tape that records nothing: for evaluation.
    pub fn inference() -> Self {
        Self { record: None }
    }

    /// Whether operations are recorded.
    pub fn is_recording(&self) -> bool {
        self.record.is_some()
    }

    /// The number of operations recorded since the tape was new or last emptied by backward.
    pub fn len(&self) -> usize {
        self.record.as_ref().map_or(0, |record| record.borrow().nodes.len())
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An input that needs no gradient.
    pub fn constant(&self, value: Tensor) -> Var {
        Var { value, node: None, round: self.round(), tape: self.clone() }
    }

    /// An input whose gradient [`Tape::backward`] gives.
    pub fn variable(&self, value: Tensor) -> Var {
        self.leaf(value, None)
    }

    /// An input whose gradient is added to `grad`, a dense tensor of the same shape: a view of a flat gradient buffer.
    /// The gradient of a `bf16` value may be `f32`.
    pub fn parameter(&self, value: Tensor, grad: Tensor) -> Result<Var> {
        let op = "parameter";
        if grad.shape() != value.shape() {
            let rule = "a parameter and its gradient must have one shape";
            return Err(TensorError::shapes(op, value.shape(), grad.shape(), rule).into());
        }
        let (lhs, rhs) = (value.dtype(), grad.dtype());
        if rhs != lhs && rhs != lhs.accumulator() {
            return Err(TensorError::DTypeMismatch { op, lhs, rhs }.into());
        }
        if !grad.is_contiguous() {
            let rule = "the buffer for a gradient must be dense; it is a view with gaps";
            return Err(TensorError::Shape { op, shape: grad.shape().to_vec(), rule }.into());
        }
        Ok(self.leaf(value, Some(grad)))
    }

    fn leaf(&self, value: Tensor, grad: Option<Tensor>) -> Var {
        let (rule, saved, inputs) = (Rule::Leaf(grad), Vec::new(), Vec::new());
        let node = self.push(Node { name: "leaf", rule, saved, inputs });
        Var { value, node, round: self.round(), tape: self.clone() }
    }

    fn push(&self, node: Node) -> Option<NodeId> {
        self.record.as_ref().map(|record| {
            let nodes = &mut record.borrow_mut().nodes;
            nodes.push(node);
            nodes.len() - 1
        })
    }

    /// Takes all recorded operations off the tape.
    pub(crate) fn take(&self) -> Vec<Node> {
        let Some(record) = &self.record else { return Vec::new() };
        let mut record = record.borrow_mut();
        record.round += 1;
        std::mem::take(&mut record.nodes)
    }

    pub(crate) fn round(&self) -> u64 {
        self.record.as_ref().map_or(0, |record| record.borrow().round)
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        match (&self.record, &other.record) {
            (Some(a), Some(b)) => Rc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        }
    }
}

impl fmt::Debug for Tape {
    /// The recorded operations, in order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tape")?;
        match &self.record {
            None => f.write_str("(inference)"),
            Some(record) => {
                f.debug_list().entries(record.borrow().nodes.iter().map(|node| node.name)).finish()
            }
        }
    }
}

/// A tensor on a tape: the result of a recorded operation, or an input.
#[derive(Clone)]
pub struct Var {
    value: Tensor,
    node: Option<NodeId>,
    round: u64,
    tape: Tape,
}

impl Var {
    /// The tensor.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The tensor, without the record.
    pub fn into_value(self) -> Tensor {
        self.value
    }

    /// The extents.
    pub fn shape(&self) -> &[usize] {
        self.value.shape()
    }

    /// The tape.
    pub fn tape(&self) -> &Tape {
        &self.tape
    }

    /// Whether a gradient flows to this one.
    pub fn needs_grad(&self) -> bool {
        self.node.is_some()
    }

    /// The place on `tape` in that round; `None` if this variable was recorded elsewhere, before, or not at all.
    pub(crate) fn node_in(&self, tape: &Tape, round: u64) -> Option<NodeId> {
        self.node.filter(|_| self.tape.is(tape) && self.round == round)
    }

    /// Records that `value` came of `inputs`, if one of them needs a gradient. `backward` hands the gradient of the
    /// result on to them; what it holds is what the operation saves. Of that, `saved` may not change until then.
    pub(crate) fn record(
        name: &'static str,
        value: Tensor,
        inputs: &[&Self],
        saved: &[&Tensor],
        backward: impl FnOnce(Tensor, &Inputs, &mut Flow) -> Result<()> + 'static,
    ) -> Result<Self> {
        Self::record_rule(name, value, inputs, saved, || Rule::Function(Box::new(backward)))
    }

    /// As [`Var::record`] for one input, whose gradient `backward` makes of the result's.
    pub(crate) fn record_one(
        &self,
        name: &'static str,
        value: Tensor,
        saved: &[&Tensor],
        backward: impl FnOnce(Tensor) -> vitrine_tensor::Result<Tensor> + 'static,
    ) -> Result<Self> {
        Self::record(name, value, &[self], saved, move |dy, inputs, flow| {
            flow.add(inputs[0], backward(dy)?)
        })
    }

    /// As [`Var::record`], with any rule.
    pub(crate) fn record_rule(
        name: &'static str,
        value: Tensor,
        inputs: &[&Self],
        saved: &[&Tensor],
        rule: impl FnOnce() -> Rule,
    ) -> Result<Self> {
        let Some(first) = inputs.first() else {
            let what = "number of inputs";
            return Err(TensorError::argument(name, what, 0, "at least one is needed").into());
        };
        let tape = first.tape.clone();
        let round = tape.round();
        if inputs.iter().any(|input| !input.tape.is(&tape)) {
            return Err(Error::OtherTape { op: name });
        }
        if inputs.iter().any(|input| input.node.is_some() && input.round != round) {
            return Err(Error::AfterBackward { op: name });
        }
        let inputs: Vec<_> = inputs.iter().map(|input| input.node).collect();
        let node = match inputs.iter().any(Option::is_some) {
            true => {
                let saved = saved.iter().map(|&tensor| (tensor.clone(), tensor.writes())).collect();
                tape.push(Node { name, rule: rule(), saved, inputs })
            }
            false => None,
        };
        Ok(Self { value, node, round, tape })
    }
}

impl fmt::Debug for Var {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Var({:?})", self.value)
    }
}
