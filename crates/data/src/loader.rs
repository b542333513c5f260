//! The loader: settings, checks, and the epochs it gives out. The threads are in [`crate::batches`].

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::augment::Mixup;
use crate::batches::{Batches, EpochPlan};
use crate::preprocessing::Preprocessing;
use crate::random::{Purpose, Stream};
use crate::samples::Samples;
use crate::transform::Transform;
use crate::{DataError, Result};

/// How a [`Loader`] makes batches.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderConfig {
    /// Samples in a batch. The last batch of an epoch may be shorter.
    pub batch_size: usize,
    /// What becomes of the pictures.
    pub preprocessing: Preprocessing,
    /// Whether each epoch visits the samples in an order of its own. Otherwise: in the dataset's order.
    pub shuffle: bool,
    /// Addresses the order and the random transforms, together with epoch and sample.
    pub seed: u64,
    /// Threads that make batches. 0: the caller's thread makes each one when it asks for it.
    pub workers: usize,
    /// How many batches the workers may be ahead of the caller, those in the making included. Not read if there are no
    /// workers.
    pub prefetch: usize,
    /// How many samples may fail to be read. One more is an error. In the place of one that fails comes, where the
    /// order is shuffled, the next of the dataset; else nothing, and its batch is shorter, or empty.
    pub max_broken: usize,
    /// How the images of a batch are mixed: its targets are soft then.
    pub mixup: Option<Mixup>,
}

impl LoaderConfig {
    /// Batches in the dataset's order, made by one worker that is up to 2 batches ahead.
    pub fn new(batch_size: usize, preprocessing: Preprocessing) -> Self {
        Self {
            batch_size,
            preprocessing,
            shuffle: false,
            seed: 0,
            workers: 1,
            prefetch: 2,
            max_broken: 0,
            mixup: None,
        }
    }
}

/// Some samples, ready for a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// `[B, C, H, W]`, row-major.
    pub images: Vec<f32>,
    /// `[B, C, H, W]`.
    pub shape: [usize; 4],
    /// The label of each sample.
    pub labels: Vec<i64>,
    /// The soft targets, `[B, K]`, row-major. Empty if the dataset has none and nothing is mixed.
    pub shares: Vec<f32>,
    /// The index of each sample in the dataset.
    pub samples: Vec<usize>,
    /// The epoch that the batch belongs to.
    pub epoch: u64,
    /// The batch's index in the epoch.
    pub index: usize,
}

/// Gives out a dataset in batches, epoch by epoch. What is in a batch does not depend on `workers` and `prefetch`, nor
/// on the timing of threads, nor on where in the epoch the caller starts.
#[derive(Clone)]
pub struct Loader {
    pub(crate) dataset: Arc<dyn Samples>,
    pub(crate) transform: Arc<dyn Transform>,
    pub(crate) config: LoaderConfig,
    /// Batches whose memory is free to be used again. Fresh memory costs page faults, as much time as the work itself.
    pub(crate) used: Arc<Mutex<Vec<Batch>>>,
    /// The samples that could not be read, by their index, and why.
    pub(crate) broken: Arc<Mutex<BTreeMap<usize, String>>>,
}

impl Loader {
    /// A loader that does the preprocessing and nothing else.
    pub fn new(dataset: Arc<dyn Samples>, config: LoaderConfig) -> Result<Self> {
        let transform = Arc::new(config.preprocessing.clone());
        Self::with_transform(dataset, config, transform)
    }

    /// A loader with a transform of your own, whose output must have the shape that `config` asks for.
    pub fn with_transform(
        dataset: Arc<dyn Samples>,
        config: LoaderConfig,
        transform: Arc<dyn Transform>,
    ) -> Result<Self> {
        let bad = |setting, reason: &str| {
            Err(DataError::BadSetting { setting, reason: reason.to_owned() })
        };
        if dataset.is_empty() {
            return bad("dataset", &format!("{} has no samples", dataset.name()));
        }
        if config.batch_size == 0 {
            return bad("batch_size", "a batch needs at least one sample");
        }
        if config.workers > 0 && config.prefetch == 0 {
            let reason = "workers need at least one batch of prefetch (or set workers to 0)";
            return bad("prefetch", reason);
        }
        config.preprocessing.check()?;
        config.mixup.as_ref().map_or(Ok(()), Mixup::check)?;
        let (gives, expected) = (transform.output_shape(), config.preprocessing.output_shape());
        if gives != expected {
            let reason = format!("it gives {gives:?}, the settings ask for {expected:?}");
            return bad("transform", &reason);
        }
        Ok(Self { dataset, transform, config, used: Arc::default(), broken: Arc::default() })
    }

    /// This loader in the place of another of the same data set, whose unreadable samples it knows.
    pub fn after(self, other: &Self) -> Self {
        Self { broken: other.broken.clone(), ..self }
    }

    /// The dataset.
    pub fn dataset(&self) -> &Arc<dyn Samples> {
        &self.dataset
    }

    /// The settings.
    pub fn config(&self) -> &LoaderConfig {
        &self.config
    }

    /// The shape of one image in a batch, `[C, H, W]`.
    pub fn image_shape(&self) -> [usize; 3] {
        self.transform.output_shape()
    }

    /// The number of batches in an epoch.
    pub fn batches_per_epoch(&self) -> usize {
        self.dataset.len().div_ceil(self.config.batch_size)
    }

    /// The samples in the order in which an epoch visits them.
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.dataset.len()).collect();
        if self.config.shuffle {
            Stream::new(self.config.seed, Purpose::SampleOrder, epoch).shuffle(&mut order);
        }
        order
    }

    /// The batches of an epoch from `start_batch` on: 0 for all of them, or the place where a run was interrupted.
    ///
    /// `start_batch` may be the number of batches, which gives none. If it is larger, the first item is an error. After
    /// an error the iterator ends. Dropping it stops the workers and waits for them.
    pub fn epoch(&self, epoch: u64, start_batch: usize) -> Batches {
        let (order, stop) = (self.order(epoch), AtomicBool::new(false));
        let plan = EpochPlan { loader: self.clone(), order, epoch, stop };
        Batches::start(plan, start_batch)
    }

    /// Why samples could not be read so far, in their order.
    pub fn broken(&self) -> Vec<String> {
        lock(&self.broken).values().cloned().collect()
    }

    /// Takes back a batch that is no longer needed. Later batches, of this epoch or another, use its memory.
    pub fn recycle(&self, batch: Batch) {
        // One that the caller holds, those that are ready, and one in each worker's hands.
        let most = 1 + self.config.prefetch + self.config.workers;
        let mut used = lock(&self.used);
        if used.len() < most {
            used.push(batch);
        }
    }
}

/// What is behind a lock, which no panic leaves half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
