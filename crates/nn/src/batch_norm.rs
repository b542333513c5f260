//! The batch norm layer, with its running statistics.

use vitrine_autodiff::Var;
use vitrine_tensor::{Activation, Tensor};

use crate::convolution::Convolution;
use crate::error::Result;
use crate::init::Init;
use crate::parameters::{BufferId, ParameterId, Scope};
use crate::pass::Pass;

/// `(x − mean)/√(variance + ε)·weight + bias` for each channel of `[.., C]` (Ioffe and Szegedy 2015): in training by
/// the statistics of the batch, else by the running ones, which training moves towards them. A layer whose weight is
/// frozen uses the running ones in training too, and leaves them as they are.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    weight: ParameterId,
    bias: ParameterId,
    running_mean: BufferId,
    running_var: BufferId,
    epsilon: f64,
    momentum: f64,
}

impl BatchNorm {
    /// Declares `weight [C]`, all of them `weight` at first, `bias [C]` of zeros, and the buffers `running_mean [C]`
    /// and `running_var [C]` of zeros and ones. With each training step these move by the share `momentum`.
    pub fn new(
        scope: &mut Scope<'_>,
        channels: usize,
        weight: f64,
        epsilon: f64,
        momentum: f64,
    ) -> Self {
        Self {
            weight: scope.vector("weight", &[channels], &Init::Constant(weight), channels),
            bias: scope.vector("bias", &[channels], &Init::ZEROS, channels),
            running_mean: scope.buffer("running_mean", &[channels], 0.0),
            running_var: scope.buffer("running_var", &[channels], 1.0),
            epsilon,
            momentum,
        }
    }

    /// `activation(norm(x) + residual)`, of the shape of x.
    pub fn forward(
        &self,
        pass: &Pass<'_>,
        x: &Var,
        residual: Option<&Var>,
        activation: Option<Activation>,
    ) -> Result<Var> {
        let [scale, shift] = self.parameters(pass)?;
        let norm = self.with(&scale, &shift, residual, activation);
        if !pass.is_training() || pass.is_frozen(self.weight)? {
            return Ok(x.batch_norm(Some(&self.running(pass)?), &norm)?.0);
        }
        let (y, statistics) = x.batch_norm(None, &norm)?;
        let rows = x.value().elements() / x.shape().last().copied().unwrap_or(1).max(1);
        // The running variance is that of all pictures, of which the batch is a sample.
        let sample = rows as f64 / rows.saturating_sub(1).max(1) as f64;
        for (buffer, row, factor) in [(self.running_mean, 0, 1.0), (self.running_var, 1, sample)] {
            let running = pass.buffer(buffer)?;
            let moved = running.scale(1.0 - self.momentum)?;
            let batch = statistics.narrow(0, row, 1)?.reshape(running.shape())?;
            moved.add_scaled_(&batch, self.momentum * factor)?;
            pass.update_buffer(buffer, &moved)?;
        }
        Ok(y)
    }

    /// [`BatchNorm::forward`] of what a convolution makes of x: outside training folded into the convolution.
    pub fn forward_after(
        &self,
        convolution: &Convolution,
        pass: &Pass<'_>,
        x: &Var,
        residual: Option<&Var>,
        activation: Option<Activation>,
    ) -> Result<Var> {
        // In training, a block that is run again must do what it did before, recorded or not.
        if pass.is_training() || pass.explains() {
            return self.forward(pass, &convolution.forward(pass, x)?, residual, activation);
        }
        let statistics = self.running(pass)?;
        let ([scale, shift], (w, bias)) = (self.parameters(pass)?, convolution.parameters(pass)?);
        let norm = self.with(&scale, &shift, residual, activation);
        let windows = convolution.windows();
        Ok(x.convolution_batch_norm(&w, bias.as_ref(), windows, &statistics, &norm)?)
    }

    /// Scale and shift.
    fn parameters(&self, pass: &Pass<'_>) -> Result<[Var; 2]> {
        Ok([pass.parameter(self.weight)?, pass.parameter(self.bias)?])
    }

    fn with<'a>(
        &self,
        scale: &'a Var,
        shift: &'a Var,
        residual: Option<&'a Var>,
        activation: Option<Activation>,
    ) -> vitrine_tensor::BatchNorm<'a, Var> {
        let epsilon = self.epsilon;
        vitrine_tensor::BatchNorm { scale, shift, epsilon, residual, activation }
    }

    /// Running mean and variance `[2, C]`.
    fn running(&self, pass: &Pass<'_>) -> Result<Tensor> {
        let row = |buffer| {
            let values = pass.buffer(buffer)?;
            Ok::<_, crate::Error>(values.reshape(&[1, values.elements()])?)
        };
        let rows = [&row(self.running_mean)?, &row(self.running_var)?];
        Ok(Tensor::concat(&rows, 0)?)
    }
}
