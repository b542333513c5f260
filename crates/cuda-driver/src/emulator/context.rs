//! The primary context, and which context a thread has as its current one.

use std::cell::Cell;

use super::device::checked;
use super::machine::{PrimaryContext, Status, initialised, put};
use crate::codes::*;
use crate::types::*;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// The handle of this thread's current context, null if it has none.
pub(super) fn current() -> usize {
    CURRENT.get()
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: CUdevice) -> Status {
    checked(device)?;
    let mut machine = initialised()?;
    let memory = machine.settings.memory;
    let handle =
        machine.context.get_or_insert_with(|| Box::new(PrimaryContext::new(memory))).handle;
    machine.retained += 1;
    // SAFETY: the caller's promise.
    unsafe { put(context, handle as CUcontext) }
}

pub fn cuDevicePrimaryCtxRelease_v2(device: CUdevice) -> Status {
    checked(device)?;
    let mut machine = initialised()?;
    if machine.retained == 0 {
        return Err(CUDA_ERROR_INVALID_CONTEXT);
    }
    machine.retained -= 1;
    if machine.retained == 0 {
        // Work that still waits is done first.
        if let Some(mut session) = machine.session() {
            session.force_all();
        }
        machine.context = None;
    }
    Ok(())
}

pub fn cuCtxSetCurrent(context: CUcontext) -> Status {
    let machine = initialised()?;
    let handle = context as usize;
    let exists = machine.context.as_ref().is_some_and(|context| context.handle == handle);
    if handle != 0 && !exists {
        return Err(CUDA_ERROR_INVALID_CONTEXT);
    }
    CURRENT.set(handle);
    Ok(())
}
