//! Evaluation: logits of a data set, and the figures that are made from them. How they look on a screen is not here.

use std::ops::ControlFlow;

use serde::Serialize;
use vitrine_data::Loader;
use vitrine_nn::{Model, Parameters, Pass};
use vitrine_tensor::Tensor;

use crate::error::Result;
use crate::objective::DeviceBatch;

/// The place of the largest entry; the first of equals counts.
fn largest(row: &[f64]) -> usize {
    (1..row.len()).fold(0, |best, k| if row[k] > row[best] { k } else { best })
}

/// How many entries come before entry `k` when they are sorted, largest first and the first of equals first.
fn rank(row: &[f64], k: usize) -> usize {
    let before = |(other, value): (usize, &f64)| *value > row[k] || (*value == row[k] && other < k);
    row.iter().enumerate().filter(|&entry| before(entry)).count()
}

/// The number of rows of `logits [B, K]` whose largest entry is at the label; the first of equals counts.
pub fn count_correct(logits: &Tensor, labels: &[i64]) -> Result<u64> {
    let classes = logits.dims().last();
    let values = logits.to_f64_vec()?;
    let rows = values.chunks_exact(classes.max(1)).zip(labels);
    Ok(rows.filter(|(row, label)| largest(row) as i64 == **label).count() as u64)
}

/// A model's figures over a data set, dropout off. `seen` is told after each batch how many batches are done; `None` if
/// it breaks off.
pub fn evaluate(
    model: &dyn Model,
    parameters: &Parameters,
    loader: &Loader,
    mut seen: impl FnMut(u64) -> ControlFlow<()>,
) -> Result<Option<Evaluation>> {
    let names = loader.dataset().class_names();
    let mut tally = Tally::new(names.len());
    for (done, batch) in (1..).zip(loader.epoch(0, 0)) {
        let batch = batch?;
        let on_device = DeviceBatch::upload(&batch, parameters.values().device())?;
        let pass = Pass::inference(parameters);
        let output = model.forward(&pass, &pass.constant(on_device.images))?.prediction()?;
        let loss = output.value().cross_entropy(&on_device.labels, 0.0)?.to_scalar()?;
        tally.loss += loss * batch.labels.len() as f64;
        tally.add(&output.value().to_f64_vec()?, &batch.labels);
        loader.recycle(batch);
        if seen(done).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(tally.figures(names)))
}

/// A model's figures on a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// The number of images.
    pub images: u64,
    /// The mean cross-entropy, without label smoothing.
    pub loss: f64,
    /// The share of images whose likeliest class is the true one.
    pub top1: f64,
    /// The share of images whose true class is among the five likeliest.
    pub top5: f64,
    /// The figures of each class, in the order of the labels.
    pub classes: Vec<ClassFigures>,
    /// The number of images of class `i` that were taken for class `j`, at `[i][j]`.
    pub confusion: Vec<Vec<u64>>,
}

/// The figures of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassFigures {
    /// What the class is called.
    pub name: String,
    /// The number of images of this class.
    pub count: u64,
    /// The share of the images taken for this class that are of it; `None` if none was taken for it.
    pub precision: Option<f64>,
    /// The share of this class's images that were taken for it; `None` if there is none.
    pub recall: Option<f64>,
}

/// Counts from which the figures are made.
struct Tally {
    loss: f64,
    within_five: u64,
    confusion: Vec<Vec<u64>>,
}

impl Tally {
    fn new(classes: usize) -> Self {
        Self { loss: 0.0, within_five: 0, confusion: vec![vec![0; classes]; classes] }
    }

    /// Adds rows of logits; a data set's labels are in range.
    fn add(&mut self, logits: &[f64], labels: &[i64]) {
        let classes = self.confusion.len();
        for (row, label) in logits.chunks_exact(classes.max(1)).zip(labels) {
            let label = *label as usize;
            self.within_five += u64::from(rank(row, label) < 5);
            self.confusion[label][largest(row)] += 1;
        }
    }

    fn figures(self, names: &[String]) -> Evaluation {
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        let images = self.confusion.iter().flatten().sum();
        let hits = (0..names.len()).map(|k| self.confusion[k][k]).sum();
        let classes = names.iter().enumerate().map(|(k, name)| {
            let count = self.confusion[k].iter().sum();
            let taken = self.confusion.iter().map(|row| row[k]).sum();
            let hits = self.confusion[k][k];
            let (precision, recall) = (share(hits, taken), share(hits, count));
            ClassFigures { name: name.clone(), count, precision, recall }
        });
        Evaluation {
            images,
            loss: self.loss / images.max(1) as f64,
            top1: share(hits, images).unwrap_or(0.0),
            top5: share(self.within_five, images).unwrap_or(0.0),
            classes: classes.collect(),
            confusion: self.confusion,
        }
    }
}
