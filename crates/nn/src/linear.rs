//! The linear layer.

use vitrine_autodiff::Var;
use vitrine_tensor::{Activation, Epilogue};

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
        self.forward_with(pass, x, &Epilogue::default())
    }

    /// `[.., in]` to `[.., out]`, with what follows fused in: the bias is the layer's own, if it has one; the mask
    /// comes from [`Pass::mask`].
    pub fn forward_with(
        &self,
        pass: &Pass<'_>,
        x: &Var,
        epilogue: &Epilogue<'_, Var>,
    ) -> Result<Var> {
        let weight = pass.parameter(self.weight)?;
        let bias = self.bias.map(|id| pass.parameter(id)).transpose()?;
        Ok(x.linear(&weight, &Epilogue { bias: bias.as_ref().or(epilogue.bias), ..*epilogue })?)
    }

    /// As [`Linear::forward`] for the outputs `first..first + count` alone, a part of fused layers, with an activation
    /// after it.
    pub fn forward_rows(
        &self,
        pass: &Pass<'_>,
        x: &Var,
        first: usize,
        count: usize,
        activation: Option<Activation>,
    ) -> Result<Var> {
        let inputs = x.shape().last().copied().unwrap_or(0);
        let (weight, bias) = self.rows(pass, first, [&[count, inputs], &[count]])?;
        Ok(x.linear(&weight, &Epilogue { bias: bias.as_ref(), activation, ..Default::default() })?)
    }

    /// Weight `[count, in]` and bias `[count]` of the outputs `first..first + count`, under these shapes.
    pub fn rows(
        &self,
        pass: &Pass<'_>,
        first: usize,
        [weight, bias]: [&[usize]; 2],
    ) -> Result<(Var, Option<Var>)> {
        let count = bias.iter().product();
        let part = |id, shape| pass.parameter_rows(id, first, count, shape);
        Ok((part(self.weight, weight)?, self.bias.map(|id| part(id, bias)).transpose()?))
    }
}
