//! Weights that are used again and again without change, as in inference, are packed for the product once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::buffer::Buffer;

/// Which matrix of a memory: where it starts, and its extents.
pub(crate) type Key = (usize, [usize; 2]);

/// The packed forms of the matrices in one memory.
#[derive(Default)]
pub(crate) struct PackedWeights {
    /// How often the memory was locked for writing.
    writes: AtomicU64,
    entries: Mutex<Vec<Entry>>,
}

struct Entry {
    key: Key,
    /// The count of writes when the matrix was last used.
    writes: u64,
    packed: Option<Arc<Buffer>>,
    /// Whether `packed` holds what the memory held at `writes`.
    valid: bool,
}

/// Matrices of one memory that are kept track of: more than any model has, and fewer than would be a burden.
const MOST: usize = 4096;

impl PackedWeights {
    /// Notes that the memory is about to change.
    pub(crate) fn written(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// The packed form of a matrix, from its second use after a change on; `None` at the first, which may be the only
    /// one. `pack` may be given an old buffer. The caller holds the memory's lock for reading.
    pub(crate) fn get(
        &self,
        key: Key,
        pack: impl FnOnce(Option<Buffer>) -> Option<Buffer>,
    ) -> Option<Arc<Buffer>> {
        let now = self.writes.load(Ordering::Relaxed);
        let old = {
            let mut entries = self.entries.lock();
            let Some(entry) = entries.iter_mut().find(|entry| entry.key == key) else {
                if entries.len() == MOST {
                    entries.clear();
                }
                entries.push(Entry { key, writes: now, packed: None, valid: false });
                return None;
            };
            if entry.writes != now {
                (entry.writes, entry.valid) = (now, false);
                return None;
            }
            if entry.valid {
                return entry.packed.clone();
            }
            entry.packed.take()
        };
        // Not under the lock, which other threads with another matrix of the memory want.
        let packed = Arc::new(pack(old.and_then(Arc::into_inner))?);
        let mut entries = self.entries.lock();
        if let Some(entry) =
            entries.iter_mut().find(|entry| entry.key == key && entry.writes == now)
        {
            (entry.packed, entry.valid) = (Some(packed.clone()), true);
        }
        Some(packed)
    }
}
