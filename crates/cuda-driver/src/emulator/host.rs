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
    blocks: BTreeMap<usize, PinnedBlock>,
}

struct PinnedBlock {
    bytes: usize,
    /// How it was allocated here; `None` for memory of the program that was registered.
    layout: Option<Layout>,
}

impl Pinned {
    /// Whether all of these bytes lie in one pinned block.
    pub fn holds(&self, address: usize, bytes: usize) -> bool {
        let block = self.blocks.range(..=address).next_back();
        block.is_some_and(|(start, block)| {
            let offset = address - start;
            offset <= block.bytes && bytes <= block.bytes - offset
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
        self.blocks.insert(address, PinnedBlock { bytes, layout: Some(layout) });
        Ok(address)
    }

    fn register(&mut self, address: usize, bytes: usize) -> Status {
        if address == 0 || bytes == 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let before = self.blocks.range(..address.saturating_add(bytes)).next_back();
        if before.is_some_and(|(start, block)| start + block.bytes > address) {
            return Err(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
        }
        self.blocks.insert(address, PinnedBlock { bytes, layout: None });
        Ok(())
    }

    fn release(&mut self, address: usize) -> Status {
        let layout = self.blocks.get(&address).and_then(|block| block.layout);
        let layout = layout.ok_or(CUDA_ERROR_INVALID_VALUE)?;
        self.blocks.remove(&address);
        // SAFETY: it was allocated with this layout, and is forgotten from here on.
        unsafe { dealloc(address as *mut u8, layout) };
        Ok(())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        for (&address, block) in &self.blocks {
            if let Some(layout) = block.layout {
                // SAFETY: it was allocated with this layout; the blocks go away with this.
                unsafe { dealloc(address as *mut u8, layout) };
            }
        }
    }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuMemAllocHost_v2(pointer: *mut *mut c_void, bytes: usize) -> Status {
    let address = in_context(|session| session.context.pinned.allocate(bytes))?;
    // SAFETY: the caller's promise.
    unsafe { put(pointer, address as *mut c_void) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuMemHostAlloc(pointer: *mut *mut c_void, bytes: usize, _: c_uint) -> Status {
    // The flags say who may map the memory, and how it is cached: neither shows here.
    // SAFETY: the caller's promise.
    unsafe { cuMemAllocHost_v2(pointer, bytes) }
}

pub fn cuMemFreeHost(pointer: *mut c_void) -> Status {
    in_context(|session| {
        // Work that waits may still read or write it.
        session.force_all();
        session.context.pinned.release(pointer as usize)
    })
}

/// # Safety: the memory stays until it is no longer registered.
pub unsafe fn cuMemHostRegister_v2(pointer: *mut c_void, bytes: usize, _: c_uint) -> Status {
    in_context(|session| session.context.pinned.register(pointer as usize, bytes))
}

pub fn cuMemHostUnregister(pointer: *mut c_void) -> Status {
    in_context(|session| {
        session.force_all();
        let blocks = &mut session.context.pinned.blocks;
        let is_registered = |block: &PinnedBlock| block.layout.is_none();
        if !blocks.get(&(pointer as usize)).is_some_and(is_registered) {
            return Err(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
        }
        blocks.remove(&(pointer as usize));
        Ok(())
    })
}
