//! One epoch on its way to the caller: the iterator, its worker threads, and the bound on how far ahead they are. Which
//! samples are in which batch is settled in [`crate::loader`].

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::iter::FusedIterator;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::DataError;
use crate::loader::{Batch, Broken, UsedBatches};
use crate::samples::{Image, Samples, check_label};
use crate::transform::{SampleAddress, Scratch, Transform};

/// All that a batch depends on.
pub(crate) struct EpochPlan {
    pub(crate) dataset: Arc<dyn Samples>,
    pub(crate) transform: Arc<dyn Transform>,
    pub(crate) used: Arc<UsedBatches>,
    pub(crate) broken: Arc<Broken>,
    pub(crate) max_broken: usize,
    pub(crate) shuffle: bool,
    pub(crate) seed: u64,
    pub(crate) batch_size: usize,
    pub(crate) order: Vec<usize>,
    pub(crate) epoch: u64,
}

/// What a worker keeps from one picture to the next.
#[derive(Default)]
struct Workspace {
    image: Image,
    scratch: Scratch,
}

impl EpochPlan {
    /// Makes one batch. A panic becomes an error. Gives `None` if `stop` is set before the batch is done.
    fn make(
        &self,
        index: usize,
        workspace: &mut Workspace,
        stop: &AtomicBool,
    ) -> Option<Result<Batch, DataError>> {
        // After a panic nothing reads what it may have left half done: the batch is lost, the workspace is not used
        // again.
        catch_unwind(AssertUnwindSafe(|| self.fill(index, workspace, stop).transpose()))
            .unwrap_or_else(|panic| {
                let message = panic_message(panic.as_ref());
                Some(Err(DataError::WorkerPanicked { epoch: self.epoch, batch: index, message }))
            })
    }

    fn fill(
        &self,
        index: usize,
        Workspace { image, scratch }: &mut Workspace,
        stop: &AtomicBool,
    ) -> Result<Option<Batch>, DataError> {
        let first = index * self.batch_size;
        let samples = &self.order[first..self.order.len().min(first + self.batch_size)];
        let [channels, height, width] = self.transform.output_shape();
        let pixels = channels * height * width;

        let mut batch = self.used.take();
        batch.images.resize(samples.len() * pixels, 0.0);
        batch.labels.clear();
        batch.shares.clear();
        batch.samples.clear();
        batch.epoch = self.epoch;
        batch.index = index;

        for &sample in samples {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let Some(sample) = self.read(sample, image)? else { continue };
            self.add_target(sample, &mut batch.labels, &mut batch.shares)?;
            let out = &mut batch.images[batch.samples.len() * pixels..][..pixels];
            let address = SampleAddress { seed: self.seed, epoch: self.epoch, sample };
            let written = self.transform.apply(address, image, scratch, out);
            written.map_err(|error| self.fault(sample, error.to_string()))?;
            batch.samples.push(sample);
        }
        batch.images.truncate(batch.samples.len() * pixels);
        batch.shape = [batch.samples.len(), channels, height, width];
        Ok(Some(batch))
    }

    /// Reads a sample's picture, or that of the one that comes in its place; gives which. `None` if none does.
    fn read(&self, sample: usize, image: &mut Image) -> Result<Option<usize>, DataError> {
        let len = self.dataset.len();
        let tried = if self.shuffle { len } else { 1 };
        for index in (0..tried).map(|i| (sample + i) % len) {
            match self.dataset.read(index, image.cleared()) {
                Ok(()) => {
                    image.check().map_err(|reason| self.fault(index, reason))?;
                    return Ok(Some(index));
                }
                Err(why) => self.broken.add(self.dataset.name(), index, &why, self.max_broken)?,
            }
        }
        match self.shuffle {
            true => Err(self.fault(sample, "no picture can be read".to_owned())),
            false => Ok(None),
        }
    }

    /// Adds a sample's label and soft target to those of a batch, after every check.
    fn add_target(
        &self,
        index: usize,
        labels: &mut Vec<i64>,
        shares: &mut Vec<f32>,
    ) -> Result<(), DataError> {
        let (label, classes) = (self.dataset.label(index), self.dataset.class_names().len());
        check_label(self.dataset.name(), classes, index, label)?;
        labels.push(label);
        let start = shares.len();
        shares.resize(start + classes, 0.0);
        if !self.dataset.shares(index, &mut shares[start..]) {
            shares.truncate(start);
        }
        let row = &shares[start..];
        let whole =
            row.iter().all(|&share| share >= 0.0) && (row.iter().sum::<f32>() - 1.0).abs() < 1e-3;
        if shares.is_empty() || (whole && shares.len() == labels.len() * classes) {
            return Ok(());
        }
        let reason = "soft targets are for all samples or for none, not negative, and add up to 1";
        Err(self.fault(index, reason.to_owned()))
    }

    fn fault(&self, index: usize, reason: String) -> DataError {
        let reason = match self.dataset.file(index) {
            Ok(Some((file, _))) => format!("{file}: {reason}"),
            _ => reason,
        };
        DataError::Sample { dataset: self.dataset.name().to_owned(), index, reason }
    }
}

/// The batches of one epoch, in order. Made by [`Loader::epoch`](crate::Loader::epoch).
///
/// After an error it ends. Dropping it stops the workers, at the latest after the image that each is busy with.
pub struct Batches {
    source: Source,
    rest: Range<usize>,
}

enum Source {
    /// The caller's thread makes the batches.
    Inline {
        plan: Box<EpochPlan>,
        workspace: Workspace,
    },
    Workers {
        shared: Arc<Shared>,
        threads: Vec<JoinHandle<()>>,
    },
    /// Nothing comes any more, but for one error.
    Ended(Option<DataError>),
}

/// What the caller and the workers share.
struct Shared {
    plan: EpochPlan,
    prefetch: usize,
    end: usize,
    stop: AtomicBool,
    progress: Mutex<Progress>,
    changed: Condvar,
}

struct Progress {
    /// The next batch that a worker will begin.
    next_to_make: usize,
    /// The next batch that the caller will get.
    next_to_give: usize,
    ready: BTreeMap<usize, Result<Batch, DataError>>,
}

impl Batches {
    pub(crate) fn start(
        plan: EpochPlan,
        range: Range<usize>,
        workers: usize,
        prefetch: usize,
    ) -> Self {
        if workers == 0 {
            let source = Source::Inline { plan: Box::new(plan), workspace: Workspace::default() };
            return Self { source, rest: range };
        }
        let shared = Arc::new(Shared {
            plan,
            prefetch,
            end: range.end,
            stop: AtomicBool::new(false),
            progress: Mutex::new(Progress {
                next_to_make: range.start,
                next_to_give: range.start,
                ready: BTreeMap::new(),
            }),
            changed: Condvar::new(),
        });
        // More threads than batches in the making would only wait.
        let workers = workers.min(prefetch).min(range.len());
        let threads: io::Result<Vec<_>> = (0..workers)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::Builder::new().name("data".to_owned()).spawn(move || shared.work())
            })
            .collect();
        match threads {
            Ok(threads) => Self { source: Source::Workers { shared, threads }, rest: range },
            Err(error) => {
                shared.end_work();
                Self::failed(DataError::Thread { source: error })
            }
        }
    }

    /// An iterator that gives one error.
    pub(crate) fn failed(error: DataError) -> Self {
        Self { source: Source::Ended(Some(error)), rest: 0..1 }
    }

    /// Ends the iteration: no worker is left when this returns.
    fn end(&mut self) {
        self.rest = 0..0;
        if let Source::Workers { shared, threads } =
            std::mem::replace(&mut self.source, Source::Ended(None))
        {
            shared.end_work();
            for thread in threads {
                // A worker catches the panics of its work, so there is no panic to pass on.
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, progress: MutexGuard<'a, Progress>) -> MutexGuard<'a, Progress> {
        self.changed.wait(progress).unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker's life: claim the next batch, make it, hand it over.
    fn work(&self) {
        let mut workspace = Workspace::default();
        while let Some(index) = self.claim() {
            let Some(made) = self.plan.make(index, &mut workspace, &self.stop) else { return };
            let failed = made.is_err();
            self.lock().ready.insert(index, made);
            self.changed.notify_all();
            if failed {
                return;
            }
        }
    }

    /// Waits until a batch may be begun. `None`: there is no more to do.
    fn claim(&self) -> Option<usize> {
        let mut progress = self.lock();
        loop {
            if self.stop.load(Ordering::Relaxed) || progress.next_to_make == self.end {
                return None;
            }
            if progress.next_to_make < progress.next_to_give + self.prefetch {
                progress.next_to_make += 1;
                return Some(progress.next_to_make - 1);
            }
            progress = self.wait(progress);
        }
    }

    /// Waits for the next batch in order. Every claimed batch arrives, as a batch or as an error.
    fn receive(&self) -> Result<Batch, DataError> {
        let mut progress = self.lock();
        loop {
            let next = progress.next_to_give;
            if let Some(made) = progress.ready.remove(&next) {
                progress.next_to_give += 1;
                self.changed.notify_all();
                return made;
            }
            progress = self.wait(progress);
        }
    }

    fn end_work(&self) {
        // Under the lock, or a worker could miss it between its check and its wait.
        let progress = self.lock();
        self.stop.store(true, Ordering::Relaxed);
        drop(progress);
        self.changed.notify_all();
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.rest.next()?;
        let made = match &mut self.source {
            Source::Inline { plan, workspace } => {
                plan.make(index, workspace, &AtomicBool::new(false))?
            }
            Source::Workers { shared, .. } => shared.receive(),
            Source::Ended(error) => Err(error.take()?),
        };
        if made.is_err() || self.rest.is_empty() {
            self.end();
        }
        Some(made)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // An error ends the iteration early.
        (usize::from(!self.rest.is_empty()), Some(self.rest.len()))
    }
}

impl FusedIterator for Batches {}

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
