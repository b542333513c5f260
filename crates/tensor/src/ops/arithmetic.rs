//! Element-wise arithmetic with broadcasting, sums over axes, and accumulation in place.

use super::{expect_shape, expect_writable, same_float};
use crate::error::Result;
use crate::{DType, Shape, Tensor};

/// An element-wise function of two tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a − b`
    Sub,
    /// `a · b`
    Mul,
    /// `a / b`
    Div,
}

/// Element-wise arithmetic and sums.
pub trait Arithmetic {
    /// `to += factor · from`, dense.
    fn add_scaled(&self, from: &Tensor, factor: f64, to: &Tensor) -> Result<()>;
    /// `to = op(a, b)`; `a` and `b` strided, broadcast to the shape of `to` (stride 0).
    fn binary(&self, op: Binary, a: &Tensor, b: &Tensor, to: &Tensor) -> Result<()>;
    /// Sums `from [outer, reduced, inner]` over its middle axis into `to [outer, inner]`, of the same type or of the
    /// accumulator's.
    fn sum(&self, from: &Tensor, to: &Tensor) -> Result<()>;
}

impl Tensor {
    /// `a + b`, broadcast.
    pub fn add(&self, other: &Self) -> Result<Self> {
        self.binary("add", Binary::Add, other)
    }

    /// `a − b`, broadcast.
    pub fn sub(&self, other: &Self) -> Result<Self> {
        self.binary("sub", Binary::Sub, other)
    }

    /// `a · b`, broadcast.
    pub fn mul(&self, other: &Self) -> Result<Self> {
        self.binary("mul", Binary::Mul, other)
    }

    /// `a / b`, broadcast.
    pub fn div(&self, other: &Self) -> Result<Self> {
        self.binary("div", Binary::Div, other)
    }

    fn binary(&self, name: &'static str, op: Binary, other: &Self) -> Result<Self> {
        let device = same_float(name, self, &[other])?;
        let shape = self.dims().broadcast(&other.dims(), name)?;
        let out = Self::uninitialised(shape, self.dtype(), device)?;
        let (a, b) = (self.broadcast_to(&shape)?, other.broadcast_to(&shape)?);
        device.backend().binary(op, &a, &b, &out)?;
        Ok(out)
    }

    /// `factor · x`
    pub fn scale(&self, factor: f64) -> Result<Self> {
        same_float("scale", self, &[])?;
        let out = Self::zeros(self.shape(), self.dtype(), self.device())?;
        out.add_scaled_(self, factor)?;
        Ok(out)
    }

    /// `self += factor · other`, for every view of this memory; both have one shape. A `bf16` may be added to an `f32`.
    pub fn add_scaled_(&self, other: &Self, factor: f64) -> Result<()> {
        const OP: &str = "add_scaled_";
        super::expect_sum(OP, self, other)?;
        let other = other.to_dtype(self.dtype())?;
        let device = same_float(OP, self, &[&other])?;
        expect_shape(OP, &other, self.shape(), "both must have one shape")?;
        expect_writable(OP, self, &[&other])?;
        device.backend().add_scaled(&other.contiguous()?, factor, self)
    }

    /// `x + weight · (other − x)`; both have one shape.
    pub fn lerp(&self, other: &Self, weight: f64) -> Result<Self> {
        let result = self.copy()?;
        result.lerp_(other, weight)?;
        Ok(result)
    }

    /// [`Tensor::lerp`] in place, for every view of this memory.
    pub fn lerp_(&self, other: &Self, weight: f64) -> Result<()> {
        expect_shape("lerp_", other, self.shape(), "both must have one shape")?;
        self.add_scaled_(&other.sub(self)?, weight)
    }

    /// The sum over one axis, which is dropped.
    pub fn sum_axis(&self, axis: usize) -> Result<Self> {
        self.sum_over("sum_axis", axis, self.dtype())
    }

    /// As [`Tensor::sum_axis`], in the accumulator's type: `f32` for `bf16`.
    pub fn sum_axis_wide(&self, axis: usize) -> Result<Self> {
        self.sum_over("sum_axis_wide", axis, self.dtype().accumulator())
    }

    fn sum_over(&self, op: &'static str, axis: usize, dtype: DType) -> Result<Self> {
        let device = same_float(op, self, &[])?;
        if axis >= self.rank() {
            return Err(self.shape_error(op, "the axis must be among the tensor's"));
        }
        let (before, after) = (&self.shape()[..axis], &self.shape()[axis + 1..]);
        let [outer, inner] = [before, after].map(|dims| dims.iter().product());
        let kept = Shape::from_valid(&[before, after].concat());
        let out = Self::uninitialised(kept, dtype, device)?;
        let from = self.reshape(&[outer, self.shape()[axis], inner])?;
        device.backend().sum(&from, &out.reshape(&[outer, inner])?)?;
        Ok(out)
    }

    /// The sum of all elements, a scalar.
    pub fn sum(&self) -> Result<Self> {
        self.reshape(&[self.elements()])?.sum_over("sum", 0, self.dtype())
    }

    /// Sums over the axes that broadcasting added or stretched, so that the result has `shape`: the gradient of
    /// [`Tensor::broadcast_to`].
    pub fn sum_to(&self, shape: &[usize]) -> Result<Self> {
        const OP: &str = "sum_to";
        const RULE: &str = "the shape must broadcast to the tensor's";
        let Some(added) = self.rank().checked_sub(shape.len()) else {
            return expect_shape(OP, self, shape, RULE).map(|()| self.clone());
        };
        let mut out = self.clone();
        for _ in 0..added {
            out = out.sum_over(OP, 0, self.dtype())?;
        }
        for (axis, &extent) in shape.iter().enumerate() {
            if extent == 1 && out.shape()[axis] != 1 {
                let kept = out.dims().with(axis, 1);
                out = out.sum_over(OP, axis, self.dtype())?.reshape(&kept)?;
            }
        }
        expect_shape(OP, &out, shape, RULE)?;
        Ok(out)
    }
}
