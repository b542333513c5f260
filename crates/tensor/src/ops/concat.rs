//! Joining tensors along an axis.

use super::same_device;
use crate::error::{Error, Result};
use crate::{Shape, Tensor};

impl Tensor {
    /// Joins tensors along `axis`; all other extents are the same.
    pub fn concat(parts: &[&Self], axis: usize) -> Result<Self> {
        const OP: &str = "concat";
        let [first, rest @ ..] = parts else {
            return Err(Error::Argument {
                op: OP,
                name: "number of tensors",
                value: "0".into(),
                rule: "at least one is needed",
            });
        };
        let device = same_device(OP, first, rest)?;
        if axis >= first.rank() {
            return Err(first.shape_error(OP, "the axis must be among the tensor's"));
        }
        let mut dims = first.shape().to_vec();
        for part in rest {
            if part.dtype() != first.dtype() {
                return Err(Error::DTypeMismatch { op: OP, lhs: first.dtype(), rhs: part.dtype() });
            }
            let fits = part.rank() == first.rank()
                && (0..part.rank()).all(|i| i == axis || part.shape()[i] == first.shape()[i]);
            if !fits {
                return Err(Error::ShapeMismatch {
                    op: OP,
                    lhs: first.shape().to_vec(),
                    rhs: part.shape().to_vec(),
                    rule: "all extents but the joined one must be the same",
                });
            }
            dims[axis] += part.shape()[axis];
        }
        let out = Self::uninitialised(Shape::new(&dims)?, first.dtype(), device)?;
        let mut start = 0;
        for part in parts {
            let length = part.shape()[axis];
            device.backend().copy(part, &out.narrow(axis, start, length)?)?;
            start += length;
        }
        Ok(out)
    }
}
