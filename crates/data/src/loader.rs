//! The loader: settings, checks, and the epochs it gives out. The threads are in [`crate::batches`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::DataError;
use crate::batches::{Batches, EpochPlan};
use crate::preprocessing::Preprocessing;
use crate::random::{Purpose, Stream};
use crate::samples::Samples;
use crate::transform::Transform;

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
    /// Whether to leave out a last batch that is shorter than the others.
    pub drop_last: bool,
    /// How many samples may fail to be read. One more is an error. In the place of one that fails comes, where the
    /// order is shuffled, the next of the dataset; else nothing, and its batch is shorter, or empty.
    pub max_broken: usize,
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
            drop_last: false,
            max_broken: 0,
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
    /// The soft targets, `[B, K]`, row-major. Empty if the dataset has none.
    pub shares: Vec<f32>,
    /// The index of each sample in the dataset.
    pub samples: Vec<usize>,
    /// The epoch that the batch belongs to.
    pub epoch: u64,
    /// The batch's index in the epoch.
    pub index: usize,
}

/// Gives out a dataset in batches, epoch by epoch.
///
/// What is in a batch depends on the dataset, the transform, and the settings other than `workers` and `prefetch`: not
/// on the number of threads, nor on their timing, nor on where in the epoch the caller starts.
pub struct Loader {
    dataset: Arc<dyn Samples>,
    transform: Arc<dyn Transform>,
    config: LoaderConfig,
    used: Arc<UsedBatches>,
    broken: Arc<Broken>,
}

impl Loader {
    /// A loader that does the preprocessing and nothing else.
    pub fn new(dataset: Arc<dyn Samples>, config: LoaderConfig) -> Result<Self, DataError> {
        let transform = Arc::new(config.preprocessing.clone());
        Self::with_transform(dataset, config, transform)
    }

    /// A loader with a transform of your own, whose output must have the shape that `config` asks for.
    pub fn with_transform(
        dataset: Arc<dyn Samples>,
        config: LoaderConfig,
        transform: Arc<dyn Transform>,
    ) -> Result<Self, DataError> {
        let bad = |setting, reason| Err(DataError::BadSetting { setting, reason });
        if dataset.is_empty() {
            return bad("dataset", format!("{} has no samples", dataset.name()));
        }
        if config.batch_size == 0 {
            return bad("batch_size", "a batch needs at least one sample".to_owned());
        }
        if config.workers > 0 && config.prefetch == 0 {
            let reason = "workers need at least one batch of prefetch (or set workers to 0)";
            return bad("prefetch", reason.to_owned());
        }
        if config.drop_last && dataset.len() < config.batch_size {
            let reason = format!(
                "the only batch is short ({} of {} samples), so an epoch would be empty",
                dataset.len(),
                config.batch_size
            );
            return bad("drop_last", reason);
        }
        config.preprocessing.check()?;
        let (actual, expected) = (transform.output_shape(), config.preprocessing.output_shape());
        if actual != expected {
            let reason =
                format!("the transform gives {actual:?}, the settings ask for {expected:?}");
            return bad("transform", reason);
        }
        // A batch that the caller holds, those that are ready, and one in each worker's hands.
        let capacity = 1 + config.prefetch + config.workers;
        let used = Arc::new(UsedBatches { capacity, batches: Mutex::default() });
        Ok(Self { dataset, transform, config, used, broken: Arc::default() })
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
        let (samples, size) = (self.dataset.len(), self.config.batch_size);
        if self.config.drop_last { samples / size } else { samples.div_ceil(size) }
    }

    /// The number of samples that an epoch visits.
    pub fn samples_per_epoch(&self) -> usize {
        self.dataset.len().min(self.batches_per_epoch() * self.config.batch_size)
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
        let batches = self.batches_per_epoch();
        if start_batch > batches {
            let reason = format!("batch {start_batch} is past the end: an epoch has {batches}");
            return Batches::failed(DataError::BadSetting { setting: "start_batch", reason });
        }
        let plan = EpochPlan {
            dataset: Arc::clone(&self.dataset),
            transform: Arc::clone(&self.transform),
            used: Arc::clone(&self.used),
            broken: Arc::clone(&self.broken),
            max_broken: self.config.max_broken,
            shuffle: self.config.shuffle,
            seed: self.config.seed,
            batch_size: self.config.batch_size,
            order: self.order(epoch),
            epoch,
        };
        Batches::start(plan, start_batch..batches, self.config.workers, self.config.prefetch)
    }

    /// Why samples could not be read so far, in their order.
    pub fn broken(&self) -> Vec<String> {
        self.broken.lock().values().cloned().collect()
    }

    /// Takes back a batch that is no longer needed. Later batches, of this epoch or another, use its memory.
    pub fn recycle(&self, batch: Batch) {
        self.used.give(batch);
    }
}

/// The samples that could not be read, by their index, and why.
#[derive(Default)]
pub(crate) struct Broken(Mutex<BTreeMap<usize, String>>);

impl Broken {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of one. More than are allowed is an error.
    pub(crate) fn add(
        &self,
        dataset: &str,
        index: usize,
        why: &DataError,
        allowed: usize,
    ) -> Result<(), DataError> {
        let mut broken = self.lock();
        broken.insert(index, why.to_string());
        if broken.len() <= allowed {
            return Ok(());
        }
        let broken = broken.values().cloned().collect();
        Err(DataError::TooManyBroken { dataset: dataset.to_owned(), allowed, broken })
    }
}

/// Batches whose memory is free to be used again. Fresh memory costs page faults, as much time as the work itself.
pub(crate) struct UsedBatches {
    capacity: usize,
    batches: Mutex<Vec<Batch>>,
}

impl UsedBatches {
    fn give(&self, batch: Batch) {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        if batches.len() < self.capacity {
            batches.push(batch);
        }
    }

    /// An old batch with old contents, or an empty one.
    pub(crate) fn take(&self) -> Batch {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }
}
