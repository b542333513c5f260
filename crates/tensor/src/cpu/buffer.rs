//! Memory from the system: zeroed, and aligned to a cache line at the least.

use bytemuck::{Pod, Zeroable};
use memmap2::MmapMut;

/// One cache line, so that buffers start on one.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// From this size on a buffer is asked for in large pages: with pages of 4 KiB, work on a matrix that is read down its
/// columns spends a fifth of its time on finding pages.
const LARGE: usize = 2 << 20;

/// A buffer of whole cache lines.
pub(crate) struct Buffer(Source);

enum Source {
    Lines(Vec<Line>),
    Pages(MmapMut),
}

impl Buffer {
    pub(crate) const EMPTY: Self = Self(Source::Lines(Vec::new()));

    /// A buffer of at least `bytes` zeros; `None` if the system has no memory left.
    pub(crate) fn zeroed(bytes: usize) -> Option<Self> {
        let bytes = Self::size_for(bytes);
        if bytes >= LARGE {
            let pages = MmapMut::map_anon(bytes).ok()?;
            // A wish: the buffer is as good, only slower, where the system has no large pages.
            #[cfg(target_os = "linux")]
            pages.advise(memmap2::Advice::HugePage).ok();
            return Some(Self(Source::Pages(pages)));
        }
        let mut lines = Vec::new();
        lines.try_reserve_exact(bytes / size_of::<Line>()).ok()?;
        lines.resize(bytes / size_of::<Line>(), Line::zeroed());
        Some(Self(Source::Lines(lines)))
    }

    /// The size of a buffer that is asked for with `bytes`.
    pub(crate) fn size_for(bytes: usize) -> usize {
        let unit = if bytes >= LARGE { 64 << 10 } else { size_of::<Line>() };
        bytes.checked_next_multiple_of(unit).unwrap_or(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.0 {
            Source::Lines(lines) => bytemuck::cast_slice(lines),
            Source::Pages(pages) => pages,
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Source::Lines(lines) => bytemuck::cast_slice_mut(lines),
            Source::Pages(pages) => pages,
        }
    }
}
