//! Moving elements without arithmetic: copies, with a change of the element type, fills, joining along an axis.

use super::{expect_shape, same_device};
use crate::error::{Error, Result};
use crate::{DType, Shape, Tensor};

/// Moving elements.
pub trait Movement {
    /// `to = from`, both strided, converting the element type.
    fn copy(&self, from: &Tensor, to: &Tensor) -> Result<()>;
    /// `to = value`, strided.
    fn fill(&self, to: &Tensor, value: f64) -> Result<()>;
}

impl Tensor {
    /// This tensor if it is dense, else a dense copy.
    pub fn contiguous(&self) -> Result<Self> {
        if self.is_contiguous() { Ok(self.clone()) } else { self.copy() }
    }

    /// A dense copy with memory of its own.
    pub fn copy(&self) -> Result<Self> {
        let out = Self::uninitialised(self.dims(), self.dtype(), self.device())?;
        self.device().backend().copy(self, &out)?;
        Ok(out)
    }

    /// The values converted to another element type; the same tensor if it has that type.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        let out = Self::uninitialised(self.dims(), dtype, self.device())?;
        self.device().backend().copy(self, &out)?;
        Ok(out)
    }

    /// Sets every element, for every view of this memory.
    pub fn fill_(&self, value: f64) -> Result<()> {
        self.written_by(|| self.device().backend().fill(self, value))
    }

    /// Copies `other` over this tensor, converting the element type, for every view of this memory.
    pub fn copy_(&self, other: &Self) -> Result<()> {
        const OP: &str = "copy_";
        same_device(OP, self, &[other])?;
        expect_shape(OP, other, self.shape(), "both must have one shape")?;
        if self.shares_memory_with(other) {
            return Err(Error::Aliased { op: OP });
        }
        self.written_by(|| self.device().backend().copy(other, self))
    }

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
