//! Streams: making, asking, and waiting for them. When their work is done is in `schedule.rs`.

use super::context::PRIORITIES;
use super::event::awaited;
use super::machine::{Status, in_context, new_handle, put};
use super::operation::Operation;
use super::schedule::EmulatedStream;
use crate::codes::*;
use crate::types::*;

/// `CU_STREAM_NON_BLOCKING`, the only flag: no order with the default stream.
const NON_BLOCKING: c_uint = 1;

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuStreamCreate(to: *mut CUstream, flags: c_uint) -> Status {
    // SAFETY: the caller's promise.
    unsafe { cuStreamCreateWithPriority(to, flags, 0) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuStreamCreateWithPriority(
    to: *mut CUstream,
    flags: c_uint,
    priority: c_int,
) -> Status {
    let handle = in_context(|session| {
        if flags & !NON_BLOCKING != 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let handle = new_handle();
        let priority = priority.clamp(*PRIORITIES.start(), *PRIORITIES.end());
        session
            .context
            .streams
            .insert(handle, EmulatedStream::new(flags & NON_BLOCKING == 0, priority));
        Ok(handle)
    })?;
    // SAFETY: the caller's promise.
    unsafe { put(to, handle as CUstream) }
}

pub fn cuStreamDestroy_v2(stream: CUstream) -> Status {
    in_context(|session| {
        // A destroyed stream still does its work.
        session.context.streams.get(stream as usize)?;
        session.force_stream(stream as usize);
        session.context.streams.remove(stream as usize)
    })
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuStreamGetFlags(stream: CUstream, to: *mut c_uint) -> Status {
    let flags = in_context(|session| {
        let blocking = session.context.streams.get(stream as usize)?.blocking;
        Ok(if blocking { 0 } else { NON_BLOCKING })
    })?;
    // SAFETY: the caller's promise.
    unsafe { put(to, flags) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuStreamGetPriority(stream: CUstream, to: *mut c_int) -> Status {
    let priority =
        in_context(|session| Ok(session.context.streams.get(stream as usize)?.priority))?;
    // SAFETY: the caller's promise.
    unsafe { put(to, priority) }
}

pub fn cuStreamQuery(stream: CUstream) -> Status {
    in_context(|session| {
        if !session.context.streams.is_busy(stream as usize)? {
            return Ok(());
        }
        // A program that asks again and again gets there.
        session.force_stream(stream as usize);
        Err(CUDA_ERROR_NOT_READY)
    })
}

pub fn cuStreamSynchronize(stream: CUstream) -> Status {
    in_context(|session| {
        session.context.streams.get(stream as usize)?;
        session.force_stream(stream as usize);
        Ok(())
    })
}

pub fn cuStreamWaitEvent(stream: CUstream, event: CUevent, flags: c_uint) -> Status {
    in_context(|session| {
        if flags > 1 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        session.context.streams.get(stream as usize)?;
        if let Some(wait) = awaited(session, event)? {
            session.submit(stream as usize, wait)?;
        }
        Ok(())
    })
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuLaunchHostFunc(stream: CUstream, function: CUhostFn, data: *mut c_void) -> Status {
    let function = function.ok_or(CUDA_ERROR_INVALID_VALUE)?;
    let operation = Operation::HostFunction { function, data: data as usize };
    in_context(|session| session.submit(stream as usize, operation).map(drop))
}
