//! Softmax over the last axis, with its gradient.

use super::{expect_shape, same_float};
use crate::Tensor;
use crate::error::Result;

impl Tensor {
    /// `exp(x) / Σ exp(x)` over the last axis, computed from the distance to the largest element.
    pub fn softmax(&self) -> Result<Self> {
        let device = same_float("softmax", self, &[])?;
        let y = Self::uninitialised(self.dims(), self.dtype(), device)?;
        device.backend().softmax(&self.contiguous()?, &y)?;
        Ok(y)
    }

    /// The gradient of softmax for `self` as its result: `y·(dy − Σ dy·y)`.
    pub fn softmax_grad(&self, dy: &Self) -> Result<Self> {
        const OP: &str = "softmax_grad";
        let device = same_float(OP, self, &[dy])?;
        expect_shape(OP, dy, self.shape(), "y and dy must have one shape")?;
        let dx = Self::uninitialised(self.dims(), self.dtype(), device)?;
        device.backend().softmax_grad(&self.contiguous()?, &dy.contiguous()?, &dx)?;
        Ok(dx)
    }
}
