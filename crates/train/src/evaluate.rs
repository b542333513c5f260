//! Evaluation: logits of a data set, and the figures that are made from them.

use vitrine_data::{Batch, Loader};
use vitrine_nn::{Parameters, Pass};
use vitrine_tensor::{Device, Tensor};
use vitrine_vit::VisionTransformer;

use crate::checkpoint::Sums;
use crate::error::Result;

/// A batch on the device: images `[B, C, H, W]`, labels `[B]`.
pub fn upload(batch: &Batch, device: &Device) -> Result<(Tensor, Tensor)> {
    let images = Tensor::from_slice(&batch.images, &batch.shape, device)?;
    let labels = Tensor::from_slice(&batch.labels, &[batch.labels.len()], device)?;
    Ok((images, labels))
}

/// The number of rows of `logits [B, K]` whose largest entry is at the label; the first of equals counts.
pub fn count_correct(logits: &Tensor, labels: &[i64]) -> Result<u64> {
    let classes = logits.dims().last();
    let values = logits.to_f64_vec()?;
    let hits = values.chunks_exact(classes.max(1)).zip(labels).filter(|(row, label)| {
        let best = (1..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best });
        best as i64 == **label
    });
    Ok(hits.count() as u64)
}

/// Loss and accuracy over a data set, dropout off. `seen` is told after each batch how many batches are done.
pub fn evaluate(
    model: &VisionTransformer,
    parameters: &Parameters,
    loader: &Loader,
    mut seen: impl FnMut(u64),
) -> Result<Sums> {
    let device = parameters.values().device();
    let mut sums = Sums::default();
    for (done, batch) in (1..).zip(loader.epoch(0, 0)) {
        let batch = batch?;
        let (images, labels) = upload(&batch, device)?;
        let pass = Pass::inference(parameters);
        let logits = model.forward(&pass, &pass.constant(images))?;
        let loss = logits.value().cross_entropy(&labels, 0.0)?.to_scalar()?;
        sums.images += batch.labels.len() as u64;
        sums.loss += loss * batch.labels.len() as f64;
        sums.correct += count_correct(logits.value(), &batch.labels)?;
        loader.recycle(batch);
        seen(done);
    }
    Ok(sums)
}
