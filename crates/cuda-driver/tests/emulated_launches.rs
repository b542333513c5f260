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

const DEFAULT: CUstream = null_mut();

/// Kernels for the tests.
///
/// - `put(out, value, scale)`: thread i of block b writes `value + scale * (b * threads + i)`;
/// - `load(out, in)`: thread 0 copies one number;
/// - `count(bytes)`: thread 0 adds to the variable `counter`, and has 1000 bytes of shared memory
///   and at most 64 threads a block.
const KERNELS: &str = "
.version 8.0
.target sm_80
.address_size 64

.visible .global .align 4 .u32 counter = 40;

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

.visible .entry count(.param .u32 amount)
.maxntid 64, 1, 1
{
    .shared .align 4 .b8 room[1000];
    .reg .b32 %r<4>;
    .reg .b64 %rd<2>;
    ld.param.u32 %r1, [amount];
    mov.u64 %rd1, counter;
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
    device.launch(function, (1, 1), DEFAULT, &mut parameters)
}

#[test]
fn parameters_reach_the_kernel_by_their_declared_sizes() {
    let (device, module) = start();
    let function = device.function(module, "put");
    let mut out = device.alloc(4 * 10);
    // The byte lies among others, which are not the parameter's.
    let (mut value, mut scale) = ([7_u8, 0xff, 0xff, 0xff], 100_u32);
    let mut parameters = [parameter(&mut out), parameter(&mut value), parameter(&mut scale)];
    assert_eq!(device.launch(function, (2, 5), DEFAULT, &mut parameters), CUDA_SUCCESS);
    let expected: Vec<u32> = (0..10).map(|index| 7 + 100 * index).collect();
    assert_eq!(device.download(out, 10), expected);
    assert_eq!(emulator::uninitialised_downloads(), []);
}

#[test]
fn parameters_are_copied_at_the_call() {
    let (device, module) = start();
    emulator::set_streams(StreamMode::Deferred);
    let function = device.function(module, "put");
    let (stream, pinned) = (device.stream(0), device.pinned(&[0]));
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
    let mut amount = 1_u32;
    let mut amounts = [parameter(&mut amount)];
    let launch = |grid: [u32; 3], block: [u32; 3], shared| {
        let ([x, y, z], [i, j, k]) = (grid, block);
        code!(cuLaunchKernel(put, x, y, z, i, j, k, shared, DEFAULT, pointers, null_mut()))
    };
    let one = [1, 1, 1];
    assert_eq!(launch(one, [1024, 1, 1], 49_152), CUDA_SUCCESS);
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
        (one, one, 49_153),
        (one, one, u32::MAX),
    ] {
        let code = launch(grid, block, shared);
        assert_eq!(code, CUDA_ERROR_INVALID_VALUE, "{grid:?} {block:?} {shared}");
    }
    // `.maxntid`.
    assert_eq!(device.launch(count, (1, 65), DEFAULT, &mut amounts), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(device.launch(count, (1, 64), DEFAULT, &mut [null_mut()]), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(device.launch(null_mut(), (1, 1), DEFAULT, &mut amounts), CUDA_ERROR_INVALID_HANDLE);
    let wrong = 0x33 as *mut c_void;
    assert_eq!(device.launch(count, (1, 1), wrong, &mut amounts), CUDA_ERROR_INVALID_HANDLE);
    // None of these was a failure of the context.
    call!(cuCtxSynchronize());
}

#[test]
fn more_shared_memory_must_be_asked_for() {
    let (device, module) = start();
    let count = device.function(module, "count");
    let attribute = |number| {
        let mut value = -2;
        call!(cuFuncGetAttribute(&mut value, number, count));
        value
    };
    assert_eq!([0, 1, 8].map(attribute), [64, 1000, 49_152 - 1000]);
    let mut amount = 1_u32;
    let mut parameters = [parameter(&mut amount)];
    let pointers = parameters.as_mut_ptr();
    let launch = |shared| {
        code!(cuLaunchKernel(count, 1, 1, 1, 1, 1, 1, shared, DEFAULT, pointers, null_mut()))
    };
    assert_eq!(launch(48_152), CUDA_SUCCESS);
    assert_eq!(launch(100_000), CUDA_ERROR_INVALID_VALUE);
    call!(cuFuncSetAttribute(count, 8, 100_000));
    assert_eq!(attribute(8), 100_000);
    assert_eq!(launch(100_000), CUDA_SUCCESS);
    assert_eq!(launch(100_001), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(code!(cuFuncSetAttribute(count, 8, 166_912 - 999)), CUDA_ERROR_INVALID_VALUE);
    assert_eq!(code!(cuFuncSetAttribute(count, 8, -1)), CUDA_ERROR_INVALID_VALUE);
    call!(cuFuncSetAttribute(count, 8, 166_912 - 1000));
    // The same kernel is the same function, and keeps what was set.
    assert_eq!(device.function(module, "count"), count);
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
    let code = code!(cuMemcpyDtoH_v2(value.as_mut_ptr().cast(), out, 4));
    assert_eq!(code, CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(code!(cuCtxSynchronize()), CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(code!(cuMemFree_v2(out)), CUDA_ERROR_ILLEGAL_ADDRESS);
    call!(cuDevicePrimaryCtxReset_v2(0));
    assert_eq!(emulator::leaks().len(), 2);
    let context: CUcontext = get!(cuDevicePrimaryCtxRetain(0));
    call!(cuCtxSetCurrent(context));
    call!(cuCtxSynchronize());
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
    assert_eq!(code!(cuStreamSynchronize(DEFAULT)), CUDA_ERROR_ILLEGAL_ADDRESS);
    assert!(emulator::last_fault().is_some());
}

#[test]
fn nothing_is_done_after_a_fault() {
    let (device, module) = start();
    emulator::set_streams(StreamMode::Deferred);
    let (source, target) = (device.upload(&[1]), device.pinned(&[0]));
    assert_eq!(load(&device, module, source, 0), CUDA_SUCCESS);
    call!(cuMemcpyDtoHAsync_v2(target.as_mut_ptr().cast(), source, 4, DEFAULT));
    assert_eq!(code!(cuStreamSynchronize(DEFAULT)), CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(target[0], 0);
}

#[test]
fn a_module_stays_until_its_launches_are_done() {
    let (device, module) = start();
    emulator::set_streams(StreamMode::Deferred);
    let function = device.function(module, "count");
    let mut amount = 2_u32;
    assert_eq!(device.launch(function, (1, 1), DEFAULT, &mut [parameter(&mut amount)]), 0);
    call!(cuModuleUnload(module));
    call!(cuCtxSynchronize());
    assert_eq!(emulator::statistics()["count"].launches, 1);
}

#[test]
fn images_that_are_no_ptx_are_refused() {
    let device = EmulatedDevice::start(StreamMode::Synchronous);
    let load = |image: &[u8]| {
        let mut module = null_mut();
        let image = CString::new(image).expect("no zero inside");
        code!(cuModuleLoadData(&mut module, image.as_ptr().cast()))
    };
    assert_eq!(load(b"\x7fELF\x02\x01\x01"), CUDA_ERROR_NO_BINARY_FOR_GPU);
    assert_eq!(load(b"\x50\xed\x55\xba\x01"), CUDA_ERROR_NO_BINARY_FOR_GPU);
    assert_eq!(load(b"\xff\xfe"), CUDA_ERROR_INVALID_IMAGE);
    assert_eq!(load(b"hello"), CUDA_ERROR_INVALID_PTX);
    assert!(emulator::last_load_error().is_some());
    let newer = KERNELS.replace(".version 8.0", ".version 9.1");
    assert_eq!(load(newer.as_bytes()), CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
    assert_eq!(load(KERNELS.replace("sm_80", "sm_90a").as_bytes()), CUDA_ERROR_INVALID_PTX);
    let older = KERNELS.replace("sm_80", "sm_75").replace(".version 8.0", ".version 9.0");
    assert_eq!(load(older.as_bytes()), CUDA_SUCCESS);
    let mut module = null_mut();
    assert_eq!(code!(cuModuleLoadData(&mut module, std::ptr::null())), CUDA_ERROR_INVALID_VALUE);
    let path = c"/nowhere/kernels.ptx";
    assert_eq!(code!(cuModuleLoad(&mut module, path.as_ptr())), CUDA_ERROR_FILE_NOT_FOUND);
    drop(device);
}

#[test]
fn the_compilers_log_says_what_is_wrong() {
    let _device = EmulatedDevice::start(StreamMode::Synchronous);
    let wrong = KERNELS.replace("mad.lo.s32", "mad.low.s32");
    let image = CString::new(wrong).expect("no zero inside");
    let mut log = [0x55_u8; 200];
    // CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_OPTIMIZATION_LEVEL, CU_JIT_ERROR_LOG_BUFFER.
    let mut options = [6, 7, 5];
    let mut values = [log.len() as *mut c_void, 4 as *mut c_void, log.as_mut_ptr().cast()];
    let mut module = null_mut();
    let (options, pointers) = (options.as_mut_ptr(), values.as_mut_ptr());
    let code = code!(cuModuleLoadDataEx(&mut module, image.as_ptr().cast(), 3, options, pointers));
    assert_eq!(code, CUDA_ERROR_INVALID_PTX);
    let said = String::from_utf8_lossy(&log[..values[0] as usize]).into_owned();
    assert!(said.contains("mad.low.s32"), "{said}");
    assert_eq!(log[said.len()], 0);
    assert_eq!(emulator::last_load_error(), Some(said));
}

#[test]
fn variables_of_a_module_live_in_device_memory() {
    let (device, module) = start();
    let (mut address, mut bytes) = (0, 0);
    call!(cuModuleGetGlobal_v2(&mut address, &mut bytes, module, c"counter".as_ptr()));
    assert_eq!(bytes, 4);
    assert_eq!(device.download(address, 1), [40]);
    let function = device.function(module, "count");
    let mut amount = 2_u32;
    assert_eq!(device.launch(function, (1, 1), DEFAULT, &mut [parameter(&mut amount)]), 0);
    assert_eq!(device.download(address, 1), [42]);
    assert_eq!(emulator::allocations(), [], "it is not the program's to free");
    assert_eq!(code!(cuMemFree_v2(address)), CUDA_ERROR_INVALID_VALUE);

    let mut function = null_mut();
    let missing = code!(cuModuleGetFunction(&mut function, module, c"nothing".as_ptr()));
    assert_eq!(missing, CUDA_ERROR_NOT_FOUND);
    let missing = code!(cuModuleGetGlobal_v2(&mut address, &mut bytes, module, c"x".as_ptr()));
    assert_eq!(missing, CUDA_ERROR_NOT_FOUND);
    call!(cuModuleUnload(module));
    assert_eq!(code!(cuModuleUnload(module)), CUDA_ERROR_INVALID_HANDLE);
    let function = device.launch(function, (1, 1), DEFAULT, &mut [parameter(&mut amount)]);
    assert_eq!(function, CUDA_ERROR_INVALID_HANDLE);
    let (mut free, mut total) = (0, 0);
    call!(cuMemGetInfo_v2(&mut free, &mut total));
    assert_eq!(free, total);
}

#[test]
fn blocks_on_a_multiprocessor_are_counted() {
    let (device, module) = start();
    let (put, count) = (device.function(module, "put"), device.function(module, "count"));
    let active = |function, threads, shared| {
        let mut blocks = -1;
        call!(cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, function, threads, shared));
        blocks
    };
    assert_eq!(active(put, 1024, 0), 2);
    assert_eq!(active(put, 257, 0), 7);
    assert_eq!(active(put, 1, 0), 32);
    assert_eq!(active(put, 32, 40 << 10), 4);
    assert_eq!(active(put, 32, 50 << 10), 0, "more than the function may have");
    assert_eq!(active(count, 65, 0), 0, "more threads than it may have");
    let (mut grid, mut block) = (0, 0);
    call!(cuOccupancyMaxPotentialBlockSize(&mut grid, &mut block, put, None, 0, 0));
    assert_eq!((grid, block), (216, 1024));
    call!(cuOccupancyMaxPotentialBlockSize(&mut grid, &mut block, put, None, 0, 256));
    assert_eq!((grid, block), (864, 256));
    let mut bytes = 0;
    call!(cuOccupancyAvailableDynamicSMemPerBlock(&mut bytes, put, 4, 32));
    assert_eq!(bytes, 40 << 10);
}

#[test]
fn launches_are_counted_by_kernel() {
    let (device, module) = start();
    let (out, from) = (device.alloc(4), device.upload(&[1]));
    for _ in 0..3 {
        assert_eq!(load(&device, module, out, from), CUDA_SUCCESS);
    }
    let statistics = emulator::statistics();
    assert_eq!(statistics.keys().collect::<Vec<_>>(), ["load"]);
    let load = &statistics["load"];
    assert_eq!((load.launches, load.counts.blocks), (3, 3));
    assert!(load.seconds > 0.0);
    emulator::clear_records();
    assert!(emulator::statistics().is_empty());
}
