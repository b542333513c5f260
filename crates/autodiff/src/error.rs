//! The error type of this crate.

use vitrine_tensor::DType;

/// What can go wrong while recording or differentiating.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message says what each field is")]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] vitrine_tensor::Error),
    /// Backward starts from a scalar.
    #[error(
        "backward: the result must be a scalar, but its shape is {shape:?}; reduce it first, with `sum` for example"
    )]
    NotScalar { shape: Vec<usize> },
    /// The result does not depend on anything that this tape recorded.
    #[error(
        "backward: the result was not recorded on this tape; it depends on no variable or parameter of it, or backward ran before"
    )]
    NotRecorded,
    /// Operands come from different tapes.
    #[error("{op}: the operands were recorded on different tapes")]
    OtherTape { op: &'static str },
    /// An operand was recorded before backward emptied the tape.
    #[error("{op}: an operand was recorded before backward emptied the tape; record it again")]
    AfterBackward { op: &'static str },
    /// What an operation saved for its gradient was written to since.
    #[error(
        "{op}: a tensor that its gradient needs was changed in place after the operation; change a copy, or call \
         backward first"
    )]
    ChangedInPlace { op: &'static str },
    /// A custom operation failed.
    #[error("{op}: {message}")]
    Custom { op: String, message: String },
    /// A custom operation gave more or fewer gradients than it has inputs.
    #[error(
        "{op}: {found} gradients were given for {expected} inputs; `None` stands for one that is not there"
    )]
    CustomGradients { op: String, expected: usize, found: usize },
    /// A custom operation gave a gradient of another shape or type than its input's.
    #[error(
        "{op}: the gradient of input {input} must have its shape and type, {:?} of {}, not {:?} of {}",
        .expected.0, .expected.1, .found.0, .found.1
    )]
    CustomGradient {
        op: String,
        input: usize,
        expected: (Vec<usize>, DType),
        found: (Vec<usize>, DType),
    },
}

/// The result of a recorded operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
