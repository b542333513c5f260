//! The linear layer.

use vitrine_autodiff::{LinearOptions, Var};
use vitrine_tensor::{Activation, Dropout};

use crate::error::Result;
use crate::init::Init;
use crate::parameters::{ParameterId, Scope};
use crate::pass::Pass;

/// `y = x·wᵀ + b`: `[.., in]` to `[.., out]`.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    weight: ParameterId,
    bias: Option<ParameterId>,
}

/// What follows the layer, in this order; fused into its product.
#[derive(Clone, Copy, Default)]
pub struct LinearEpilogue<'a> {
    /// Applied to each element.
    pub activation: Option<Activation>,
    /// The mask from [`Pass::mask`].
    pub dropout: Option<Dropout>,
    /// Added last.
    pub residual: Option<&'a Var>,
}

impl Linear {
    /// Declares `weight [outputs, inputs]`, and `bias [outputs]` if it has an initialiser.
    pub fn new(
        scope: &mut Scope<'_>,
        inputs: usize,
        outputs: usize,
        weight: &Init,
        bias: Option<&Init>,
    ) -> Result<Self> {
        Ok(Self {
            weight: scope.weight("weight", &[outputs, inputs], weight),
            bias: bias.map(|init| scope.vector("bias", &[outputs], init, inputs)),
        })
    }

    /// `[.., in]` to `[.., out]`.
    pub fn forward(&self, pass: &Pass<'_>, x: &Var) -> Result<Var> {
        self.forward_with(pass, x, &LinearEpilogue::default())
    }

    /// `[.., in]` to `[.., out]`, with what follows fused in.
    pub fn forward_with(
        &self,
        pass: &Pass<'_>,
        x: &Var,
        epilogue: &LinearEpilogue<'_>,
    ) -> Result<Var> {
        let weight = pass.parameter(self.weight)?;
        let bias = self.bias.map(|id| pass.parameter(id)).transpose()?;
        apply(x, &weight, bias.as_ref(), epilogue)
    }

    /// As [`Linear::forward`] for the outputs `first..first + count` alone: a part of fused layers.
    pub fn forward_rows(
        &self,
        pass: &Pass<'_>,
        x: &Var,
        first: usize,
        count: usize,
    ) -> Result<Var> {
        let (weight, bias) = self.rows(pass, first, count)?;
        apply(x, &weight, bias.as_ref(), &LinearEpilogue::default())
    }

    /// Weight `[count, in]` and bias `[count]` of the outputs `first..first + count`.
    pub fn rows(&self, pass: &Pass<'_>, first: usize, count: usize) -> Result<(Var, Option<Var>)> {
        let weight = pass.parameter_rows(self.weight, first, count)?;
        let bias = self.bias.map(|id| pass.parameter_rows(id, first, count)).transpose()?;
        Ok((weight, bias))
    }
}

fn apply(x: &Var, weight: &Var, bias: Option<&Var>, epilogue: &LinearEpilogue<'_>) -> Result<Var> {
    let LinearEpilogue { activation, dropout, residual } = *epilogue;
    Ok(x.linear(weight, &LinearOptions { bias, activation, dropout, residual })?)
}
