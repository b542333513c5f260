//! One epoch on its way to the caller: the iterator, its worker threads, and the bound on how far ahead they are.

use std::any::Any;
use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::loader::{Batch, Loader, LoaderConfig, lock};
use crate::samples::Image;
use crate::transform::{SampleAddress, Scratch};
use crate::{DataError, Result};

/// All that the batches of an epoch depend on.
pub(crate) struct EpochPlan {
    pub(crate) loader: Loader,
    pub(crate) order: Vec<usize>,
    pub(crate) epoch: u64,
    /// Whether nobody wants them any more.
    pub(crate) stop: AtomicBool,
}

/// A batch, or why there is none.
type Made = Result<Batch>;

/// The number of a batch that a worker makes, and where it hands it over.
type Job = (usize, Sender<Made>);

/// What a worker keeps from one picture to the next.
type Workspace = (Image, Scratch);

impl EpochPlan {
    /// Makes one batch. A panic becomes an error. Gives `None` if `stop` is set before the batch is done.
    fn make(&self, index: usize, workspace: &mut Workspace) -> Option<Made> {
        // What a panic may have left half done, nothing reads: neither batch nor workspace is used again.
        let made = catch_unwind(AssertUnwindSafe(|| self.fill(index, workspace)));
        let panicked = |panic: Box<dyn Any + Send>| {
            let message = panic_message(panic.as_ref());
            Err(DataError::WorkerPanicked { epoch: self.epoch, batch: index, message })
        };
        made.unwrap_or_else(panicked).transpose()
    }

    fn fill(&self, index: usize, (image, scratch): &mut Workspace) -> Result<Option<Batch>> {
        let Loader { transform, config, used, .. } = &self.loader;
        let first = index * config.batch_size;
        let samples = &self.order[first..self.order.len().min(first + config.batch_size)];
        let [channels, height, width] = transform.output_shape();
        let pixels = channels * height * width;
        let visit = |sample| SampleAddress { seed: config.seed, epoch: self.epoch, sample };

        // With old contents, or empty.
        let mut batch = lock(used).pop().unwrap_or_default();
        batch.images.resize(samples.len() * pixels, 0.0);
        batch.labels.clear();
        batch.shares.clear();
        batch.samples.clear();
        batch.epoch = self.epoch;
        batch.index = index;

        for &sample in samples {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let Some(sample) = self.read(sample, image)? else { continue };
            self.add_target(sample, &mut batch)?;
            let out = &mut batch.images[batch.samples.len() * pixels..][..pixels];
            let written = transform.apply(visit(sample), image, scratch, out);
            written.map_err(|error| self.fault(sample, &error.to_string()))?;
            batch.samples.push(sample);
        }
        batch.images.truncate(batch.samples.len() * pixels);
        batch.shape = [batch.samples.len(), channels, height, width];
        if let Some(mixup) = &config.mixup {
            let Batch { images, labels, shares, samples, .. } = &mut batch;
            if shares.is_empty() {
                let classes = self.loader.dataset.class_names().len();
                shares.resize(labels.len() * classes, 0.0);
                let rows = shares.chunks_exact_mut(classes).zip(labels.iter().zip(&*samples));
                for (row, (&label, &sample)) in rows {
                    let share = usize::try_from(label).ok().and_then(|label| row.get_mut(label));
                    *share.ok_or_else(|| self.fault(sample, "its label is no class"))? = 1.0;
                }
            }
            let visits: Vec<_> = samples.iter().map(|&sample| visit(sample)).collect();
            mixup.apply(&visits, [height, width], images, shares);
        }
        Ok(Some(batch))
    }

    /// Reads a sample's picture, or that of the one that comes in its place; gives which. `None` if none does.
    fn read(&self, sample: usize, image: &mut Image) -> Result<Option<usize>> {
        let Loader { dataset, config, broken, .. } = &self.loader;
        let tried = if config.shuffle { dataset.len() } else { 1 };
        for index in (0..tried).map(|i| (sample + i) % dataset.len()) {
            let Err(why) = dataset.read(index, image.cleared()) else {
                image.check().map_err(|reason| self.fault(index, &reason))?;
                return Ok(Some(index));
            };
            let mut broken = lock(broken);
            broken.insert(index, why.to_string());
            if broken.len() > config.max_broken {
                let (dataset, allowed) = (dataset.name().to_owned(), config.max_broken);
                let broken = broken.values().cloned().collect();
                return Err(DataError::TooManyBroken { dataset, allowed, broken });
            }
        }
        match config.shuffle {
            true => Err(self.fault(sample, "no picture can be read")),
            false => Ok(None),
        }
    }

    /// Adds a sample's label and soft target, which is checked, to a batch.
    fn add_target(&self, index: usize, Batch { labels, shares, .. }: &mut Batch) -> Result<()> {
        let dataset = &self.loader.dataset;
        labels.push(dataset.label(index));
        let (start, classes) = (shares.len(), dataset.class_names().len());
        shares.resize(start + classes, 0.0);
        if !dataset.shares(index, &mut shares[start..]) {
            shares.truncate(start);
        }
        let row = &shares[start..];
        let whole =
            row.iter().all(|&share| share >= 0.0) && (row.iter().sum::<f32>() - 1.0).abs() < 1e-3;
        if shares.is_empty() || (whole && shares.len() == labels.len() * classes) {
            return Ok(());
        }
        let reason = "soft targets are for all samples or for none, not negative, and add up to 1";
        Err(self.fault(index, reason))
    }

    fn fault(&self, index: usize, reason: &str) -> DataError {
        let dataset = &self.loader.dataset;
        let reason = match dataset.file(index) {
            Ok(Some((file, _))) => format!("{file}: {reason}"),
            _ => reason.to_owned(),
        };
        DataError::Sample { dataset: dataset.name().to_owned(), index, reason }
    }

    /// A worker's life: take the next batch to make, make it, hand it over.
    fn work(&self, jobs: &Mutex<Receiver<Job>>) {
        let mut workspace = Workspace::default();
        loop {
            let Ok((index, hand_over)) = lock(jobs).recv() else { return };
            let Some(made) = self.make(index, &mut workspace) else { return };
            let failed = made.is_err();
            // That nobody takes it any more is no fault.
            let _ = hand_over.send(made);
            if failed {
                return;
            }
        }
    }
}

/// The batches of one epoch, in order. Made by [`Loader::epoch`](crate::Loader::epoch).
///
/// After an error it ends. Dropping it stops the workers, at the latest after the image that each is busy with.
pub struct Batches {
    plan: Arc<EpochPlan>,
    /// What is still to be given.
    rest: Range<usize>,
    /// The first of these, which workers were asked for. If there are none, the caller's thread makes each batch.
    asked: VecDeque<Receiver<Made>>,
    jobs: Option<Sender<Job>>,
    workers: Vec<JoinHandle<()>>,
    workspace: Workspace,
    /// What comes in place of the next batch.
    failed: Option<DataError>,
}

impl Batches {
    /// The batches from `first` on.
    pub(crate) fn start(plan: EpochPlan, first: usize) -> Self {
        let end = plan.loader.batches_per_epoch();
        let LoaderConfig { workers, prefetch, .. } = plan.loader.config;
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let mut batches = Self {
            plan: Arc::new(plan),
            rest: first..end,
            asked: VecDeque::new(),
            jobs: Some(jobs),
            workers: Vec::new(),
            workspace: Workspace::default(),
            failed: None,
        };
        if first > end {
            let reason = format!("batch {first} is past the end: an epoch has {end}");
            return batches.failed(DataError::BadSetting { setting: "start_batch", reason });
        }
        // More threads than batches in the making would only wait.
        for _ in 0..workers.min(prefetch).min(batches.rest.len()) {
            let (plan, queue) = (batches.plan.clone(), queue.clone());
            let worker = thread::Builder::new().name("data".to_owned());
            match worker.spawn(move || plan.work(&queue)) {
                Ok(worker) => batches.workers.push(worker),
                Err(source) => return batches.failed(DataError::Thread { source }),
            }
        }
        (0..prefetch).for_each(|_| batches.ask());
        batches
    }

    /// Asks the workers for one batch more.
    fn ask(&mut self) {
        let index = self.rest.start + self.asked.len();
        if let Some(jobs) = &self.jobs
            && !self.workers.is_empty()
            && index < self.rest.end
        {
            let (hand_over, made) = mpsc::channel();
            // If all workers ended, each by an error, one of these comes first.
            let _ = jobs.send((index, hand_over));
            self.asked.push_back(made);
        }
    }

    /// Ends, and gives one error.
    fn failed(mut self, error: DataError) -> Self {
        self.end();
        (self.rest, self.failed) = (0..1, Some(error));
        self
    }

    /// Ends the iteration: no worker is left when this returns.
    fn end(&mut self) {
        self.rest = 0..0;
        self.plan.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its work, so there is no panic to pass on.
            let _ = worker.join();
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.rest.next()?;
        let made = match (self.failed.take(), self.asked.pop_front()) {
            (Some(error), _) => Err(error),
            (None, None) => self.plan.make(index, &mut self.workspace)?,
            (None, Some(asked)) => {
                let made = asked.recv().expect("a worker hands over each batch before an error");
                self.ask();
                made
            }
        };
        if made.is_err() || self.rest.is_empty() {
            self.end();
        }
        Some(made)
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.end();
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("the panic carries no message").to_owned()
}
