//! The convolution layer.

use vitrine_autodiff::Var;
use vitrine_tensor::Windows;

use crate::error::Result;
use crate::init::Init;
use crate::parameters::{ParameterId, Scope};
use crate::pass::Pass;

/// A convolution of images with channels last: `[B, H, W, C]` to `[B, H', W', O]`.
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    weight: ParameterId,
    bias: Option<ParameterId>,
    windows: Windows,
}

impl Convolution {
    /// Declares `weight [O, C, p, q]`, p and q the windows' kernel, and `bias [O]` if it has an initialiser.
    pub fn new(
        scope: &mut Scope<'_>,
        [channels, outputs]: [usize; 2],
        windows: Windows,
        weight: &Init,
        bias: Option<&Init>,
    ) -> Self {
        let (p, q) = windows.kernel;
        Self {
            weight: scope.weight("weight", &[outputs, channels, p, q], weight),
            bias: bias.map(|init| scope.vector("bias", &[outputs], init, channels * p * q)),
            windows,
        }
    }

    /// `[B, H, W, C]` to `[B, H', W', O]`.
    pub fn forward(&self, pass: &Pass<'_>, x: &Var) -> Result<Var> {
        let (weight, bias) = self.parameters(pass)?;
        Ok(x.convolution(&weight, bias.as_ref(), &self.windows)?)
    }

    /// Weight and bias.
    pub(crate) fn parameters(&self, pass: &Pass<'_>) -> Result<(Var, Option<Var>)> {
        let bias = self.bias.map(|id| pass.parameter(id)).transpose()?;
        Ok((pass.parameter(self.weight)?, bias))
    }

    pub(crate) fn windows(&self) -> &Windows {
        &self.windows
    }
}
