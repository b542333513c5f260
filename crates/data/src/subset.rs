//! Some samples of a dataset: the first so many, a held-out part, some classes.

use std::sync::Arc;

use crate::random::{Purpose, Stream};
use crate::samples::{Image, Labels, Samples};
use crate::{DataError, Result};

/// Some samples of another dataset, in an order of its own; perhaps with other numbers for the classes.
pub struct Subset {
    samples: Arc<dyn Samples>,
    indices: Vec<usize>,
    labels: Labels,
    /// Whether the classes are all those of `samples`, in their order.
    all_classes: bool,
}

impl Subset {
    fn new(samples: Arc<dyn Samples>, indices: Vec<usize>) -> Self {
        let (name, class_names) = (samples.name().to_owned(), samples.class_names().to_vec());
        let labels = indices.iter().map(|&index| samples.label(index)).collect();
        Self { samples, indices, labels: Labels { name, class_names, labels }, all_classes: true }
    }

    /// The first so many samples, or as many as there are. Where these lie class by class, as in a folder, they are
    /// taken at even distances, so that all classes are among them.
    pub fn limit(samples: Arc<dyn Samples>, limit: usize) -> Arc<dyn Samples> {
        let len = samples.len();
        if limit >= len {
            return samples;
        }
        let changes = (1..len).filter(|&i| samples.label(i - 1) != samples.label(i)).count();
        let sorted = changes < samples.class_names().len();
        let place = |i: usize| if sorted { i * len / limit } else { i };
        Arc::new(Self::new(samples, (0..limit).map(place).collect()))
    }

    /// The samples of these classes, which are numbered in this order.
    pub fn classes(samples: Arc<dyn Samples>, classes: &[String]) -> Result<Arc<dyn Samples>> {
        let bad = |reason| DataError::BadParts { dataset: samples.name().to_owned(), reason };
        let (known, names) = (samples.class_names(), samples.class_names().join(", "));
        let mut labels = vec![-1; known.len()];
        for (label, class) in (0..).zip(classes) {
            let unknown = || bad(format!("there is no class {class:?}; the classes are {names}"));
            let old = known.iter().position(|name| name == class).ok_or_else(unknown)?;
            if std::mem::replace(&mut labels[old], label) >= 0 {
                return Err(bad(format!("the class {class:?} is named twice")));
            }
        }
        let label = |index: &usize| labels[samples.label(*index) as usize];
        let indices = (0..samples.len()).filter(|index| label(index) >= 0).collect();
        let mut some = Self { all_classes: false, ..Self::new(samples, indices) };
        some.labels.labels.iter_mut().for_each(|label| *label = labels[*label as usize]);
        some.labels.class_names = classes.to_vec();
        Ok(Arc::new(some))
    }

    /// Draws a held-out part by the seed: a share of the samples if `holdout` is below 1, else so many, of each class
    /// its share, but not all, and one at the least of two. Gives the rest and the held-out part, each in the dataset's
    /// order.
    pub fn holdout(
        samples: &Arc<dyn Samples>,
        holdout: f64,
        seed: u64,
    ) -> Result<[Arc<dyn Samples>; 2]> {
        let mut of_class = vec![Vec::new(); samples.class_names().len()];
        (0..samples.len()).for_each(|i| of_class[samples.label(i) as usize].push(i));
        let len = samples.len() as f64;
        let total = if holdout < 1.0 { (holdout * len).round() } else { holdout };
        if total >= len {
            let reason = format!("of its {len} pictures, {total} cannot be held out");
            return Err(DataError::BadParts { dataset: samples.name().to_owned(), reason });
        }
        let mut held = vec![false; samples.len()];
        let quotas: Vec<f64> = of_class.iter().map(|of| of.len() as f64 * total / len).collect();
        // By the largest remainder (Hamilton), so that the sum is right; the first of equals comes first.
        let mut by_remainder: Vec<usize> = (0..quotas.len()).collect();
        by_remainder.sort_by(|&a, &b| quotas[b].fract().total_cmp(&quotas[a].fract()));
        let whole: f64 = quotas.iter().map(|quota| quota.floor()).sum();
        let mut spare = (total - whole).round() as usize;
        for class in by_remainder {
            let more = usize::from(spare > 0 && quotas[class].fract() > 0.0);
            spare -= more;
            let indices = &mut of_class[class];
            // Each class has a picture on both sides, if it can.
            let most = indices.len().saturating_sub(1);
            let count = (quotas[class] as usize + more).clamp(most.min(1), most);
            Stream::new(seed, Purpose::Holdout, class as u64).shuffle(indices);
            indices.iter().take(count).for_each(|&index| held[index] = true);
        }
        Ok([false, true].map(|part| -> Arc<dyn Samples> {
            let indices = (0..samples.len()).filter(|&index| held[index] == part).collect();
            Arc::new(Self::new(samples.clone(), indices))
        }))
    }
}

impl Samples for Subset {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn read(&self, index: usize, image: &mut Image) -> Result<()> {
        self.samples.read(self.indices[index], image)
    }

    fn file(&self, index: usize) -> Result<Option<(String, Vec<u8>)>> {
        self.samples.file(self.indices[index])
    }

    /// Shares of all classes say nothing of some.
    fn shares(&self, index: usize, shares: &mut [f32]) -> bool {
        self.all_classes && self.samples.shares(self.indices[index], shares)
    }
}
