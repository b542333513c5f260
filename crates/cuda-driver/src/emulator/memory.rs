//! Device memory: allocating, and the calls that copy and set it. The work itself is in
//! `operation.rs`, the host's pinned memory in `host.rs`.

use super::machine::{PrimaryContext, Session, Status, in_context, put, put_if_wanted};
use super::operation::Operation;
use super::records::Allocation;
use super::schedule::DEFAULT_STREAM;
use crate::codes::*;
use crate::types::*;

/// A piece of device memory in use.
pub(super) struct DeviceBlock {
    bytes: u64,
    owner: Owner,
}

/// Who is to free it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Program,
    Module,
}

impl PrimaryContext {
    /// Allocates device memory, 256-byte aligned. Its content is not initialised.
    pub fn allocate(&mut self, bytes: u64, owner: Owner) -> Result<u64, CUresult> {
        let address = self.memory.alloc(bytes).map_err(|_| CUDA_ERROR_OUT_OF_MEMORY)?;
        self.hold(address, bytes, owner);
        Ok(address)
    }

    /// Notes that this memory is in use.
    pub fn hold(&mut self, address: u64, bytes: u64, owner: Owner) {
        self.blocks.insert(address, DeviceBlock { bytes, owner });
    }

    /// Frees what `owner` has allocated.
    pub fn free(&mut self, address: u64, owner: Owner) -> Status {
        self.blocks
            .get(&address)
            .filter(|block| block.owner == owner)
            .ok_or(CUDA_ERROR_INVALID_VALUE)?;
        self.blocks.remove(&address);
        self.memory.free(address).map_err(|_| CUDA_ERROR_INVALID_VALUE)
    }

    /// Checks that these bytes lie in one piece of memory that is in use.
    fn mapped(&self, address: u64, bytes: u64) -> Status {
        let block = self.blocks.range(..=address).next_back();
        let holds = block.is_some_and(|(start, block)| {
            let offset = address - start;
            offset <= block.bytes && bytes <= block.bytes - offset
        });
        if holds { Ok(()) } else { Err(CUDA_ERROR_INVALID_VALUE) }
    }

    /// What the program has allocated and not given back.
    pub fn leaks(&self) -> Vec<Allocation> {
        let own = self.blocks.iter().filter(|(_, block)| block.owner == Owner::Program);
        own.map(|(&address, block)| Allocation { address, bytes: block.bytes }).collect()
    }
}

impl Session<'_> {
    /// Allocates for the program. Memory that waiting work is going to free counts as free.
    fn allocate(&mut self, bytes: usize) -> Result<u64, CUresult> {
        if bytes == 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        self.context.allocate(bytes as u64, Owner::Program).or_else(|_| {
            self.force_all();
            self.context.allocate(bytes as u64, Owner::Program)
        })
    }

    /// Hands over work, and waits for it if `wait`.
    fn transfer(&mut self, stream: usize, wait: bool, operation: Operation) -> Status {
        let ticket = self.submit(stream, operation)?;
        if wait {
            self.force(stream, ticket);
        }
        Ok(())
    }

    /// Copies from the host. Pinned memory is read when the copy is done, other memory now.
    ///
    /// # Safety
    ///
    /// `from` can be read: pinned memory until the copy is done, which the driver sees to, other
    /// memory during the call.
    unsafe fn upload(
        &mut self,
        to: u64,
        from: *const c_void,
        bytes: usize,
        stream: usize,
        wait: bool,
    ) -> Status {
        self.context.streams.get(stream)?;
        if bytes == 0 {
            return Ok(());
        }
        self.context.mapped(to, bytes as u64)?;
        if from.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let operation = if self.context.pinned.holds(from as usize, bytes) {
            Operation::UploadPinned { to, from: from as usize, bytes }
        } else {
            // SAFETY: the caller's promise.
            let bytes = unsafe { std::slice::from_raw_parts(from.cast(), bytes) }.to_vec();
            Operation::Upload { to, bytes }
        };
        self.transfer(stream, wait, operation)
    }

    /// Copies to the host. To memory that is not pinned, the copy is done when this returns.
    ///
    /// # Safety
    ///
    /// As for [`upload`](Self::upload), where `to` can be written.
    unsafe fn download(
        &mut self,
        to: *mut c_void,
        from: u64,
        bytes: usize,
        stream: usize,
        wait: bool,
    ) -> Status {
        self.context.streams.get(stream)?;
        if bytes == 0 {
            return Ok(());
        }
        self.context.mapped(from, bytes as u64)?;
        if to.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let wait = wait || !self.context.pinned.holds(to as usize, bytes);
        self.transfer(stream, wait, Operation::Download { to: to as usize, from, bytes })
    }

    /// Copies on the device.
    fn copy(&mut self, to: u64, from: u64, bytes: usize, stream: usize) -> Status {
        self.context.streams.get(stream)?;
        if bytes == 0 {
            return Ok(());
        }
        self.context.mapped(to, bytes as u64)?;
        self.context.mapped(from, bytes as u64)?;
        self.transfer(stream, false, Operation::Copy { to, from, bytes: bytes as u64 })
    }

    /// Writes a pattern of 1, 2 or 4 bytes `count` times.
    fn fill(&mut self, to: u64, pattern: &[u8], count: usize, stream: usize) -> Status {
        self.context.streams.get(stream)?;
        if !to.is_multiple_of(pattern.len() as u64) {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        if count == 0 {
            return Ok(());
        }
        let count = count as u64;
        let bytes = count.checked_mul(pattern.len() as u64).ok_or(CUDA_ERROR_INVALID_VALUE)?;
        self.context.mapped(to, bytes)?;
        self.transfer(stream, false, Operation::Fill { to, pattern: pattern.to_vec(), count })
    }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Status {
    let (free_bytes, capacity) = in_context(|session| {
        Ok((session.context.memory.free_bytes(), session.context.memory.capacity()))
    })?;
    // SAFETY: the caller's promise.
    unsafe {
        put_if_wanted(free, free_bytes as usize);
        put_if_wanted(total, capacity as usize);
    }
    Ok(())
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuMemAlloc_v2(to: *mut CUdeviceptr, bytes: usize) -> Status {
    let address = in_context(|session| session.allocate(bytes))?;
    // SAFETY: the caller's promise.
    unsafe { put(to, address) }
}

pub fn cuMemFree_v2(address: CUdeviceptr) -> Status {
    in_context(|session| {
        if address == 0 {
            return Ok(());
        }
        // The driver waits for the device before it frees.
        session.force_all();
        session.context.free(address, Owner::Program)
    })
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuMemAllocAsync(to: *mut CUdeviceptr, bytes: usize, stream: CUstream) -> Status {
    let address = in_context(|session| {
        session.context.streams.get(stream as usize)?;
        session.allocate(bytes)
    })?;
    // SAFETY: the caller's promise.
    unsafe { put(to, address) }
}

pub fn cuMemFreeAsync(address: CUdeviceptr, stream: CUstream) -> Status {
    in_context(|session| {
        session.context.streams.get(stream as usize)?;
        if address == 0 {
            return Ok(());
        }
        session.context.mapped(address, 0)?;
        session.transfer(stream as usize, false, Operation::Free { address })
    })
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuMemcpyHtoD_v2(to: CUdeviceptr, from: *const c_void, bytes: usize) -> Status {
    // SAFETY: the caller's promise.
    in_context(|session| unsafe { session.upload(to, from, bytes, DEFAULT_STREAM, true) })
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuMemcpyDtoH_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize) -> Status {
    // SAFETY: the caller's promise.
    in_context(|session| unsafe { session.download(to, from, bytes, DEFAULT_STREAM, true) })
}

pub fn cuMemcpyDtoD_v2(to: CUdeviceptr, from: CUdeviceptr, bytes: usize) -> Status {
    in_context(|session| session.copy(to, from, bytes, DEFAULT_STREAM))
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuMemcpyHtoDAsync_v2(
    to: CUdeviceptr,
    from: *const c_void,
    bytes: usize,
    stream: CUstream,
) -> Status {
    // SAFETY: the caller's promise.
    in_context(|session| unsafe { session.upload(to, from, bytes, stream as usize, false) })
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> Status {
    // SAFETY: the caller's promise.
    in_context(|session| unsafe { session.download(to, from, bytes, stream as usize, false) })
}

pub fn cuMemcpyDtoDAsync_v2(
    to: CUdeviceptr,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> Status {
    in_context(|session| session.copy(to, from, bytes, stream as usize))
}

macro_rules! fills {
    ($($now:ident $later:ident: $type:ty;)*) => {
        $(
            pub fn $now(to: CUdeviceptr, value: $type, count: usize) -> Status {
                in_context(|session| session.fill(to, &value.to_ne_bytes(), count, DEFAULT_STREAM))
            }

            pub fn $later(
                to: CUdeviceptr,
                value: $type,
                count: usize,
                stream: CUstream,
            ) -> Status {
                in_context(|session| {
                    session.fill(to, &value.to_ne_bytes(), count, stream as usize)
                })
            }
        )*
    };
}

// The ones without a stream do not wait either, by the driver's documentation: they go to the
// default stream.
fills! {
    cuMemsetD8_v2 cuMemsetD8Async: c_uchar;
    cuMemsetD16_v2 cuMemsetD16Async: c_ushort;
    cuMemsetD32_v2 cuMemsetD32Async: c_uint;
}
