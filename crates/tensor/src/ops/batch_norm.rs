//! Batch normalisation (Ioffe and Szegedy 2015, algorithm 1) over all axes but the last, with what follows it in a
//! residual network, and its gradients. Running statistics are the layer's, in `vitrine-nn`.

use super::{expect_accumulator, expect_shape, expect_sum, expect_writable, same_float};
use crate::backend::Activation;
use crate::error::{Error, Result};
use crate::{Shape, Tensor};

/// What batch norm does beside normalising: `y = activation((x − mean)/√(variance + ε)·scale + shift + residual)`.
///
/// `T` is what holds the values: a tensor, or a variable of a tape.
pub struct BatchNorm<'a, T: ?Sized = Tensor> {
    /// `[C]`
    pub scale: &'a T,
    /// `[C]`
    pub shift: &'a T,
    /// ε, at least 0.
    pub epsilon: f64,
    /// Of x's shape, added before the activation.
    pub residual: Option<&'a T>,
    /// Applied last.
    pub activation: Option<Activation>,
}

impl<T: ?Sized> Clone for BatchNorm<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for BatchNorm<'_, T> {}

impl<'a, T: ?Sized> BatchNorm<'a, T> {
    /// The same with what `of` finds in each value.
    pub fn map<U: ?Sized>(&self, of: impl Fn(&'a T) -> &'a U) -> BatchNorm<'a, U> {
        let Self { scale, shift, epsilon, residual, activation } = *self;
        let residual = residual.map(&of);
        BatchNorm { scale: of(scale), shift: of(shift), epsilon, residual, activation }
    }
}

/// Where the gradients of batch norm go.
pub struct BatchNormGrads<'a> {
    /// Of x's shape.
    pub input: &'a Tensor,
    /// Of x's shape, where there is a residual: the gradient before the activation.
    pub residual: Option<&'a Tensor>,
    /// `[C]`, added to; may have the accumulator's type.
    pub scale: &'a Tensor,
    /// `[C]`, added to; may have the accumulator's type.
    pub shift: &'a Tensor,
}

/// Normalisations over all axes but the last, which has the channels C.
pub trait BatchNorms {
    /// `statistics [2, C]` (of the accumulator's type) receives each channel's mean and variance, the mean square of
    /// the distances from the mean. There is at least one row.
    fn batch_statistics(&self, x: &Tensor, statistics: &Tensor) -> Result<()>;
    /// `y` by given statistics.
    fn batch_norm(
        &self,
        x: &Tensor,
        statistics: &Tensor,
        norm: &BatchNorm<'_>,
        y: &Tensor,
    ) -> Result<()>;
    /// The gradients of batch norm; with `fixed`, the statistics are not x's own, and constants.
    fn batch_norm_grad(
        &self,
        x: &Tensor,
        statistics: &Tensor,
        norm: &BatchNorm<'_>,
        fixed: bool,
        dy: &Tensor,
        grads: &BatchNormGrads<'_>,
    ) -> Result<()>;
}

impl BatchNorm<'_> {
    /// The same with dense tensors, if all fits x `[.., C]` and statistics `[2, C]`.
    pub(super) fn with_dense<R>(
        &self,
        op: &'static str,
        x: &Tensor,
        statistics: &Tensor,
        work: impl FnOnce(&BatchNorm<'_>) -> Result<R>,
    ) -> Result<R> {
        let channels = [x.dims().last()];
        let mut others = vec![self.scale, self.shift];
        others.extend(self.residual);
        same_float(op, x, &others)?;
        for vector in [self.scale, self.shift] {
            expect_shape(op, vector, &channels, "scale and shift must be [C]")?;
        }
        expect_accumulator(op, statistics, x)?;
        expect_shape(op, statistics, &[2, channels[0]], "the statistics must be [2, C]")?;
        if let Some(residual) = self.residual {
            expect_shape(op, residual, x.shape(), "the residual must have x's shape")?;
        }
        if self.epsilon.is_nan() || self.epsilon < 0.0 {
            let value = self.epsilon.to_string();
            return Err(Error::Argument { op, name: "epsilon", value, rule: "it must be ≥ 0" });
        }
        let (scale, shift) = (self.scale.contiguous()?, self.shift.contiguous()?);
        let residual = self.residual.map(Tensor::contiguous).transpose()?;
        let residual = residual.as_ref();
        work(&BatchNorm { scale: &scale, shift: &shift, residual, ..*self })
    }
}

impl Tensor {
    /// Mean and variance `[2, C]` of each channel of x `[.., C]`, in the accumulator's type: the variance is the mean
    /// square of the distances from the mean, divided by their number.
    pub fn batch_statistics(&self) -> Result<Self> {
        const OP: &str = "batch_statistics";
        let device = same_float(OP, self, &[])?;
        if self.rank() == 0 || self.rows() == 0 {
            return Err(self.shape_error(OP, "there must be channels, and values in them"));
        }
        let shape = Shape::from_valid(&[2, self.dims().last()]);
        let statistics = Self::uninitialised(shape, self.dtype().accumulator(), device)?;
        device.backend().batch_statistics(&self.contiguous()?, &statistics)?;
        Ok(statistics)
    }

    /// `activation((x − mean)/√(variance + ε)·scale + shift + residual)` for each channel of x `[.., C]`, with
    /// `statistics [2, C]`, mean and variance, as [`Tensor::batch_statistics`] gives them.
    pub fn batch_norm(&self, statistics: &Self, norm: &BatchNorm<'_>) -> Result<Self> {
        norm.with_dense("batch_norm", self, statistics, |norm| {
            let y = Self::uninitialised(self.dims(), self.dtype(), self.device())?;
            let (x, statistics) = (self.contiguous()?, statistics.contiguous()?);
            self.device().backend().batch_norm(&x, &statistics, norm, &y)?;
            Ok(y)
        })
    }

    /// The gradients of [`Tensor::batch_norm`] for `self` as x: gives those of x and of the residual, if there is one,
    /// adds to `dscale` and `dshift`, each of which may have the accumulator's type, `f32` for `bf16`. Where the
    /// statistics are not x's own, they are `fixed`: constants.
    pub fn batch_norm_grad(
        &self,
        statistics: &Self,
        norm: &BatchNorm<'_>,
        fixed: bool,
        dy: &Self,
        dscale: &Self,
        dshift: &Self,
    ) -> Result<(Self, Option<Self>)> {
        const OP: &str = "batch_norm_grad";
        norm.with_dense(OP, self, statistics, |norm| {
            same_float(OP, self, &[dy])?;
            expect_shape(OP, dy, self.shape(), "x and dy must have one shape")?;
            for grad in [dscale, dshift] {
                expect_sum(OP, grad, self)?;
                expect_shape(OP, grad, norm.scale.shape(), "gradients must be [C]")?;
                expect_writable(OP, grad, &[self, norm.scale, dy, statistics])?;
            }
            let like = || Self::uninitialised(self.dims(), self.dtype(), self.device());
            let (dx, residual) = (like()?, norm.residual.map(|_| like()).transpose()?);
            let (x, statistics, dy) =
                (self.contiguous()?, statistics.contiguous()?, dy.contiguous()?);
            let grads = BatchNormGrads {
                input: &dx,
                residual: residual.as_ref(),
                scale: dscale,
                shift: dshift,
            };
            self.device().backend().batch_norm_grad(&x, &statistics, norm, fixed, &dy, &grads)?;
            Ok((dx, residual))
        })
    }
}
