//! Decoded pictures kept in memory, as many as fit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::Result;
use crate::samples::{Image, Labels, Samples};

/// How many bytes of pictures may still be kept. Several datasets may share it.
pub type CacheSpace = Arc<AtomicU64>;

/// A dataset whose pictures are kept when they were read, while there is space.
pub struct Cached<S> {
    samples: S,
    space: CacheSpace,
    kept: Vec<OnceLock<Image>>,
}

impl<S: Samples> Cached<S> {
    /// Keeps pictures of a dataset in this space.
    pub fn new(samples: S, space: CacheSpace) -> Self {
        let kept = (0..samples.len()).map(|_| OnceLock::new()).collect();
        Self { samples, space, kept }
    }
}

impl<S: Samples> Samples for Cached<S> {
    fn labels(&self) -> &Labels {
        self.samples.labels()
    }

    fn read(&self, index: usize, image: &mut Image) -> Result<()> {
        if let Some(kept) = self.kept[index].get() {
            image.pixels.clone_from(&kept.pixels);
            image.shape = kept.shape;
            return Ok(());
        }
        self.samples.read(index, image)?;
        let bytes = image.pixels.len() as u64;
        let take = |space: u64| space.checked_sub(bytes);
        if self.space.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
            && self.kept[index].set(image.clone()).is_err()
        {
            // Another worker kept it meanwhile.
            self.space.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    fn file(&self, index: usize) -> Result<Option<(String, Vec<u8>)>> {
        self.samples.file(index)
    }

    fn shares(&self, index: usize, shares: &mut [f32]) -> bool {
        self.samples.shares(index, shares)
    }
}
