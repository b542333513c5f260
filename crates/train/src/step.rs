//! The parts of an optimizer step, which the trainer and the timing share: the gradient of a batch, and the update.

use vitrine_nn::{Model, Optimizer, Parameters, Pass, clip_grad_norm};
use vitrine_tensor::Tensor;

use crate::error::Result;
use crate::objective::{DeviceBatch, Objective};
use crate::recipe::Training;

/// Adds the gradient of a batch's loss, times the batch's share of the step, to the parameters' gradients. Gives the
/// loss, a scalar, and the logits `[B, K]`; both are still on the device.
pub(crate) fn backward(
    model: &dyn Model,
    objective: &dyn Objective,
    pass: Pass<'_>,
    batch: DeviceBatch,
    share: f64,
) -> Result<(Tensor, Tensor)> {
    let output = model.forward(&pass, &pass.constant(batch.images.clone()))?;
    let loss = objective.loss(&output, &batch)?;
    // Backward frees what it has used, unless it is held here.
    drop(batch);
    let scaled = if share == 1.0 { loss.clone() } else { loss.scale(share)? };
    let (logits, loss) = (output.prediction()?.into_value(), loss.into_value());
    drop(output);
    pass.backward(&scaled)?;
    Ok((loss, logits))
}

/// Changes the parameters by their gradients, which are clipped first if the recipe says so.
pub(crate) fn update(
    training: &Training,
    parameters: &Parameters,
    optimizer: &mut dyn Optimizer,
    learning_rate: f64,
) -> Result<()> {
    if training.optimizer.clip_norm > 0.0 {
        clip_grad_norm(parameters, training.optimizer.clip_norm)?;
    }
    Ok(optimizer.step(parameters, learning_rate)?)
}
