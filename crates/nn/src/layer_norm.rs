//! The layer norm layer.

use vitrine_autodiff::Var;

use crate::error::Result;
use crate::init::Init;
use crate::parameters::{ParameterId, Scope};
use crate::pass::Pass;

/// `(x − mean)/√(variance + ε)·weight + bias` over the last axis (Ba, Kiros and Hinton 2016).
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    weight: ParameterId,
    bias: ParameterId,
    epsilon: f64,
}

impl LayerNorm {
    /// Declares `weight [width]` of ones and `bias [width]` of zeros.
    pub fn new(scope: &mut Scope<'_>, width: usize, epsilon: f64) -> Self {
        Self {
            weight: scope.vector("weight", &[width], &Init::ONES, width),
            bias: scope.vector("bias", &[width], &Init::ZEROS, width),
            epsilon,
        }
    }

    /// `[.., D]` to `[.., D]`.
    pub fn forward(&self, pass: &Pass<'_>, x: &Var) -> Result<Var> {
        let (weight, bias) = (pass.parameter(self.weight)?, pass.parameter(self.bias)?);
        Ok(x.layer_norm(&weight, &bias, self.epsilon)?)
    }
}
