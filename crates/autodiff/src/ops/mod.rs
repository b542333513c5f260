//! The differentiable operations: each file has the operations of a topic, recording and gradient rule side by side.
//! What a rule is stands here.

mod activation;
mod arithmetic;
mod attention;
mod convolution;
mod custom;
mod embedding;
mod linear;
mod losses;
mod movement;
mod norms;

pub use attention::SelfAttention;
pub use custom::CustomOp;

use vitrine_tensor::Tensor;

use crate::backward::Flow;
use crate::error::Result;
use crate::tape::Inputs;
use linear::Linear;

/// How the gradient of a recorded operation's result becomes those of its inputs, with what that needs.
pub(crate) enum Rule {
    /// An input; a parameter's has the buffer that its gradient is added to.
    Leaf(Option<Tensor>),
    /// Backward may give the gradient for the value before the activation.
    Linear(Box<Linear>),
    /// Any other operation's: what it saves is what the function holds.
    Function(Box<Backward>),
}

/// Hands the gradient of an operation's result on to its inputs.
type Backward = dyn FnOnce(Tensor, &Inputs, &mut Flow) -> Result<()>;

impl Rule {
    /// Hands the gradient of the result on to the inputs.
    pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
        match self {
            Self::Leaf(_) => Ok(()),
            Self::Linear(linear) => linear.backward(dy, inputs, flow),
            Self::Function(rule) => rule(dy, inputs, flow),
        }
    }
}
