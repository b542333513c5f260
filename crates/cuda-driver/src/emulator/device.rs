//! The device: its number, name, and attributes, which are those of an A100 where they matter.

use super::machine::{Status, initialised, machine, put};
use crate::codes::*;
use crate::types::*;

/// The driver's version, CUDA 13.0.
const VERSION: c_int = 13_000;
/// The one device.
const DEVICE: CUdevice = 0;
const NAME: &[u8] = b"Vitrine PTX emulator";

pub(super) const MAX_THREADS_PER_BLOCK: u32 = 1024;
pub(super) const MAX_BLOCK: [u32; 3] = [1024, 1024, 64];
pub(super) const MAX_GRID: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];
/// Shared memory that a block may have without asking for more.
pub(super) const SHARED_PER_BLOCK: u32 = 48 << 10;

pub fn cuInit(flags: c_uint) -> Status {
    if flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    machine().initialised = true;
    Ok(())
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuDriverGetVersion(version: *mut c_int) -> Status {
    // SAFETY: the caller's promise.
    unsafe { put(version, VERSION) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuDeviceGetCount(count: *mut c_int) -> Status {
    drop(initialised()?);
    // SAFETY: the caller's promise.
    unsafe { put(count, 1) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int) -> Status {
    checked(ordinal)?;
    // SAFETY: the caller's promise.
    unsafe { put(device, ordinal) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuDeviceGetName(name: *mut c_char, len: c_int, device: CUdevice) -> Status {
    checked(device)?;
    let room = usize::try_from(len).unwrap_or(0);
    if name.is_null() || room == 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    let text = &NAME[..NAME.len().min(room - 1)];
    // SAFETY: `name` has room for `len` bytes, of which the text and its end are at most as many.
    unsafe {
        name.copy_from_nonoverlapping(text.as_ptr().cast(), text.len());
        name.add(text.len()).write(0);
    }
    Ok(())
}

/// The values of `CU_DEVICE_ATTRIBUTE_…` that are asked for in this repository.
///
/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuDeviceGetAttribute(
    value: *mut c_int,
    attribute: CUdevice_attribute,
    device: CUdevice,
) -> Status {
    checked(device)?;
    let number = match attribute {
        13 => 1_410_000, // clock in kHz
        16 => 108,       // multiprocessors
        36 => 1_215_000, // memory clock in kHz
        37 => 5_120,     // width of the memory bus in bits
        75 => 8,         // compute capability
        76 => 0,
        _ => return Err(CUDA_ERROR_NOT_SUPPORTED),
    };
    // SAFETY: the caller's promise.
    unsafe { put(value, number) }
}

/// Whether the device has this number, after `cuInit`.
pub(super) fn checked(device: CUdevice) -> Status {
    drop(initialised()?);
    if device == DEVICE { Ok(()) } else { Err(CUDA_ERROR_INVALID_DEVICE) }
}
