//! How many blocks fit on a multiprocessor: by threads, blocks and shared memory. Registers are not
//! counted, as the emulator does not allocate them.

use super::device::*;
use super::machine::{Status, in_context, put};
use super::module::LoadedFunction;
use crate::codes::*;
use crate::types::*;

/// Blocks of this many threads that a multiprocessor holds at once.
fn active_blocks(function: &LoadedFunction, threads: u32, dynamic: u32) -> Result<u32, CUresult> {
    let shared = function.kernel()?.shared_bytes() + dynamic;
    if threads > function.max_threads()? || dynamic > function.max_dynamic_shared {
        return Ok(0);
    }
    let by_threads = MAX_THREADS_PER_MULTIPROCESSOR / threads.next_multiple_of(WARP);
    let by_shared = SHARED_PER_MULTIPROCESSOR / (shared + SHARED_RESERVED_PER_BLOCK);
    Ok(by_threads.min(by_shared).min(MAX_BLOCKS_PER_MULTIPROCESSOR))
}

/// A positive number of threads, and a size that a launch can have.
fn arguments(threads: c_int, dynamic: usize) -> Result<(u32, u32), CUresult> {
    let threads = u32::try_from(threads).ok().filter(|threads| *threads > 0);
    let dynamic = u32::try_from(dynamic).ok().filter(|bytes| *bytes < 1 << 30);
    threads.zip(dynamic).ok_or(CUDA_ERROR_INVALID_VALUE)
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
    to: *mut c_int,
    function: CUfunction,
    threads: c_int,
    dynamic: usize,
) -> Status {
    let blocks = in_context(|session| {
        let (threads, dynamic) = arguments(threads, dynamic)?;
        active_blocks(session.context.function(function)?, threads, dynamic)
    })?;
    // SAFETY: the caller's promise.
    unsafe { put(to, blocks as c_int) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuOccupancyAvailableDynamicSMemPerBlock(
    to: *mut usize,
    function: CUfunction,
    blocks: c_int,
    threads: c_int,
) -> Status {
    let bytes = in_context(|session| {
        let (threads, _) = arguments(threads, 0)?;
        let blocks = u32::try_from(blocks).ok().filter(|blocks| *blocks > 0);
        let blocks = blocks.ok_or(CUDA_ERROR_INVALID_VALUE)?;
        let function = session.context.function(function)?;
        if active_blocks(function, threads, 0)? < blocks {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let taken = function.kernel()?.shared_bytes() + SHARED_RESERVED_PER_BLOCK;
        let room = (SHARED_PER_MULTIPROCESSOR / blocks).saturating_sub(taken);
        Ok(room.min(function.max_dynamic_shared))
    })?;
    // SAFETY: the caller's promise.
    unsafe { put(to, bytes as usize) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuOccupancyMaxPotentialBlockSize(
    min_grid: *mut c_int,
    block: *mut c_int,
    function: CUfunction,
    dynamic_of: CUoccupancyB2DSize,
    dynamic: usize,
    limit: c_int,
) -> Status {
    let (blocks, threads) = in_context(|session| {
        let function = session.context.function(function)?;
        let most = function.max_threads()?;
        let most =
            u32::try_from(limit).ok().filter(|limit| *limit > 0).map_or(most, |l| most.min(l));
        let mut best = (0, 0);
        for threads in (1..=most).rev().filter(|threads| threads % WARP == 0 || *threads == most) {
            let dynamic = match dynamic_of {
                // SAFETY: the caller gave the function for this.
                Some(dynamic_of) => unsafe { dynamic_of(threads as c_int) },
                None => dynamic,
            };
            let (threads, dynamic) = arguments(threads as c_int, dynamic)?;
            let blocks = active_blocks(function, threads, dynamic)?;
            // The larger block where both occupy as much.
            if blocks * threads > best.0 * best.1 {
                best = (blocks, threads);
            }
        }
        Ok(best)
    })?;
    // SAFETY: the caller's promise.
    unsafe { put(min_grid, blocks as c_int * MULTIPROCESSORS) }?;
    // SAFETY: the caller's promise.
    unsafe { put(block, threads as c_int) }
}
