//! Device memory: allocating, and the calls that copy and set it. The work itself is in
//! `operation.rs`, the host's pinned memory in `host.rs`.

use super::machine::{PrimaryContext, Status, in_context, put};
use super::operation::Operation;
use crate::codes::*;
use crate::types::*;

impl PrimaryContext {
    /// Checks that these bytes lie in one piece of device memory that is in use.
    fn mapped(&self, address: u64, bytes: usize) -> Status {
        if self.memory.holds(address, bytes as u64) {
            Ok(())
        } else {
            Err(CUDA_ERROR_INVALID_VALUE)
        }
    }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> Status {
    let (free_bytes, capacity) = in_context(|session| {
        Ok((session.context.memory.free_bytes(), session.context.memory.capacity()))
    })?;
    // SAFETY: the caller's promise.
    unsafe { put(free, free_bytes as usize) }?;
    // SAFETY: the caller's promise.
    unsafe { put(total, capacity as usize) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuMemAlloc_v2(to: *mut CUdeviceptr, bytes: usize) -> Status {
    let address = in_context(|session| {
        if bytes == 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        session.context.memory.alloc(bytes as u64).map_err(|_| CUDA_ERROR_OUT_OF_MEMORY)
    })?;
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
        session.context.memory.free(address).map_err(|_| CUDA_ERROR_INVALID_VALUE)
    })
}

/// Pinned memory is read when the copy is done, other memory now.
///
/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuMemcpyHtoDAsync_v2(
    to: CUdeviceptr,
    from: *const c_void,
    bytes: usize,
    stream: CUstream,
) -> Status {
    in_context(|session| {
        session.context.streams.check(stream as usize)?;
        if bytes == 0 {
            return Ok(());
        }
        session.context.mapped(to, bytes)?;
        if from.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let operation = if session.context.pinned.holds(from as usize, bytes) {
            Operation::UploadPinned { to, from: from as usize, bytes }
        } else {
            // SAFETY: the caller's promise.
            let bytes = unsafe { std::slice::from_raw_parts(from.cast(), bytes) }.to_vec();
            Operation::Upload { to, bytes }
        };
        session.submit(stream as usize, operation).map(drop)
    })
}

/// To memory that is not pinned, the copy is done when this returns.
///
/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> Status {
    in_context(|session| {
        session.context.streams.check(stream as usize)?;
        if bytes == 0 {
            return Ok(());
        }
        session.context.mapped(from, bytes)?;
        if to.is_null() {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let wait = !session.context.pinned.holds(to as usize, bytes);
        let download = Operation::Download { to: to as usize, from, bytes };
        let ticket = session.submit(stream as usize, download)?;
        if wait {
            session.force(stream as usize, ticket);
        }
        Ok(())
    })
}

pub fn cuMemcpyDtoDAsync_v2(
    to: CUdeviceptr,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> Status {
    in_context(|session| {
        session.context.streams.check(stream as usize)?;
        if bytes == 0 {
            return Ok(());
        }
        session.context.mapped(to, bytes)?;
        session.context.mapped(from, bytes)?;
        session.submit(stream as usize, Operation::Copy { to, from, bytes: bytes as u64 }).map(drop)
    })
}

pub fn cuMemsetD8Async(to: CUdeviceptr, value: c_uchar, count: usize, stream: CUstream) -> Status {
    in_context(|session| {
        session.context.streams.check(stream as usize)?;
        if count == 0 {
            return Ok(());
        }
        session.context.mapped(to, count)?;
        session
            .submit(stream as usize, Operation::Fill { to, value, count: count as u64 })
            .map(drop)
    })
}
