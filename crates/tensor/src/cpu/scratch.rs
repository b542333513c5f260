//! Buffers that belong to a thread, for what an operation needs while it runs.

use std::cell::RefCell;

use bytemuck::Pod;

use super::buffer::Buffer;
use super::no_memory;
use crate::Result;

thread_local! {
    /// Small ones first.
    static FREE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Overwrites the buffers of all threads that work here with NaN; see [`Backend::poison`](crate::Backend::poison).
pub(crate) fn poison() {
    let fill = || {
        FREE.with_borrow_mut(|free| free.iter_mut().for_each(|b| b.bytes_mut().fill(0xff)));
    };
    fill();
    rayon::broadcast(|_| fill());
}

/// Runs `work` on a thread's own buffer of `len` numbers with any content. May be nested.
pub(crate) fn with_scratch<A: Pod>(
    len: usize,
    work: impl FnOnce(&mut [A]) -> Result<()>,
) -> Result<()> {
    let bytes = len.saturating_mul(size_of::<A>());
    // The smallest that is large enough; else the largest is given up for a larger one.
    let found = FREE.with_borrow_mut(|free| {
        let at = free.partition_point(|buffer| buffer.bytes().len() < bytes);
        if at == free.len() {
            free.pop();
            return None;
        }
        Some(free.remove(at))
    });
    let mut buffer = match found {
        Some(buffer) => buffer,
        None => Buffer::zeroed(bytes).ok_or_else(|| no_memory("work space", bytes))?,
    };
    let result = work(&mut bytemuck::cast_slice_mut(buffer.bytes_mut())[..len]);
    FREE.with_borrow_mut(|free| {
        let size = buffer.bytes().len();
        free.insert(free.partition_point(|other| other.bytes().len() < size), buffer);
    });
    result
}
