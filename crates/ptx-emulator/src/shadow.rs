//! Pages of the record of who accessed global memory. They are kept from launch to launch, as fresh
//! memory costs more than the accesses that are noted in it.

/// Pieces of memory a page.
pub(crate) const PAGE: usize = 1024;

/// For each piece the last writer and the first reader, as `exec::global_races` packs them; 0 for
/// none.
pub(crate) struct AccessPage {
    pub writers: [u64; PAGE],
    pub readers: [u64; PAGE],
}

/// Pages that are not in use.
#[derive(Default)]
pub(crate) struct AccessPages {
    free: Vec<Box<AccessPage>>,
}

impl AccessPages {
    /// An empty page.
    pub(crate) fn take(&mut self) -> Box<AccessPage> {
        match self.free.pop() {
            Some(mut page) => {
                page.writers.fill(0);
                page.readers.fill(0);
                page
            }
            None => Box::new(AccessPage { writers: [0; PAGE], readers: [0; PAGE] }),
        }
    }

    /// Takes pages back.
    pub(crate) fn put(&mut self, pages: impl Iterator<Item = Box<AccessPage>>) {
        self.free.extend(pages);
    }
}
