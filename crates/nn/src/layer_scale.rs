//! The LayerScale layer.

use vitrine_autodiff::Var;

use crate::error::Result;
use crate::init::Init;
use crate::parameters::{ParameterId, Scope};
use crate::pass::Pass;

/// A learned factor for each channel of a residual branch (Touvron et al. 2021, "Going deeper with Image Transformers",
/// section 2.2).
#[derive(Clone, Copy, Debug)]
pub struct LayerScale {
    gamma: ParameterId,
}

impl LayerScale {
    /// Declares `gamma [width]`, all of it `initial`.
    pub fn new(scope: &mut Scope<'_>, width: usize, initial: f64) -> Self {
        Self { gamma: scope.vector("gamma", &[width], &Init::Constant(initial), width) }
    }

    /// `residual + gamma · branch`, both `[.., D]`.
    pub fn forward(&self, pass: &Pass<'_>, branch: &Var, residual: &Var) -> Result<Var> {
        Ok(branch.mul(&pass.parameter(self.gamma)?)?.add(residual)?)
    }
}
