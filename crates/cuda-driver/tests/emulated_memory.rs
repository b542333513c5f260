//! The emulated device's attributes, context, memory and copies. Streams and launches: beside this.
#![cfg(feature = "emulator")]

mod device;

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;

use device::{EmulatedDevice, call, code, get};
use vitrine_cuda_driver::codes::*;
use vitrine_cuda_driver::emulator::{self, Checks, StreamMode};
use vitrine_cuda_driver::types::*;

fn start() -> EmulatedDevice {
    EmulatedDevice::start(StreamMode::Synchronous)
}

#[test]
fn the_device_describes_itself() {
    let _device = start();
    let mut name = [0x55 as c_char; 64];
    call!(cuDeviceGetName(name.as_mut_ptr(), 64, 0));
    // SAFETY: the call succeeded, so the text ends inside.
    let text = unsafe { CStr::from_ptr(name.as_ptr()) };
    assert_eq!(text.to_str(), Ok("Vitrine PTX emulator"));
    call!(cuDeviceGetName(name.as_mut_ptr(), 5, 0));
    // SAFETY: as above.
    assert_eq!(unsafe { CStr::from_ptr(name.as_ptr()) }.to_str(), Ok("Vitr"));

    let attribute = |number| -> c_int { get!(cuDeviceGetAttribute(number, 0)) };
    let compute_capability = (attribute(75), attribute(76));
    assert_eq!(compute_capability, (8, 0));
    let multiprocessors = attribute(16);
    assert_eq!(multiprocessors, 108);
    let mut value = 0;
    assert_eq!(code!(cuDeviceGetAttribute(&mut value, 12_345, 0)), CUDA_ERROR_NOT_SUPPORTED);
    assert_eq!(code!(cuDeviceGetAttribute(&mut value, 1, 1)), CUDA_ERROR_INVALID_DEVICE);
    assert_eq!(code!(cuDeviceGet(&mut value, 1)), CUDA_ERROR_INVALID_DEVICE);
    let count: c_int = get!(cuDeviceGetCount());
    let version: c_int = get!(cuDriverGetVersion());
    assert_eq!((count, version), (1, 13_000));
}

#[test]
fn functions_without_an_emulation_are_not_supported() {
    let _device = start();
    let mut address = 0;
    let code = code!(cuMemAllocManaged(&mut address, 4, 1));
    assert_eq!((code, address), (CUDA_ERROR_NOT_SUPPORTED, 0));
}

#[test]
fn error_codes_have_names_and_texts() {
    let _device = start();
    let text: *const c_char = {
        let mut text = std::ptr::null();
        call!(cuGetErrorName(CUDA_ERROR_ILLEGAL_ADDRESS, &mut text));
        text
    };
    // SAFETY: the call succeeded.
    let text = unsafe { CStr::from_ptr(text) };
    assert_eq!(text.to_str(), Ok("CUDA_ERROR_ILLEGAL_ADDRESS"));
    let mut text = std::ptr::null();
    assert_eq!(code!(cuGetErrorString(4711, &mut text)), CUDA_ERROR_INVALID_VALUE);
    assert!(text.is_null());
}

#[test]
fn calls_need_a_current_context() {
    let device = start();
    let mut address = 0;
    call!(cuCtxSetCurrent(null_mut()));
    assert_eq!(code!(cuMemAlloc_v2(&mut address, 4)), CUDA_ERROR_INVALID_CONTEXT);
    call!(cuCtxSetCurrent(device.context));
    call!(cuMemAlloc_v2(&mut address, 4));

    // Another thread has none of its own, and may take the same one.
    let context = device.context as usize;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(code!(cuMemFree_v2(address)), CUDA_ERROR_INVALID_CONTEXT);
            call!(cuCtxSetCurrent(context as CUcontext));
            call!(cuMemFree_v2(address));
        });
    });

    call!(cuDevicePrimaryCtxRelease_v2(0));
    assert_eq!(code!(cuMemAlloc_v2(&mut address, 4)), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    assert_eq!(code!(cuCtxSetCurrent(device.context)), CUDA_ERROR_INVALID_CONTEXT);
    assert_eq!(code!(cuDevicePrimaryCtxRelease_v2(0)), CUDA_ERROR_INVALID_CONTEXT);
}

#[test]
fn bytes_come_back_as_they_were_sent() {
    let device = start();
    let address = device.upload(&[1, 2, 3, 4, 5]);
    assert_eq!(address % 256, 0);
    let copy = device.alloc(20);
    call!(cuMemcpyDtoDAsync_v2(copy + 8, address, 12, device.copies));
    call!(cuMemsetD8Async(copy, 7, 8, device.copies));
    assert_eq!(device.download(copy, 5), [0x0707_0707, 0x0707_0707, 1, 2, 3]);
    call!(cuMemsetD8Async(copy + 2, 0xab, 2, device.copies));
    assert_eq!(device.download(copy, 1), [0xabab_0707]);
}

#[test]
fn ranges_outside_of_an_allocation_are_refused() {
    let device = start();
    let address = device.upload(&[1, 2, 3, 4]);
    let (mut host, stream) = ([0_u8; 32], device.copies);
    let to: *mut c_void = host.as_mut_ptr().cast();
    for (from, bytes) in
        [(address, 17), (address + 16, 1), (address - 1, 1), (0, 4), (address + 8, usize::MAX)]
    {
        let download = code!(cuMemcpyDtoHAsync_v2(to, from, bytes, stream));
        let upload = code!(cuMemcpyHtoDAsync_v2(from, to, bytes, stream));
        let fill = code!(cuMemsetD8Async(from, 0, bytes, stream));
        assert_eq!([download, upload, fill], [CUDA_ERROR_INVALID_VALUE; 3], "{bytes}");
    }
    let copy = code!(cuMemcpyDtoDAsync_v2(address, address + 8, 9, stream));
    assert_eq!(copy, CUDA_ERROR_INVALID_VALUE);
    let nowhere = code!(cuMemcpyDtoHAsync_v2(null_mut(), address, 4, stream));
    assert_eq!(nowhere, CUDA_ERROR_INVALID_VALUE);
    // Nothing at all may be copied anywhere.
    call!(cuMemcpyDtoHAsync_v2(null_mut(), 0, 0, stream));
    assert_eq!(code!(cuMemFree_v2(address + 4)), CUDA_ERROR_INVALID_VALUE);
    call!(cuMemFree_v2(address));
    assert_eq!(code!(cuMemFree_v2(address)), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(code!(cuMemcpyDtoHAsync_v2(to, address, 4, stream)), CUDA_ERROR_INVALID_VALUE);
    call!(cuMemFree_v2(0));
}

#[test]
fn memory_runs_out_and_comes_back() {
    let device = EmulatedDevice::with_memory(StreamMode::Synchronous, 1 << 20);
    let info = || {
        let (mut free, mut total) = (0_usize, 0_usize);
        call!(cuMemGetInfo_v2(&mut free, &mut total));
        (free, total)
    };
    assert_eq!(info(), (1 << 20, 1 << 20));
    let first = device.alloc(900 << 10);
    assert!(info().0 <= 124 << 10);
    let mut second = 0;
    assert_eq!(code!(cuMemAlloc_v2(&mut second, 200 << 10)), CUDA_ERROR_OUT_OF_MEMORY);
    assert_eq!(code!(cuMemAlloc_v2(&mut second, 0)), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(code!(cuMemAlloc_v2(&mut second, usize::MAX)), CUDA_ERROR_OUT_OF_MEMORY);
    call!(cuMemFree_v2(first));
    assert_eq!(info(), (1 << 20, 1 << 20));
    call!(cuMemAlloc_v2(&mut second, 200 << 10));
}

#[test]
fn what_was_never_written_is_not_copied_to_the_host() {
    let device = start();
    let (address, copy) = (device.alloc(64), device.alloc(64));
    call!(cuMemsetD8Async(address, 1, 40, device.copies));
    let _ = device.download(address, 10);
    // A copy carries along what was not written.
    call!(cuMemcpyDtoDAsync_v2(copy, address, 64, device.copies));
    let _ = device.download(copy, 10);
    let mut host = [0_u8; 40];
    let to: *mut c_void = host.as_mut_ptr().cast();
    let code = code!(cuMemcpyDtoHAsync_v2(to, copy + 16, 40, device.copies));
    assert_eq!(code, CUDA_ERROR_ILLEGAL_ADDRESS);
    let fault = emulator::last_fault().expect("a fault");
    assert!(fault.contains("40 bytes") && fault.contains("byte 24 was never written"), "{fault}");
    drop(device);

    let device = start();
    emulator::set_checks(Checks { uninitialised: false, ..Checks::default() });
    let _ = device.download(device.alloc(64), 16);
}

#[test]
fn host_memory_is_pinned_and_released() {
    let device = start();
    let block = device.pinned(&[1, 2, 3]);
    let pointer: *mut c_void = block.as_mut_ptr().cast();
    assert_eq!(code!(cuMemFreeHost(pointer.wrapping_add(4))), CUDA_ERROR_INVALID_VALUE);
    call!(cuMemFreeHost(pointer));
    assert_eq!(code!(cuMemFreeHost(pointer)), CUDA_ERROR_INVALID_VALUE);
}
