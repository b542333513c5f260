//! The device: its number, name, and attributes, which are those of an A100 where they matter.

use super::machine::{Status, check_initialised, initialised, machine, put};
use crate::codes::*;
use crate::types::*;

/// The driver's version, CUDA 13.0.
pub(super) const VERSION: c_int = 13_000;
/// The one device.
pub(super) const DEVICE: CUdevice = 0;
const NAME: &[u8] = b"Vitrine PTX emulator";

pub(super) const MULTIPROCESSORS: c_int = 108;
pub(super) const MAX_THREADS_PER_BLOCK: u32 = 1024;
pub(super) const MAX_BLOCK: [u32; 3] = [1024, 1024, 64];
pub(super) const MAX_GRID: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];
pub(super) const MAX_THREADS_PER_MULTIPROCESSOR: u32 = 2048;
pub(super) const MAX_BLOCKS_PER_MULTIPROCESSOR: u32 = 32;
/// Shared memory that a block may have without asking for more.
pub(super) const SHARED_PER_BLOCK: u32 = 48 << 10;
/// Shared memory that a block may ask for.
pub(super) const SHARED_PER_BLOCK_OPT_IN: u32 = 163 << 10;
pub(super) const SHARED_PER_MULTIPROCESSOR: u32 = 164 << 10;
/// Shared memory that the driver takes of each block.
pub(super) const SHARED_RESERVED_PER_BLOCK: u32 = 1 << 10;
const REGISTERS: c_int = 65_536;
pub(super) const WARP: u32 = 32;

pub fn cuInit(flags: c_uint) -> Status {
    if flags != 0 {
        return Err(CUDA_ERROR_INVALID_VALUE);
    }
    machine()?.initialised = true;
    Ok(())
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuDriverGetVersion(version: *mut c_int) -> Status {
    // SAFETY: the caller's promise.
    unsafe { put(version, VERSION) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuDeviceGetCount(count: *mut c_int) -> Status {
    check_initialised()?;
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

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice) -> Status {
    checked(device)?;
    let machine = initialised()?;
    let context = machine.context.as_ref();
    let total = context.map_or(machine.settings.memory, |context| context.memory.capacity());
    // SAFETY: the caller's promise.
    unsafe { put(bytes, total as usize) }
}

/// # Safety: as for the driver's own function of this name.
pub unsafe fn cuDeviceGetAttribute(
    value: *mut c_int,
    attribute: CUdevice_attribute,
    device: CUdevice,
) -> Status {
    checked(device)?;
    let number = self::attribute(attribute).ok_or(CUDA_ERROR_INVALID_VALUE)?;
    // SAFETY: the caller's promise.
    unsafe { put(value, number) }
}

/// The device's number, if it has this one.
pub(super) fn checked(device: CUdevice) -> Status {
    check_initialised()?;
    if device == DEVICE { Ok(()) } else { Err(CUDA_ERROR_INVALID_DEVICE) }
}

/// The value of `CU_DEVICE_ATTRIBUTE_…`. Features that the emulator lacks are 0, also where an
/// A100 has them.
fn attribute(number: CUdevice_attribute) -> Option<c_int> {
    Some(match number {
        1 => MAX_THREADS_PER_BLOCK as c_int,
        2..=4 => MAX_BLOCK[number as usize - 2] as c_int,
        5..=7 => MAX_GRID[number as usize - 5] as c_int,
        8 => SHARED_PER_BLOCK as c_int,
        9 => 64 << 10, // constant memory
        10 => WARP as c_int,
        11 => i32::MAX, // pitch
        12 => REGISTERS,
        13 => 1_410_000, // clock in kHz
        14 => 512,       // alignment of textures
        15 => 1,         // copies beside kernels
        16 => MULTIPROCESSORS,
        30 => 512,       // alignment of surfaces
        31 => 1,         // kernels beside each other
        36 => 1_215_000, // memory clock in kHz
        37 => 5_120,     // width of the memory bus in bits
        38 => 40 << 20,  // L2 cache
        39 => MAX_THREADS_PER_MULTIPROCESSOR as c_int,
        40 => 3,  // copy engines
        51 => 32, // alignment of pitch
        75 => 8,  // compute capability
        76 => 0,
        78 => 1,      // streams have priorities
        79 | 80 => 1, // L1 caches
        81 => SHARED_PER_MULTIPROCESSOR as c_int,
        82 => REGISTERS,
        87 => 2, // f32 to f64 speed
        97 => SHARED_PER_BLOCK_OPT_IN as c_int,
        99 => 1, // host memory can be registered
        106 => MAX_BLOCKS_PER_MULTIPROCESSOR as c_int,
        111 => SHARED_RESERVED_PER_BLOCK as c_int,
        115 => 1, // cuMemAllocAsync
        _ if (1..=119).contains(&number) => 0,
        _ => return None,
    })
}
