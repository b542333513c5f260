//! The one error type of this crate: each variant names the operation and the shapes, types or devices involved.

use crate::DType;

/// What can go wrong in a tensor operation.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two shapes do not fit together.
    #[error("{op}: shapes {lhs:?} and {rhs:?} do not fit: {rule}")]
    ShapeMismatch {
        /// The operation.
        op: &'static str,
        /// The first shape.
        lhs: Vec<usize>,
        /// The second shape.
        rhs: Vec<usize>,
        /// What would fit.
        rule: &'static str,
    },
    /// One shape is not what the operation takes.
    #[error("{op}: shape {shape:?} is not accepted: {rule}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The shape.
        shape: Vec<usize>,
        /// What is accepted.
        rule: &'static str,
    },
    /// Two element types differ.
    #[error("{op}: element types {lhs} and {rhs} differ; cast one with `to_dtype`")]
    DTypeMismatch {
        /// The operation.
        op: &'static str,
        /// The first type.
        lhs: DType,
        /// The second type.
        rhs: DType,
    },
    /// The operation is not defined for this element type.
    #[error("{op}: element type {dtype} is not supported; expected {expected}")]
    DType {
        /// The operation.
        op: &'static str,
        /// The type given.
        dtype: DType,
        /// The types that are supported.
        expected: &'static str,
    },
    /// Two tensors are on different devices.
    #[error("{op}: tensors are on {lhs} and on {rhs}; move one with `to_device`")]
    DeviceMismatch {
        /// The operation.
        op: &'static str,
        /// The first device.
        lhs: String,
        /// The second device.
        rhs: String,
    },
    /// A number given to the operation makes no sense.
    #[error("{op}: {name} is {value}; {rule}")]
    Argument {
        /// The operation.
        op: &'static str,
        /// Which argument.
        name: &'static str,
        /// The value given.
        value: String,
        /// What is accepted.
        rule: &'static str,
    },
    /// An in-place operation was given a tensor that shares memory with its destination.
    #[error("{op}: the destination shares memory with an input; give it a copy")]
    Aliased {
        /// The operation.
        op: &'static str,
    },
    /// A class label is not one of the classes.
    #[error("cross_entropy: label {label} of sample {sample} is not in 0..{classes}")]
    Label {
        /// Position in the batch.
        sample: usize,
        /// The label found.
        label: i64,
        /// The number of classes.
        classes: usize,
    },
    /// The device could not do its work (out of memory, driver failure).
    #[error("{op} on {device}: {message}")]
    Device {
        /// The operation.
        op: &'static str,
        /// The device.
        device: String,
        /// What the device said.
        message: String,
    },
}

/// The result of a tensor operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
