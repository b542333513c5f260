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
        self.copy_as(self.dtype())
    }

    /// The values converted to another element type; the same tensor if it has that type.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype() { Ok(self.clone()) } else { self.copy_as(dtype) }
    }

    fn copy_as(&self, dtype: DType) -> Result<Self> {
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
            return Err(Error::argument(OP, "number of tensors", 0, "at least one is needed"));
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
            let expected = part.shape().get(axis).map(|&extent| first.dims().with(axis, extent));
            if expected != Some(part.dims()) {
                let rule = "all extents but the joined one must be the same";
                return Err(Error::shapes(OP, first.shape(), part.shape(), rule));
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
