//! Layer normalisation (Ba, Kiros and Hinton 2016, equation 4) and softmax over the last axis, with their gradients.

use super::{expect_accumulator, expect_shape, expect_sum, expect_writable, same_float};
use crate::error::{Error, Result};
use crate::{Shape, Tensor};

/// Where the gradients of layer norm go.
pub struct LayerNormGrads<'a> {
    /// `[.., D]`
    pub input: &'a Tensor,
    /// `[D]`, added to; may have the accumulator's type.
    pub scale: &'a Tensor,
    /// `[D]`, added to; may have the accumulator's type.
    pub shift: &'a Tensor,
}

/// Normalisations over the last axis.
pub trait Norms {
    /// `y = (x − mean)/√(variance + ε)·scale + shift` over the last axis; `statistics [rows, 2]` (of the
    /// accumulator's type) receives the mean and the reciprocal of the root.
    fn layer_norm(
        &self,
        x: &Tensor,
        scale: &Tensor,
        shift: &Tensor,
        epsilon: f64,
        y: &Tensor,
        statistics: &Tensor,
    ) -> Result<()>;
    /// The gradients of layer norm.
    fn layer_norm_grad(
        &self,
        x: &Tensor,
        scale: &Tensor,
        statistics: &Tensor,
        dy: &Tensor,
        grads: &LayerNormGrads<'_>,
    ) -> Result<()>;
    /// Softmax over the last axis.
    fn softmax(&self, x: &Tensor, y: &Tensor) -> Result<()>;
    /// `dx = y·(dy − Σ dy·y)` over the last axis.
    fn softmax_grad(&self, y: &Tensor, dy: &Tensor, dx: &Tensor) -> Result<()>;
}

impl Tensor {
    /// `(x − mean)/√(variance + ε)·scale + shift` over the last axis: x `[.., D]`, scale and shift `[D]`.
    /// Also gives the statistics `[rows, 2]` (mean, reciprocal root) that the gradient needs.
    pub fn layer_norm(&self, scale: &Self, shift: &Self, epsilon: f64) -> Result<(Self, Self)> {
        const OP: &str = "layer_norm";
        let device = same_float(OP, self, &[scale, shift])?;
        let width = [self.dims().last()];
        if self.rank() == 0 {
            return Err(self.shape_error(OP, "at least one axis is needed"));
        }
        expect_shape(OP, scale, &width, "the scale must be [D]")?;
        expect_shape(OP, shift, &width, "the shift must be [D]")?;
        if epsilon.is_nan() || epsilon < 0.0 {
            return Err(Error::argument(OP, "epsilon", epsilon, "it must be ≥ 0"));
        }
        let y = Self::uninitialised(self.dims(), self.dtype(), device)?;
        let rows = Shape::from_valid(&[self.rows(), 2]);
        let statistics = Self::uninitialised(rows, self.dtype().accumulator(), device)?;
        let (x, scale, shift) = (self.contiguous()?, scale.contiguous()?, shift.contiguous()?);
        device.backend().layer_norm(&x, &scale, &shift, epsilon, &y, &statistics)?;
        Ok((y, statistics))
    }

    /// The gradients of [`Tensor::layer_norm`] for `self` as x: gives dx, adds to `dscale` and `dshift`, each of which
    /// may have the accumulator's type, `f32` for `bf16`.
    pub fn layer_norm_grad(
        &self,
        scale: &Self,
        statistics: &Self,
        dy: &Self,
        dscale: &Self,
        dshift: &Self,
    ) -> Result<Self> {
        const OP: &str = "layer_norm_grad";
        let device = same_float(OP, self, &[scale, dy])?;
        expect_sum(OP, dscale, self)?;
        expect_sum(OP, dshift, self)?;
        let width = [self.dims().last()];
        expect_shape(OP, dy, self.shape(), "x and dy must have one shape")?;
        expect_shape(OP, statistics, &[self.rows(), 2], "the statistics must be [rows, 2]")?;
        expect_accumulator(OP, statistics, self)?;
        for vector in [scale, dscale, dshift] {
            expect_shape(OP, vector, &width, "scale and gradients must be [D]")?;
        }
        expect_writable(OP, dscale, &[self, scale, dy, statistics])?;
        expect_writable(OP, dshift, &[self, scale, dy, statistics])?;
        let dx = Self::uninitialised(self.dims(), self.dtype(), device)?;
        let (x, scale, dy) = (self.contiguous()?, scale.contiguous()?, dy.contiguous()?);
        let grads = LayerNormGrads { input: &dx, scale: dscale, shift: dshift };
        device.backend().layer_norm_grad(&x, &scale, &statistics.contiguous()?, &dy, &grads)?;
        Ok(dx)
    }

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
