//! The differentiable operations: each file has the operations of a topic, recording and gradient rule side by side.
//! Their table is here.

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

/// Makes the enum of all operations, their names, and the match that leads to their gradient rules: one without a rule
/// does not compile.
macro_rules! operations {
    ($($operation:ident => $file:ident::$saved:ident,)*) => {
        /// A recorded operation, with what its gradient rule needs.
        #[allow(
            clippy::large_enum_variant,
            reason = "a step records some hundred: a box each would save nothing"
        )]
        pub(crate) enum Op {
            /// An input; a parameter's has the buffer that its gradient is added to.
            Leaf(Option<Tensor>),
            $($operation($file::$saved),)*
        }

        impl Op {
            /// The operation's name, for people who print a tape.
            pub(crate) fn name(&self) -> &'static str {
                match self {
                    Self::Leaf(_) => "Leaf",
                    $(Self::$operation(_) => stringify!($operation),)*
                }
            }

            /// Hands the gradient of the result on to the inputs.
            pub(crate) fn backward(self, dy: Tensor, inputs: &Inputs, flow: &mut Flow) -> Result<()> {
                match self {
                    Self::Leaf(_) => Ok(()),
                    $(Self::$operation(saved) => saved.backward(dy, inputs, flow),)*
                }
            }
        }
    };
}

operations! {
    Binary => arithmetic::Binary,
    Scale => arithmetic::Scale,
    SumAxis => arithmetic::SumAxis,
    Reshape => movement::Reshape,
    Permute => movement::Permute,
    Narrow => movement::Narrow,
    Concat => movement::Concat,
    Cast => movement::Cast,
    Linear => linear::Linear,
    Matmul => linear::Matmul,
    Activate => activation::Activate,
    Dropout => activation::DropoutOp,
    LayerNorm => norms::LayerNorm,
    Softmax => norms::Softmax,
    Attention => attention::AttentionOp,
    CrossEntropy => losses::CrossEntropy,
    SoftTargetCrossEntropy => losses::SoftTargetCrossEntropy,
    Unfold => convolution::Unfold,
    Convolution => convolution::Convolution,
    EmbedTokens => embedding::EmbedTokens,
    Custom => custom::Custom,
}
