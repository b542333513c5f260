//! Pinned memory of the host. Asynchronous copies read and write it later than the call; they take
//! a copy of other memory at once.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;

use super::machine::{Status, in_context, put};
use crate::codes::*;
use crate::types::*;

/// The blocks of pinned memory, by address.
#[derive(Default)]
pub(super) struct Pinned {
    blocks: BTreeMap<usize, Layout>,
}

impl Pinned {
    /// Whether all of these bytes lie in one pinned block.
    pub fn holds(&self, address: usize, bytes: usize) -> bool {
        let block = self.blocks.range(..=address).next_back();
        block.is_some_and(|(start, layout)| {
            let offset = address - start;
            offset <= layout.size() && bytes <= layout.size() - offset
        })
    }

    fn allocate(&mut self, bytes: usize) -> Result<usize, CUresult> {
        // A page, as the driver pins whole pages.
        let layout = Layout::from_size_align(bytes, 4096).map_err(|_| CUDA_ERROR_OUT_OF_MEMORY)?;
        if bytes == 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        // SAFETY: the size is not 0.
        let address = unsafe { alloc_zeroed(layout) } as usize;
        if address == 0 {
            return Err(CUDA_ERROR_OUT_OF_MEMORY);
        }
        self.blocks.insert(address, layout);
        Ok(address)
    }

    fn release(&mut self, address: usize) -> Status {
        let layout = self.blocks.remove(&address).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        // SAFETY: it was allocated with this layout, and is forgotten from here on.
        unsafe { dealloc(address as *mut u8, layout) };
        Ok(())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        for (&address, &layout) in &self.blocks {
            // SAFETY: it was allocated with this layout; the blocks go away with this.
            unsafe { dealloc(address as *mut u8, layout) };
        }
    }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuMemAllocHost_v2(pointer: *mut *mut c_void, bytes: usize) -> Status {
    let address = in_context(|session| session.context.pinned.allocate(bytes))?;
    // SAFETY: the caller's promise.
    unsafe { put(pointer, address as *mut c_void) }
}

pub fn cuMemFreeHost(pointer: *mut c_void) -> Status {
    in_context(|session| {
        // Work that waits may still read or write it.
        session.force_all();
        session.context.pinned.release(pointer as usize)
    })
}
