//! The differentiable operations: each file has the operations of a topic, recording and gradient rule side by side.
//! Their table is here.

mod activation;
mod attention;
mod convolution;
mod cross_entropy;
mod custom;
mod elementwise;
mod embed;
mod layer_norm;
mod linear;
mod softmax;
mod view;

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
    Binary => elementwise::Binary,
    Scale => elementwise::Scale,
    SumAxis => elementwise::SumAxis,
    Reshape => view::Reshape,
    Permute => view::Permute,
    Narrow => view::Narrow,
    Concat => view::Concat,
    Cast => view::Cast,
    Linear => linear::Linear,
    Matmul => linear::Matmul,
    Activate => activation::Activate,
    Dropout => activation::DropoutOp,
    LayerNorm => layer_norm::LayerNorm,
    Softmax => softmax::Softmax,
    Attention => attention::AttentionOp,
    CrossEntropy => cross_entropy::CrossEntropy,
    SoftTargetCrossEntropy => cross_entropy::SoftTargetCrossEntropy,
    Unfold => convolution::Unfold,
    Convolution => convolution::Convolution,
    EmbedTokens => embed::EmbedTokens,
    Custom => custom::Custom,
}
