//! The error type of this crate.

/// What can go wrong while recording or differentiating.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] vitrine_tensor::Error),
    /// Backward starts from a scalar.
    #[error(
        "backward: the result must be a scalar, but its shape is {shape:?}; reduce it first, with `sum` for example"
    )]
    NotScalar {
        /// The shape given.
        shape: Vec<usize>,
    },
    /// The result does not depend on anything that this tape recorded.
    #[error(
        "backward: the result was not recorded on this tape; it depends on no variable or parameter of it, or backward ran before"
    )]
    NotRecorded,
    /// Operands come from different tapes.
    #[error("{op}: the operands were recorded on different tapes")]
    OtherTape {
        /// The operation.
        op: &'static str,
    },
    /// An operand was recorded before backward emptied the tape.
    #[error("{op}: an operand was recorded before backward emptied the tape; record it again")]
    AfterBackward {
        /// The operation.
        op: &'static str,
    },
    /// A custom operation failed.
    #[error("{op}: {message}")]
    Custom {
        /// The operation's name.
        op: String,
        /// What it says.
        message: String,
    },
    /// A custom operation gave a wrong number or shape of gradients.
    #[error("{op}: the gradient of input {input} must have the shape {expected:?}, not {found:?}")]
    CustomGradient {
        /// The operation's name.
        op: String,
        /// Which input.
        input: usize,
        /// The input's shape.
        expected: Vec<usize>,
        /// What the operation gave; empty if nothing.
        found: Vec<usize>,
    },
}

/// The result of a recorded operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
