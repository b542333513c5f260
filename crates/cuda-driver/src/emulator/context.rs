//! The primary context, and which context a thread has as its current one.

use std::cell::RefCell;

use super::device::{VERSION, checked};
use super::machine::{
    EmulatedMachine, PrimaryContext, Status, check_initialised, in_context, initialised, put,
};
use crate::codes::*;
use crate::types::*;

thread_local! {
    /// The contexts of this thread, the current one last.
    static CURRENT: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The handle of this thread's current context.
pub(super) fn current() -> Option<usize> {
    CURRENT.with_borrow(|stack| stack.last().copied())
}

impl EmulatedMachine {
    /// Ends the context. Work that still waits is done first, and leaks are noted.
    pub fn destroy_context(&mut self) {
        if let Some(mut session) = self.session() {
            session.force_all();
        }
        if let Some(context) = self.context.take() {
            self.records.leaks = context.leaks();
        }
    }
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
        machine.destroy_context();
    }
    Ok(())
}

pub fn cuDevicePrimaryCtxReset_v2(device: CUdevice) -> Status {
    checked(device)?;
    let mut machine = initialised()?;
    machine.destroy_context();
    machine.retained = 0;
    Ok(())
}

pub fn cuDevicePrimaryCtxSetFlags_v2(device: CUdevice, flags: c_uint) -> Status {
    checked(device)?;
    initialised()?.flags = flags;
    Ok(())
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuDevicePrimaryCtxGetState(
    device: CUdevice,
    flags: *mut c_uint,
    active: *mut c_int,
) -> Status {
    checked(device)?;
    let machine = initialised()?;
    // SAFETY: the caller's promise.
    unsafe { put(flags, machine.flags) }?;
    // SAFETY: the caller's promise.
    unsafe { put(active, c_int::from(machine.context.is_some())) }
}

pub fn cuCtxSetCurrent(context: CUcontext) -> Status {
    let handle = known(context)?;
    CURRENT.with_borrow_mut(|stack| {
        stack.pop();
        if handle != 0 {
            stack.push(handle);
        }
    });
    Ok(())
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuCtxGetCurrent(context: *mut CUcontext) -> Status {
    check_initialised()?;
    // SAFETY: the caller's promise.
    unsafe { put(context, current().unwrap_or(0) as CUcontext) }
}

pub fn cuCtxPushCurrent_v2(context: CUcontext) -> Status {
    let handle = known(context)?;
    if handle == 0 {
        return Err(CUDA_ERROR_INVALID_CONTEXT);
    }
    CURRENT.with_borrow_mut(|stack| stack.push(handle));
    Ok(())
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuCtxPopCurrent_v2(context: *mut CUcontext) -> Status {
    check_initialised()?;
    let popped = CURRENT.with_borrow_mut(Vec::pop).ok_or(CUDA_ERROR_INVALID_CONTEXT)?;
    // SAFETY: the caller's promise.
    unsafe { super::machine::put_if_wanted(context, popped as CUcontext) };
    Ok(())
}

/// The handle, if it is null or that of the context.
fn known(context: CUcontext) -> Result<usize, CUresult> {
    let machine = initialised()?;
    let handle = context as usize;
    let exists = machine.context.as_ref().is_some_and(|context| context.handle == handle);
    if handle == 0 || exists { Ok(handle) } else { Err(CUDA_ERROR_INVALID_CONTEXT) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuCtxGetDevice(device: *mut CUdevice) -> Status {
    check_initialised()?;
    current().ok_or(CUDA_ERROR_INVALID_CONTEXT)?;
    // SAFETY: the caller's promise.
    unsafe { put(device, super::device::DEVICE) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuCtxGetApiVersion(context: CUcontext, version: *mut c_uint) -> Status {
    let handle = known(context)?;
    if handle == 0 && current().is_none() {
        return Err(CUDA_ERROR_INVALID_CONTEXT);
    }
    // SAFETY: the caller's promise.
    unsafe { put(version, VERSION as c_uint) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuCtxGetFlags(flags: *mut c_uint) -> Status {
    current().ok_or(CUDA_ERROR_INVALID_CONTEXT)?;
    let set = initialised()?.flags;
    // SAFETY: the caller's promise.
    unsafe { put(flags, set) }
}

/// As an A100: priorities from 0 down to -5, the most urgent.
pub(super) const PRIORITIES: std::ops::RangeInclusive<c_int> = -5..=0;

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) -> Status {
    check_initialised()?;
    // SAFETY: the caller's promise.
    unsafe {
        super::machine::put_if_wanted(least, *PRIORITIES.end());
        super::machine::put_if_wanted(greatest, *PRIORITIES.start());
    }
    Ok(())
}

pub fn cuCtxSynchronize() -> Status {
    in_context(|session| {
        session.force_all();
        Ok(())
    })
}
