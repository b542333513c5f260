//! The one error type of this crate: each variant names the operation and the shapes, types or devices involved.

use crate::DType;

/// What can go wrong in a tensor operation.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message says what each field is")]
pub enum Error {
    /// Two shapes do not fit together.
    #[error("{op}: shapes {lhs:?} and {rhs:?} do not fit: {rule}")]
    ShapeMismatch { op: &'static str, lhs: Vec<usize>, rhs: Vec<usize>, rule: &'static str },
    /// One shape is not what the operation takes.
    #[error("{op}: shape {shape:?} is not accepted: {rule}")]
    Shape { op: &'static str, shape: Vec<usize>, rule: &'static str },
    /// Two element types differ.
    #[error("{op}: element types {lhs} and {rhs} differ; cast one with `to_dtype`")]
    DTypeMismatch { op: &'static str, lhs: DType, rhs: DType },
    /// The operation is not defined for this element type.
    #[error("{op}: element type {dtype} is not supported; expected {expected}")]
    DType { op: &'static str, dtype: DType, expected: &'static str },
    /// Two tensors are on different devices.
    #[error("{op}: tensors are on {lhs} and on {rhs}; move one with `to_device`")]
    DeviceMismatch { op: &'static str, lhs: String, rhs: String },
    /// A number given to the operation makes no sense.
    #[error("{op}: {name} is {value}; {rule}")]
    Argument { op: &'static str, name: &'static str, value: String, rule: &'static str },
    /// An in-place operation was given a tensor that shares memory with its destination.
    #[error("{op}: the destination shares memory with an input; give it a copy")]
    Aliased { op: &'static str },
    /// A class label is not one of the classes.
    #[error("cross_entropy: label {label} of sample {sample} is not in 0..{classes}")]
    Label { sample: usize, label: i64, classes: usize },
    /// The device could not do its work (out of memory, driver failure).
    #[error("{op} on {device}: {message}")]
    Device { op: &'static str, device: String, message: String },
}

/// The result of a tensor operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::ShapeMismatch`].
    pub fn shapes(op: &'static str, lhs: &[usize], rhs: &[usize], rule: &'static str) -> Self {
        Self::ShapeMismatch { op, lhs: lhs.to_vec(), rhs: rhs.to_vec(), rule }
    }

    /// An [`Error::Argument`].
    pub fn argument(
        op: &'static str,
        name: &'static str,
        value: impl ToString,
        rule: &'static str,
    ) -> Self {
        Self::Argument { op, name, value: value.to_string(), rule }
    }
}
