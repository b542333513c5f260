//! Activation functions and dropout, with their gradients.

use super::{check_dropout, expect_shape, same_float};
use crate::error::Result;
use crate::{Dropout, Tensor};

/// The function after a linear layer's product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x·Φ(x)` with the normal distribution function Φ (Hendrycks and Gimpel 2016, equation 1).
    GeluErf,
    /// `x/2·(1 + tanh(√(2/π)(x + 0.044715x³)))` (the same paper, section 2).
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x·σ(x) = x/(1 + e⁻ˣ)` (Elfwing et al. 2018). As in PyTorch, NaN at −∞, and its derivative at ±∞.
    Silu,
}

/// Activation functions and dropout.
pub trait Activations {
    /// `y = activation(x)`.
    fn activate(&self, x: &Tensor, activation: Activation, y: &Tensor) -> Result<()>;
    /// `dx = dy · activation′(x)`.
    fn activate_grad(
        &self,
        x: &Tensor,
        activation: Activation,
        dy: &Tensor,
        dx: &Tensor,
    ) -> Result<()>;
    /// `y = x · mask`. It is its own gradient.
    fn dropout(&self, x: &Tensor, dropout: Dropout, y: &Tensor) -> Result<()>;
}

impl Tensor {
    /// `activation(x)`, element by element.
    pub fn activate(&self, activation: Activation) -> Result<Self> {
        let device = same_float("activate", self, &[])?;
        let y = Self::uninitialised(self.dims(), self.dtype(), device)?;
        device.backend().activate(&self.contiguous()?, activation, &y)?;
        Ok(y)
    }

    /// The gradient of [`Tensor::activate`] for `self` as x: `dy · activation′(x)`.
    pub fn activate_grad(&self, activation: Activation, dy: &Self) -> Result<Self> {
        const OP: &str = "activate_grad";
        let device = same_float(OP, self, &[dy])?;
        expect_shape(OP, dy, self.shape(), "x and dy must have one shape")?;
        let dx = Self::uninitialised(self.dims(), self.dtype(), device)?;
        let (x, dy) = (self.contiguous()?, dy.contiguous()?);
        device.backend().activate_grad(&x, activation, &dy, &dx)?;
        Ok(dx)
    }

    /// Sets a random share of the elements to 0 and scales the others. The gradient of this is this itself.
    pub fn dropout(&self, dropout: Dropout) -> Result<Self> {
        const OP: &str = "dropout";
        let device = same_float(OP, self, &[])?;
        check_dropout(OP, Some(&dropout))?;
        let y = Self::uninitialised(self.dims(), self.dtype(), device)?;
        device.backend().dropout(&self.contiguous()?, dropout, &y)?;
        Ok(y)
    }
}
