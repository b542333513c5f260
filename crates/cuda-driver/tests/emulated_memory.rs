//! The emulated device's attributes, context, memory and copies. Streams and launches: beside this.
#![cfg(feature = "emulator")]

mod device;

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;

use device::{EmulatedDevice, call, code, get};
use vitrine_cuda_driver::codes::*;
use vitrine_cuda_driver::emulator::{self, Allocation, StreamMode, UninitialisedDownload};
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
    let (multiprocessors, warp, threads) = (attribute(16), attribute(10), attribute(1));
    assert_eq!((multiprocessors, warp, threads), (108, 32, 1024));
    let (shared, opt_in) = (attribute(8), attribute(97));
    assert_eq!((shared, opt_in), (49_152, 166_912));
    let mut value = 0;
    assert_eq!(code!(cuDeviceGetAttribute(&mut value, 12_345, 0)), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(code!(cuDeviceGetAttribute(&mut value, 1, 1)), CUDA_ERROR_INVALID_DEVICE);
    assert_eq!(code!(cuDeviceGet(&mut value, 1)), CUDA_ERROR_INVALID_DEVICE);
    let count: c_int = get!(cuDeviceGetCount());
    let version: c_int = get!(cuDriverGetVersion());
    let total: usize = get!(cuDeviceTotalMem_v2(0));
    assert_eq!((count, version, total), (1, 13_000, 64 << 20));
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
    call!(cuCtxPushCurrent_v2(device.context));
    let current: CUcontext = get!(cuCtxGetCurrent());
    assert_eq!(current, device.context);
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
    call!(cuMemcpyDtoD_v2(copy + 8, address, 12));
    call!(cuMemsetD32_v2(copy, 7, 2));
    assert_eq!(device.download(copy, 5), [7, 7, 1, 2, 3]);
    call!(cuMemsetD16_v2(copy, 0x1234, 1));
    call!(cuMemsetD8_v2(copy + 2, 0xab, 2));
    assert_eq!(device.download(copy, 1), [0xabab_1234]);
    assert_eq!(emulator::uninitialised_downloads(), []);
}

#[test]
fn ranges_outside_of_an_allocation_are_refused() {
    let device = start();
    let address = device.upload(&[1, 2, 3, 4]);
    let mut host = [0_u8; 32];
    let to: *mut c_void = host.as_mut_ptr().cast();
    for (from, bytes) in
        [(address, 17), (address + 16, 1), (address - 1, 1), (0, 4), (address + 8, usize::MAX)]
    {
        assert_eq!(code!(cuMemcpyDtoH_v2(to, from, bytes)), CUDA_ERROR_INVALID_VALUE, "{bytes}");
        assert_eq!(code!(cuMemcpyHtoD_v2(from, to, bytes)), CUDA_ERROR_INVALID_VALUE, "{bytes}");
        assert_eq!(code!(cuMemsetD8_v2(from, 0, bytes)), CUDA_ERROR_INVALID_VALUE, "{bytes}");
    }
    assert_eq!(code!(cuMemcpyDtoD_v2(address, address + 8, 9)), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(code!(cuMemcpyDtoH_v2(null_mut(), address, 4)), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(code!(cuMemsetD32_v2(address + 2, 0, 1)), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(code!(cuMemsetD32_v2(address, 0, usize::MAX / 2)), CUDA_ERROR_INVALID_VALUE);
    // Nothing at all may be copied anywhere.
    call!(cuMemcpyDtoH_v2(null_mut(), 0, 0));
    assert_eq!(code!(cuMemFree_v2(address + 4)), CUDA_ERROR_INVALID_VALUE);
    call!(cuMemFree_v2(address));
    assert_eq!(code!(cuMemFree_v2(address)), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(code!(cuMemcpyDtoH_v2(to, address, 4)), CUDA_ERROR_INVALID_VALUE);
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
fn downloads_of_what_was_never_written_are_noted() {
    let device = start();
    let address = device.alloc(64);
    call!(cuMemsetD8_v2(address, 1, 40));
    let _ = device.download(address, 10);
    assert_eq!(emulator::uninitialised_downloads(), []);
    let _ = device.download(address + 16, 10);
    let expected = UninitialisedDownload { address: address + 16, bytes: 40, first: 24 };
    assert_eq!(emulator::uninitialised_downloads(), [expected]);
    // A copy carries along what was not written.
    let copy = device.alloc(64);
    call!(cuMemcpyDtoD_v2(copy, address, 64));
    let _ = device.download(copy, 16);
    assert_eq!(emulator::uninitialised_downloads()[1].first, 40);
}

#[test]
fn leaks_are_seen_when_the_context_goes() {
    let device = start();
    let (kept, freed) = (device.alloc(48), device.alloc(16));
    call!(cuMemFree_v2(freed));
    let lost = [Allocation { address: kept, bytes: 48 }];
    assert_eq!(emulator::allocations(), lost);
    assert_eq!(emulator::leaks(), []);
    let again: CUcontext = get!(cuDevicePrimaryCtxRetain(0));
    assert_eq!(again, device.context);
    call!(cuDevicePrimaryCtxRelease_v2(0));
    assert_eq!(emulator::leaks(), [], "it is still retained");
    call!(cuDevicePrimaryCtxRelease_v2(0));
    assert_eq!(emulator::leaks(), lost);
    assert_eq!(emulator::allocations(), []);
}

#[test]
fn host_memory_is_pinned_and_released() {
    let device = start();
    let block = device.pinned(&[1, 2, 3]);
    let pointer: *mut c_void = block.as_mut_ptr().cast();
    assert_eq!(code!(cuMemFreeHost(pointer.wrapping_add(4))), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(code!(cuMemHostUnregister(pointer)), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    call!(cuMemFreeHost(pointer));
    assert_eq!(code!(cuMemFreeHost(pointer)), CUDA_ERROR_INVALID_VALUE);

    let mut own = vec![0_u8; 8192];
    let pointer: *mut c_void = own.as_mut_ptr().cast();
    call!(cuMemHostRegister_v2(pointer, 8192, 0));
    let taken = CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    assert_eq!(code!(cuMemHostRegister_v2(pointer.wrapping_add(4096), 8, 0)), taken);
    assert_eq!(code!(cuMemFreeHost(pointer)), CUDA_ERROR_INVALID_VALUE);
    call!(cuMemHostUnregister(pointer));
}
