//! Events: marks in a stream, to wait for and to take times at.

use std::time::Instant;

use super::machine::{Session, Status, in_context, new_handle, put};
use super::operation::Operation;
use super::schedule::Ticket;
use crate::codes::*;
use crate::types::*;

/// `CU_EVENT_DISABLE_TIMING`.
const DISABLE_TIMING: c_uint = 2;
/// All flags that an event can have: blocking synchronisation, no timing, for other processes.
const ALL_FLAGS: c_uint = 7;

/// An event that was created.
pub(super) struct Event {
    flags: c_uint,
    /// Where it was recorded last: the stream, and the place in it.
    recorded: Option<(usize, Ticket)>,
    /// The latest recording that a stream has come past, and when.
    passed: Option<(Ticket, Instant)>,
}

impl Event {
    /// Notes that a stream has come past a recording. One in another stream may be later.
    pub fn pass(&mut self, ticket: Ticket) {
        if self.passed.is_none_or(|(latest, _)| ticket > latest) {
            self.passed = Some((ticket, Instant::now()));
        }
    }

    /// The recording that is still ahead of its stream.
    fn pending(&self) -> Option<(usize, Ticket)> {
        let passed = self.passed.map_or(0, |(ticket, _)| ticket);
        self.recorded.filter(|(_, ticket)| *ticket > passed)
    }

    /// When the stream came past it. A time needs a finished recording, and an event with timing.
    fn time(&self) -> Result<Instant, CUresult> {
        if self.flags & DISABLE_TIMING != 0 || self.recorded.is_none() {
            return Err(CUDA_ERROR_INVALID_HANDLE);
        }
        let passed = self.passed.filter(|_| self.pending().is_none());
        passed.map(|(_, time)| time).ok_or(CUDA_ERROR_NOT_READY)
    }
}

fn event<'a>(session: &'a mut Session<'_>, handle: CUevent) -> Result<&'a mut Event, CUresult> {
    session.context.events.get_mut(&(handle as usize)).ok_or(CUDA_ERROR_INVALID_HANDLE)
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuEventCreate(to: *mut CUevent, flags: c_uint) -> Status {
    let handle = in_context(|session| {
        if flags & !ALL_FLAGS != 0 {
            return Err(CUDA_ERROR_INVALID_VALUE);
        }
        let handle = new_handle();
        session.context.events.insert(handle, Event { flags, recorded: None, passed: None });
        Ok(handle)
    })?;
    // SAFETY: the caller's promise.
    unsafe { put(to, handle as CUevent) }
}

pub fn cuEventDestroy_v2(handle: CUevent) -> Status {
    in_context(|session| {
        let removed = session.context.events.remove(&(handle as usize));
        removed.map(drop).ok_or(CUDA_ERROR_INVALID_HANDLE)
    })
}

pub fn cuEventRecord(handle: CUevent, stream: CUstream) -> Status {
    in_context(|session| {
        event(session, handle)?;
        let stream = stream as usize;
        let ticket = session.submit(stream, Operation::Record { event: handle as usize })?;
        event(session, handle)?.recorded = Some((stream, ticket));
        Ok(())
    })
}

pub fn cuEventSynchronize(handle: CUevent) -> Status {
    in_context(|session| {
        if let Some((stream, ticket)) = event(session, handle)?.pending() {
            session.force(stream, ticket);
        }
        Ok(())
    })
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuEventElapsedTime(to: *mut f32, start: CUevent, end: CUevent) -> Status {
    let seconds = in_context(|session| {
        let start = event(session, start)?.time()?;
        let end = event(session, end)?.time()?;
        Ok(match end.checked_duration_since(start) {
            Some(time) => time.as_secs_f32(),
            None => -start.duration_since(end).as_secs_f32(),
        })
    })?;
    // SAFETY: the caller's promise.
    unsafe { put(to, 1e3 * seconds) }
}

/// What a stream waits for when it waits for the event as it is now; `None` if that has happened.
pub(super) fn awaited(
    session: &mut Session<'_>,
    handle: CUevent,
) -> Result<Option<Operation>, CUresult> {
    let pending = event(session, handle)?.pending();
    Ok(pending.map(|(stream, ticket)| Operation::Wait { stream, ticket }))
}
