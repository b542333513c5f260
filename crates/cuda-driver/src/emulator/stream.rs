//! Streams: making them, and waiting. When their work is done is in `schedule.rs`.

use super::event::awaited;
use super::machine::{Status, in_context, put};
use crate::codes::*;
use crate::types::*;

/// `CU_STREAM_NON_BLOCKING`, the only flag: no order with the default stream, which is not there.
const NON_BLOCKING: c_uint = 1;

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuStreamCreateWithPriority(to: *mut CUstream, flags: c_uint, _: c_int) -> Status {
    let handle = in_context(|session| {
        if flags & !NON_BLOCKING != 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        Ok(session.context.streams.insert())
    })?;
    // SAFETY: the caller's promise.
    unsafe { put(to, handle as CUstream) }
}

pub fn cuStreamDestroy_v2(stream: CUstream) -> Status {
    in_context(|session| {
        session.context.streams.check(stream as usize)?;
        // A destroyed stream still does its work.
        session.force_stream(stream as usize);
        session.context.streams.remove(stream as usize);
        Ok(())
    })
}

pub fn cuStreamSynchronize(stream: CUstream) -> Status {
    in_context(|session| {
        session.context.streams.check(stream as usize)?;
        session.force_stream(stream as usize);
        Ok(())
    })
}

pub fn cuStreamWaitEvent(stream: CUstream, event: CUevent, flags: c_uint) -> Status {
    in_context(|session| {
        if flags > 1 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        session.context.streams.check(stream as usize)?;
        if let Some(wait) = awaited(session, event)? {
            session.submit(stream as usize, wait)?;
        }
        Ok(())
    })
}
