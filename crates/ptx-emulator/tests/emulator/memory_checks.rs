//! Bounds, alignment, unwritten memory and asynchronous copies: each check is silent on a right
//! kernel and fires on a small bug in it.

use crate::device::{Argument, EmulatedDevice, KERNELS, module, noise};
use vitrine_ptx_emulator::{Access, Checks, FaultKind, Space};

use Argument::{Float, Int, Pointer};

/// `axpy` on buffers of 100 elements.
fn axpy(device: &mut EmulatedDevice, n: i32) -> Result<(), FaultKind> {
    let (x, y) = (device.floats(&noise(100, 1)), device.floats(&noise(100, 2)));
    let parameters = [Float(2.0), Pointer(x), Pointer(y), Int(n)];
    let result = device.launch("axpy", [1, 1, 1], [128, 1, 1], &parameters);
    result.map(|_| ()).map_err(|fault| fault.kind().clone())
}

#[test]
fn an_access_behind_an_allocation_is_seen() {
    let mut device = EmulatedDevice::new(KERNELS);
    assert_eq!(axpy(&mut device, 100), Ok(()));
    let Err(FaultKind::OutOfBounds { access, space, bytes, nearest, address, .. }) =
        axpy(&mut device, 101)
    else {
        panic!("the 101st element is behind the buffer");
    };
    assert_eq!((access, space, bytes), (Access::Load, Space::Global, 4));
    let nearest = nearest.unwrap();
    assert_eq!((address - nearest.base, nearest.bytes, nearest.freed), (400, 400, false));
}

#[test]
fn a_fault_names_the_thread_and_both_lines() {
    let mut device = EmulatedDevice::new(KERNELS);
    let (x, y) = (device.floats(&[0.0; 65]), device.floats(&[0.0; 64]));
    let parameters = [Float(2.0), Pointer(x), Pointer(y), Int(65)];
    let fault = device.launch("axpy", [3, 1, 1], [32, 1, 1], &parameters).unwrap_err();
    let site = fault.site().unwrap();
    assert_eq!((fault.kernel(), site.block, site.thread), ("axpy", [2, 0, 0], [0, 0, 0]));
    let line = KERNELS.lines().nth(site.line as usize - 1).unwrap();
    assert!(line.contains("ld.global.f32") && site.instruction.starts_with("ld.global.f32"));
    let (file, source) = site.source.clone().unwrap();
    let cuda = include_str!("../fixtures/kernels.cu").lines().nth(source as usize - 1).unwrap();
    assert!(file.ends_with("kernels.cu") && cuda.contains("y[i] = a * x[i] + y[i]"));
    let message = fault.to_string();
    for part in [
        "kernel `axpy`",
        "load of 4 bytes at global address",
        "out of bounds",
        "0 bytes behind the end of the allocation of 256 bytes",
        "block (2, 0, 0), thread (0, 0, 0)",
        "kernels.cu:",
        "ld.global.f32",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
}

#[test]
fn a_freed_buffer_is_not_used_again() {
    let mut device = EmulatedDevice::new(KERNELS);
    let (x, y) = (device.floats(&[1.0; 32]), device.floats(&[1.0; 32]));
    device.memory.free(x).unwrap();
    device.floats(&[1.0; 32]);
    let parameters = [Float(2.0), Pointer(x), Pointer(y), Int(32)];
    let fault = device.launch("axpy", [1, 1, 1], [32, 1, 1], &parameters).unwrap_err();
    assert!(matches!(fault.kind(), FaultKind::OutOfBounds { nearest: Some(it), .. } if it.freed));
}

#[test]
fn a_null_pointer_is_out_of_bounds() {
    let mut device = EmulatedDevice::new(KERNELS);
    let x = device.floats(&[1.0; 32]);
    let parameters = [Float(2.0), Pointer(x), Pointer(0), Int(32)];
    let fault = device.launch("axpy", [1, 1, 1], [32, 1, 1], &parameters).unwrap_err();
    assert!(matches!(fault.kind(), FaultKind::OutOfBounds { address: 0, .. }));
}

#[test]
fn memory_that_nobody_wrote_is_not_read() {
    let mut device = EmulatedDevice::new(KERNELS);
    let (x, y) = (device.empty(400), device.floats(&[0.0; 100]));
    device.memory.write(x, &[0; 397]).unwrap();
    let parameters = [Float(2.0), Pointer(x), Pointer(y), Int(99)];
    device.launch("axpy", [1, 1, 1], [128, 1, 1], &parameters).unwrap();
    let parameters = [Float(2.0), Pointer(x), Pointer(y), Int(100)];
    let fault = device.launch("axpy", [1, 1, 1], [128, 1, 1], &parameters).unwrap_err();
    let FaultKind::Uninitialised { address, bytes: 4, first: 1, .. } = *fault.kind() else {
        panic!("{fault}");
    };
    assert_eq!((address, fault.site().unwrap().thread), (x + 396, [99, 0, 0]));
    device.checks = Checks::none();
    device.launch("axpy", [1, 1, 1], [128, 1, 1], &parameters).unwrap();
}

/// A kernel of 32 threads with one pointer parameter in `%rd1` and the thread's number in `%r1`.
fn one_warp(declarations: &str, body: &str) -> String {
    module(
        ".param .u64 p",
        &format!(
            ".reg .b64 %rd<20>; .reg .b32 %r<20>; .reg .f32 %f<20>; .reg .pred %p<20>;\n\
             {declarations}\n\
             ld.param.u64 %rd1, [p];\n\
             mov.u32 %r1, %tid.x;\n\
             {body}\nret;"
        ),
    )
}

fn run(ptx: &str) -> Result<(), FaultKind> {
    let mut device = EmulatedDevice::new(ptx);
    let buffer = device.words(&[0; 64]);
    let result = device.launch("k", [1, 1, 1], [32, 1, 1], &[Pointer(buffer)]);
    result.map(|_| ()).map_err(|fault| fault.kind().clone())
}

#[test]
fn addresses_must_be_multiples_of_the_access() {
    let load = |offset: u32, access: &str| {
        run(&one_warp("", &format!("ld.global.{access}, [%rd1+{offset}];")))
    };
    for (offset, bytes, access) in [
        (0, 2, "u16 %r2"),
        (4, 4, "u32 %r2"),
        (8, 8, "u64 %rd2"),
        (16, 16, "v4.u32 {%r2, %r3, %r4, %r5}"),
    ] {
        assert_eq!(load(offset, access), Ok(()));
        let Err(FaultKind::Misaligned { bytes: found, .. }) = load(offset + bytes / 2, access)
        else {
            panic!("{access} at {}", offset + bytes / 2);
        };
        assert_eq!(found, bytes);
    }
}

#[test]
fn shared_memory_has_bounds_and_starts_unwritten() {
    let body = |stride: u32, read: &str| {
        one_warp(
            ".shared .align 4 .b8 s[128];",
            &format!(
                "mul.lo.s32 %r2, %r1, {stride};\n\
                 mov.u32 %r3, s;\n\
                 add.s32 %r3, %r3, %r2;\n\
                 st.shared.u32 [%r3], %r1;\n\
                 {read}"
            ),
        )
    };
    assert_eq!(run(&body(4, "ld.shared.u32 %r4, [%r3];")), Ok(()));
    assert!(matches!(
        run(&body(8, "")),
        Err(FaultKind::OutOfBounds { space: Space::Shared, address: 128, size: 128, .. })
    ));
    let unwritten = one_warp(".shared .align 4 .b8 s[128];", "ld.shared.u32 %r4, [s+8];");
    assert!(matches!(
        run(&unwritten),
        Err(FaultKind::Uninitialised { space: Space::Shared, address: 8, .. })
    ));
}

#[test]
fn shared_memory_is_unwritten_again_in_the_next_block() {
    let ptx = one_warp(
        ".shared .align 4 .b8 s[128];",
        "mov.u32 %r2, %ctaid.x;\n\
         setp.ne.u32 %p1, %r2, 0;\n\
         @%p1 bra READ;\n\
         st.shared.u32 [s], 1;\n\
         READ:\n\
         ld.shared.u32 %r4, [s];",
    );
    let mut device = EmulatedDevice::new(&ptx);
    let buffer = device.words(&[0; 64]);
    device.launch("k", [1, 1, 1], [32, 1, 1], &[Pointer(buffer)]).unwrap();
    let fault = device.launch("k", [2, 1, 1], [32, 1, 1], &[Pointer(buffer)]).unwrap_err();
    assert!(matches!(fault.kind(), FaultKind::Uninitialised { space: Space::Shared, .. }));
}

/// The product with asynchronous copies, with a part of its PTX replaced everywhere.
fn product(from: &str, to: &str) -> Result<(), FaultKind> {
    let start = KERNELS.find(".entry matmul_bf16").unwrap();
    let (head, tail) = KERNELS.split_at(start);
    assert!(tail.contains(from));
    let mut device = EmulatedDevice::new(&(head.to_owned() + &tail.replace(from, to)));
    let halves = vec![0x3f80; 64 * 48];
    let (a, b) = (device.halves(&halves), device.halves(&halves));
    let c = device.empty(4 * 64 * 64);
    let pointers = [a, b, c].map(Pointer);
    let parameters = [pointers[0], pointers[1], pointers[2], Int(64), Int(64), Int(48)];
    let result = device.launch("matmul_bf16", [2, 2, 1], [128, 1, 1], &parameters);
    result.map(|_| ()).map_err(|fault| fault.kind().clone())
}

#[test]
fn what_is_copied_asynchronously_is_not_touched_before_the_wait() {
    assert_eq!(product("cp.async.wait_group 1;", "cp.async.wait_group 0;"), Ok(()));
    for waits in ["cp.async.wait_group 0;", "cp.async.wait_group 1;"] {
        let found = product(waits, "");
        let Err(FaultKind::CopyPending { access: Access::Load, bytes: 16, .. }) = found else {
            panic!("without {waits}: {found:?}");
        };
    }
    // One group too many is left on its way.
    let found = product("cp.async.wait_group 1;", "cp.async.wait_group 2;");
    assert!(matches!(found, Err(FaultKind::CopyPending { .. })), "{found:?}");
}

#[test]
fn a_store_to_the_target_of_a_pending_copy_is_seen() {
    let body = |wait: &str| {
        one_warp(
            ".shared .align 16 .b8 s[512];",
            &format!(
                "mul.lo.u32 %r2, %r1, 16;\n\
                 mov.u32 %r3, s;\n\
                 add.u32 %r3, %r3, %r2;\n\
                 cp.async.cg.shared.global [%r3], [%rd1], 16, 16;\n\
                 {wait}\n\
                 st.shared.u32 [%r3], %r1;"
            ),
        )
    };
    assert_eq!(run(&body("cp.async.wait_all;")), Ok(()));
    assert!(matches!(
        run(&body("cp.async.commit_group;")),
        Err(FaultKind::CopyPending { access: Access::Store, bytes: 4, .. })
    ));
    // A wait for groups does not cover copies that were not committed to one.
    assert!(matches!(run(&body("cp.async.wait_group 0;")), Err(FaultKind::CopyPending { .. })));
}

#[test]
fn a_copy_fills_up_with_zeros_and_reads_no_more_than_told() {
    let ptx = one_warp(
        ".shared .align 16 .b8 s[512];",
        "mul.lo.u32 %r2, %r1, 16;\n\
         mov.u32 %r3, s;\n\
         add.u32 %r3, %r3, %r2;\n\
         and.b32 %r4, %r1, 15;\n\
         cp.async.cg.shared.global [%r3], [%rd1], 16, %r4;\n\
         cp.async.wait_all;\n\
         ld.shared.v4.u32 {%r5, %r6, %r7, %r8}, [%r3];\n\
         cvt.u64.u32 %rd2, %r2;\n\
         add.u64 %rd3, %rd1, %rd2;\n\
         st.global.v4.u32 [%rd3+16], {%r5, %r6, %r7, %r8};",
    );
    let mut device = EmulatedDevice::new(&ptx);
    let buffer = device.empty(16 + 512);
    device.memory.write(buffer, &[0xff; 15]).unwrap();
    device.launch("k", [1, 1, 1], [32, 1, 1], &[Pointer(buffer)]).unwrap();
    let found = device.read_bytes(buffer + 16, 512);
    for (lane, bytes) in found.chunks_exact(16).enumerate() {
        let taken = lane & 15;
        assert!(bytes[..taken].iter().all(|&byte| byte == 0xff));
        assert!(bytes[taken..].iter().all(|&byte| byte == 0));
    }
}
