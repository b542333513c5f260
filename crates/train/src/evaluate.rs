//! Evaluation: logits of a data set, and the figures that are made from them. How they look on a screen is not here.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use vitrine_data::Loader;
use vitrine_nn::{Model, Parameters, Pass};
use vitrine_tensor::Tensor;

use crate::error::Result;
use crate::objective::DeviceBatch;

/// The place of the largest entry; the first of equals counts.
pub(crate) fn largest(row: &[f64]) -> usize {
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
        // All its images may have been passed over.
        if !batch.labels.is_empty() {
            let on_device = DeviceBatch::upload(&batch, parameters.values().device())?;
            let pass = Pass::inference(parameters);
            let output = model.forward(&pass, &pass.constant(on_device.images))?.prediction()?;
            let loss = output.value().cross_entropy(&on_device.labels, 0.0)?.to_scalar()?;
            tally.loss += loss * batch.labels.len() as f64;
            tally.add(&output.value().to_f64_vec()?, &batch.labels, &batch.samples);
        }
        loader.recycle(batch);
        if seen(done).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(tally.figures(names)))
}

/// A model's figures on a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The number of images.
    pub images: u64,
    /// The mean cross-entropy, without label smoothing.
    pub loss: f64,
    /// The share of images whose likeliest class is the true one.
    pub top1: f64,
    /// The share of images whose true class is among the five likeliest.
    pub top5: f64,
    /// The mean of the recalls of the classes that there are images of: what chance gives is one over their number.
    pub balanced_accuracy: f64,
    /// The mean of the classes' F1, the harmonic mean of precision and recall; 0 where a class has neither.
    pub macro_f1: f64,
    /// Where there are two classes, of which both have images: the probability that an image of the second has a larger
    /// share of it than one of the first, a tie counting half (the area under the ROC curve).
    pub roc_auc: Option<f64>,
    /// The figures of each class, in the order of the labels.
    pub classes: Vec<ClassFigures>,
    /// The number of images of class `i` that were taken for class `j`, at `[i][j]`.
    pub confusion: Vec<Vec<u64>>,
    /// Images whose likeliest class is another than theirs, the most certain answers first; a few.
    #[serde(default)]
    pub mistakes: Vec<Answer>,
    /// Images whose likeliest class is theirs, the least certain answers first; a few.
    #[serde(default)]
    pub doubtful: Vec<Answer>,
}

/// What the model made of one image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The image's index in the data set.
    pub sample: usize,
    /// Its class.
    pub label: usize,
    /// The likeliest class, and the share that the model gave it.
    pub predicted: usize,
    /// That share.
    pub probability: f64,
}

/// So many mistakes and doubtful answers are kept.
const MOST_ANSWERS: usize = 12;

/// The figures of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    /// What the class is called.
    pub name: String,
    /// The number of images of this class.
    pub count: u64,
    /// The share of the images taken for this class that are of it; `None` if none was taken for it.
    pub precision: Option<f64>,
    /// The share of this class's images that were taken for it; `None` if there is none.
    pub recall: Option<f64>,
    /// The harmonic mean of precision and recall; `None` if the class has no image and none was taken for it.
    pub f1: Option<f64>,
}

/// Counts from which the figures are made.
struct Tally {
    loss: f64,
    within_five: u64,
    confusion: Vec<Vec<u64>>,
    mistakes: Vec<Answer>,
    doubtful: Vec<Answer>,
    /// Of two classes: by how much the second's logit is larger, of the images of each.
    leads: [Vec<f64>; 2],
}

impl Tally {
    fn new(classes: usize) -> Self {
        let confusion = vec![vec![0; classes]; classes];
        let (mistakes, doubtful) = (Vec::new(), Vec::new());
        Self { loss: 0.0, within_five: 0, confusion, mistakes, doubtful, leads: Default::default() }
    }

    /// Adds rows of logits; a data set's labels are in range.
    fn add(&mut self, logits: &[f64], labels: &[i64], samples: &[usize]) {
        let classes = self.confusion.len();
        let rows = logits.chunks_exact(classes.max(1));
        for ((row, label), &sample) in rows.zip(labels).zip(samples) {
            let (label, predicted) = (*label as usize, largest(row));
            self.within_five += u64::from(rank(row, label) < 5);
            self.confusion[label][predicted] += 1;
            let sum: f64 = row.iter().map(|logit| (logit - row[predicted]).exp()).sum();
            let answer = Answer { sample, label, predicted, probability: 1.0 / sum };
            let kept = if label == predicted { &mut self.doubtful } else { &mut self.mistakes };
            kept.push(answer);
            if let [first, second] = row {
                self.leads[label].push(second - first);
            }
        }
        self.mistakes.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        self.doubtful.sort_by(|a, b| a.probability.total_cmp(&b.probability));
        self.mistakes.truncate(MOST_ANSWERS);
        self.doubtful.truncate(MOST_ANSWERS);
    }

    fn figures(self, names: &[String]) -> Evaluation {
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        let images = self.confusion.iter().flatten().sum();
        let hits = (0..names.len()).map(|k| self.confusion[k][k]).sum();
        let of_class = |(k, name): (usize, &String)| {
            let count: u64 = self.confusion[k].iter().sum();
            let taken: u64 = self.confusion.iter().map(|row| row[k]).sum();
            let hits = self.confusion[k][k];
            let (precision, recall) = (share(hits, taken), share(hits, count));
            let f1 = share(2 * hits, taken + count);
            ClassFigures { name: name.clone(), count, precision, recall, f1 }
        };
        let classes: Vec<ClassFigures> = names.iter().enumerate().map(of_class).collect();
        Evaluation {
            images,
            loss: self.loss / images.max(1) as f64,
            top1: share(hits, images).unwrap_or(0.0),
            top5: share(self.within_five, images).unwrap_or(0.0),
            balanced_accuracy: mean(classes.iter().filter_map(|class| class.recall)),
            macro_f1: mean(classes.iter().filter_map(|class| class.f1)),
            roc_auc: area(self.leads),
            classes,
            confusion: self.confusion,
            mistakes: self.mistakes,
            doubtful: self.doubtful,
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0, 0.0), |(count, sum), value| (count + 1, sum + value));
    sum / f64::from(count.max(1))
}

/// The share of pairs of a number of the first list and one of the second in which the second is larger; equal ones
/// count half. `None` if there is no pair.
fn area(mut leads: [Vec<f64>; 2]) -> Option<f64> {
    leads.iter_mut().for_each(|leads| leads.sort_by(f64::total_cmp));
    let [first, second] = &leads;
    let below = |value: f64| first.partition_point(|&other| other < value);
    let up_to = |value: f64| first.partition_point(|&other| other <= value);
    let won: usize = second.iter().map(|&value| below(value) + up_to(value)).sum();
    let pairs = first.len() * second.len();
    (pairs > 0).then(|| won as f64 / (2 * pairs) as f64)
}
