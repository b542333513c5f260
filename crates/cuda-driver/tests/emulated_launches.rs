//! Modules, kernels and launches on the emulated device, with PTX written by hand: what a driver
//! checks, how parameters travel, and what a fault does. What PTX means is the emulator's own tests'.
#![cfg(feature = "emulator")]

mod device;

use std::ffi::{CString, c_void};
use std::ptr::null_mut;

use device::{EmulatedDevice, call, code, get, parameter};
use vitrine_cuda_driver::codes::*;
use vitrine_cuda_driver::emulator::{self, Checks, StreamMode};
use vitrine_cuda_driver::types::*;

/// Kernels for the tests.
///
/// - `put(out, value, scale)`: thread i of block b writes `value + scale * (b * threads + i)`;
/// - `load(out, in)`: thread 0 copies one number;
/// - `count(at, amount)`: thread 0 adds to a number, and has 1000 bytes of shared memory and at most
///   64 threads a block.
const KERNELS: &str = "
.version 8.0
.target sm_80
.address_size 64

.visible .entry put(.param .u64 out, .param .u8 value, .param .u32 scale)
{
    .reg .b16 %rs<2>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [out];
    ld.param.u8 %rs1, [value];
    ld.param.u32 %r1, [scale];
    cvt.u32.u16 %r2, %rs1;
    mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %ntid.x;
    mov.u32 %r5, %tid.x;
    mad.lo.s32 %r6, %r3, %r4, %r5;
    mad.lo.s32 %r7, %r6, %r1, %r2;
    mul.wide.u32 %rd2, %r6, 4;
    cvta.to.global.u64 %rd3, %rd1;
    add.s64 %rd4, %rd3, %rd2;
    st.global.u32 [%rd4], %r7;
    ret;
}

.visible .entry load(.param .u64 out, .param .u64 in)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [out];
    ld.param.u64 %rd2, [in];
    ld.global.u32 %r1, [%rd2];
    st.global.u32 [%rd1], %r1;
    ret;
}

.visible .entry count(.param .u64 at, .param .u32 amount)
.maxntid 64, 1, 1
{
    .shared .align 4 .b8 room[1000];
    .reg .b32 %r<4>;
    .reg .b64 %rd<2>;
    ld.param.u32 %r1, [amount];
    ld.param.u64 %rd1, [at];
    ld.global.u32 %r2, [%rd1];
    add.s32 %r3, %r2, %r1;
    st.global.u32 [%rd1], %r3;
    ret;
}
";

fn start() -> (EmulatedDevice, CUmodule) {
    let device = EmulatedDevice::start(StreamMode::Synchronous);
    let module = device.module(KERNELS);
    (device, module)
}

/// Launches `load` with one thread.
fn load(device: &EmulatedDevice, module: CUmodule, mut to: u64, mut from: u64) -> CUresult {
    let function = device.function(module, "load");
    let mut parameters = [parameter(&mut to), parameter(&mut from)];
    device.launch(function, (1, 1), device.copies, &mut parameters)
}

#[test]
fn parameters_reach_the_kernel_by_their_declared_sizes() {
    let (device, module) = start();
    let function = device.function(module, "put");
    let mut out = device.alloc(4 * 10);
    // The byte lies among others, which are not the parameter's.
    let (mut value, mut scale) = ([7_u8, 0xff, 0xff, 0xff], 100_u32);
    let mut parameters = [parameter(&mut out), parameter(&mut value), parameter(&mut scale)];
    assert_eq!(device.launch(function, (2, 5), device.copies, &mut parameters), CUDA_SUCCESS);
    let expected: Vec<u32> = (0..10).map(|index| 7 + 100 * index).collect();
    assert_eq!(device.download(out, 10), expected);
}

#[test]
fn parameters_are_copied_at_the_call() {
    let (device, module) = start();
    emulator::set_streams(StreamMode::Deferred);
    let function = device.function(module, "put");
    let (stream, pinned) = (device.stream(), device.pinned(&[0]));
    let mut out = device.upload(&[0]);
    let (mut value, mut scale) = (7_u8, 1_u32);
    let mut parameters = [parameter(&mut out), parameter(&mut value), parameter(&mut scale)];
    assert_eq!(device.launch(function, (1, 1), stream, &mut parameters), CUDA_SUCCESS);
    call!(cuMemcpyDtoHAsync_v2(pinned.as_mut_ptr().cast(), out, 4, stream));
    value = 9;
    assert_eq!((pinned[0], value), (0, 9), "the launch waits");
    call!(cuStreamSynchronize(stream));
    assert_eq!(pinned[0], 7);
}

#[test]
fn launches_are_checked_as_a_driver_does() {
    let (device, module) = start();
    let (put, count) = (device.function(module, "put"), device.function(module, "count"));
    let mut out = device.alloc(4 << 10);
    let (mut value, mut scale) = (7_u8, 1_u32);
    let mut parameters = [parameter(&mut out), parameter(&mut value), parameter(&mut scale)];
    let pointers = parameters.as_mut_ptr();
    let (mut at, mut amount) = (device.upload(&[40]), 1_u32);
    let mut amounts = [parameter(&mut at), parameter(&mut amount)];
    let launch = |grid: [u32; 3], block: [u32; 3], shared| {
        let ([x, y, z], [i, j, k]) = (grid, block);
        code!(cuLaunchKernel(put, x, y, z, i, j, k, shared, device.copies, pointers, null_mut()))
    };
    let one = [1, 1, 1];
    assert_eq!(launch(one, [1024, 1, 1], 0), CUDA_SUCCESS);
    assert_eq!(launch(one, [1024, 1, 1], 4), CUDA_ERROR_NOT_SUPPORTED, "more shared memory");
    for (grid, block, shared) in [
        ([0, 1, 1], one, 0),
        ([1, 65_536, 1], one, 0),
        ([1, 1, 65_536], one, 0),
        ([1 << 31, 1, 1], one, 0),
        (one, [0, 1, 1], 0),
        (one, [1025, 1, 1], 0),
        (one, [32, 33, 1], 0),
        (one, [1, 1, 65], 0),
        (one, [1 << 16, 1 << 16, 1], 0),
    ] {
        let code = launch(grid, block, shared);
        assert_eq!(code, CUDA_ERROR_INVALID_VALUE, "{grid:?} {block:?} {shared}");
    }
    // `.maxntid`.
    assert_eq!(
        device.launch(count, (1, 65), device.copies, &mut amounts),
        CUDA_ERROR_INVALID_VALUE
    );
    assert_eq!(
        device.launch(count, (1, 64), device.copies, &mut [null_mut(); 2]),
        CUDA_ERROR_INVALID_VALUE
    );
    assert_eq!(
        device.launch(null_mut(), (1, 1), device.copies, &mut amounts),
        CUDA_ERROR_INVALID_HANDLE
    );
    let wrong = 0x33 as *mut c_void;
    assert_eq!(device.launch(count, (1, 1), wrong, &mut amounts), CUDA_ERROR_INVALID_HANDLE);
    // None of these was a failure of the context.
    call!(cuStreamSynchronize(device.copies));
}

#[test]
fn an_address_outside_of_memory_fails_the_context() {
    let (device, module) = start();
    let (out, from) = (device.alloc(4), device.upload(&[1, 2]));
    assert_eq!(load(&device, module, out, from + 4), CUDA_SUCCESS);
    assert_eq!(load(&device, module, out, from + 8), CUDA_ERROR_ILLEGAL_ADDRESS);
    let fault = emulator::last_fault().expect("a fault");
    assert!(fault.contains("load"), "{fault}");
    // Every later call gives the same, until there is a new context.
    let mut value = [0_u32];
    let to = value.as_mut_ptr().cast();
    let code = code!(cuMemcpyDtoHAsync_v2(to, out, 4, device.copies));
    assert_eq!(code, CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(code!(cuStreamSynchronize(device.copies)), CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(code!(cuMemFree_v2(out)), CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(code!(cuDevicePrimaryCtxRelease_v2(0)), CUDA_SUCCESS);
    let context: CUcontext = get!(cuDevicePrimaryCtxRetain(0));
    call!(cuCtxSetCurrent(context));
    device.alloc(4);
}

#[test]
fn faults_have_the_codes_of_a_driver() {
    let (device, module) = start();
    let (out, from) = (device.alloc(4), device.upload(&[1, 2]));
    assert_eq!(load(&device, module, out, from + 2), CUDA_ERROR_MISALIGNED_ADDRESS);
    drop(device);

    let (device, module) = start();
    let (out, from) = (device.alloc(4), device.alloc(4));
    assert_eq!(load(&device, module, out, from), CUDA_ERROR_LAUNCH_FAILED, "not initialised");
    drop(device);

    // What a GPU does not notice is a check, which can be switched off.
    let (device, module) = start();
    emulator::set_checks(Checks { uninitialised: false, ..Checks::default() });
    let (out, from) = (device.alloc(4), device.alloc(4));
    assert_eq!(load(&device, module, out, from), CUDA_SUCCESS);
}

#[test]
fn a_deferred_fault_shows_when_it_is_waited_for() {
    let (device, module) = start();
    emulator::set_streams(StreamMode::Deferred);
    let out = device.alloc(4);
    assert_eq!(load(&device, module, out, 0), CUDA_SUCCESS);
    assert_eq!(emulator::last_fault(), None);
    assert_eq!(code!(cuStreamSynchronize(device.copies)), CUDA_ERROR_ILLEGAL_ADDRESS);
    assert!(emulator::last_fault().is_some());
}

#[test]
fn nothing_is_done_after_a_fault() {
    let (device, module) = start();
    emulator::set_streams(StreamMode::Deferred);
    let (source, target) = (device.upload(&[1]), device.pinned(&[0]));
    assert_eq!(load(&device, module, source, 0), CUDA_SUCCESS);
    call!(cuMemcpyDtoHAsync_v2(target.as_mut_ptr().cast(), source, 4, device.copies));
    assert_eq!(code!(cuStreamSynchronize(device.copies)), CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(target[0], 0);
}

#[test]
fn images_that_are_no_ptx_are_refused() {
    let device = EmulatedDevice::start(StreamMode::Synchronous);
    let load = |image: &[u8]| {
        let mut module = null_mut();
        let image = CString::new(image).expect("no zero inside");
        let image = image.as_ptr().cast();
        code!(cuModuleLoadDataEx(&mut module, image, 0, null_mut(), null_mut()))
    };
    assert_eq!(load(b"\x7fELF\x02\x01\x01"), CUDA_ERROR_NO_BINARY_FOR_GPU);
    assert_eq!(load(b"\x50\xed\x55\xba\x01"), CUDA_ERROR_NO_BINARY_FOR_GPU);
    assert_eq!(load(b"\xff\xfe"), CUDA_ERROR_INVALID_IMAGE);
    assert_eq!(load(b"hello"), CUDA_ERROR_INVALID_PTX);
    assert!(emulator::last_fault().is_some());
    let wrong = KERNELS.replace("mad.lo.s32", "mad.low.s32");
    assert_eq!(load(wrong.as_bytes()), CUDA_ERROR_INVALID_PTX);
    let said = emulator::last_fault().expect("what is wrong");
    assert!(said.contains("unknown instruction `mad.low.s32`"), "{said}");
    let newer = KERNELS.replace(".version 8.0", ".version 9.1");
    assert_eq!(load(newer.as_bytes()), CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
    assert_eq!(load(KERNELS.replace("sm_80", "sm_90a").as_bytes()), CUDA_ERROR_INVALID_PTX);
    let older = KERNELS.replace("sm_80", "sm_75").replace(".version 8.0", ".version 9.0");
    assert_eq!(load(older.as_bytes()), CUDA_SUCCESS);
    let mut module = null_mut();
    let nothing = std::ptr::null();
    let code = code!(cuModuleLoadDataEx(&mut module, nothing, 0, null_mut(), null_mut()));
    assert_eq!(code, CUDA_ERROR_INVALID_VALUE);
    drop(device);
}

#[test]
fn kernels_are_found_by_their_names() {
    let (device, module) = start();
    let mut function = null_mut();
    let missing = code!(cuModuleGetFunction(&mut function, module, c"nothing".as_ptr()));
    assert_eq!(missing, CUDA_ERROR_NOT_FOUND);
    let wrong = code!(cuModuleGetFunction(&mut function, null_mut(), c"count".as_ptr()));
    assert_eq!(wrong, CUDA_ERROR_INVALID_HANDLE);
    let (mut at, mut amount) = (device.upload(&[40]), 2_u32);
    let function = device.function(module, "count");
    let mut parameters = [parameter(&mut at), parameter(&mut amount)];
    assert_eq!(device.launch(function, (1, 1), device.copies, &mut parameters), CUDA_SUCCESS);
    assert_eq!(device.download(at, 1), [42]);
}
