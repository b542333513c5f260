//! The differentiable operations: each file has an operation's recording and its gradient rule side by side.

mod activation;
mod attention;
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
pub use linear::LinearOptions;

use vitrine_tensor::Tensor;

/// A recorded operation, with what its gradient rule needs.
#[allow(
    clippy::large_enum_variant,
    reason = "a step records some hundred: a box each would save nothing"
)]
pub(crate) enum Op {
    /// An input; a parameter's has the buffer that its gradient is added to.
    Leaf(Option<Tensor>),
    Binary(elementwise::Binary),
    Scale(elementwise::Scale),
    SumAxis(elementwise::SumAxis),
    Reshape(view::Reshape),
    Permute(view::Permute),
    Narrow(view::Narrow),
    Concat(view::Concat),
    Cast(view::Cast),
    Linear(linear::Linear),
    Matmul(linear::Matmul),
    Activate(activation::Activate),
    Dropout(activation::DropoutOp),
    LayerNorm(layer_norm::LayerNorm),
    Softmax(softmax::Softmax),
    Attention(attention::AttentionOp),
    CrossEntropy(cross_entropy::CrossEntropy),
    Patchify(embed::Patchify),
    EmbedTokens(embed::EmbedTokens),
    Custom(custom::Custom),
}

impl Op {
    /// The variant's name, for people who print a tape.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Leaf(_) => "Leaf",
            Self::Binary(_) => "Binary",
            Self::Scale(_) => "Scale",
            Self::SumAxis(_) => "SumAxis",
            Self::Reshape(_) => "Reshape",
            Self::Permute(_) => "Permute",
            Self::Narrow(_) => "Narrow",
            Self::Concat(_) => "Concat",
            Self::Cast(_) => "Cast",
            Self::Linear(_) => "Linear",
            Self::Matmul(_) => "Matmul",
            Self::Activate(_) => "Activate",
            Self::Dropout(_) => "Dropout",
            Self::LayerNorm(_) => "LayerNorm",
            Self::Softmax(_) => "Softmax",
            Self::Attention(_) => "Attention",
            Self::CrossEntropy(_) => "CrossEntropy",
            Self::Patchify(_) => "Patchify",
            Self::EmbedTokens(_) => "EmbedTokens",
            Self::Custom(_) => "Custom",
        }
    }
}
