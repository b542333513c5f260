//! Races, barriers and deadlocks: each check is silent on a right kernel and fires on a small bug.

use crate::device::{Argument, EmulatedDevice, KERNELS, module, noise};
use vitrine_ptx_emulator::{Access, Checks, FaultKind, LaunchConfig};

use Argument::{Int, Pointer};

/// The fixture with a part of one kernel's PTX replaced, all of it or the first.
fn changed(kernel: &str, from: &str, to: &str, first_only: bool) -> EmulatedDevice {
    let start = KERNELS.find(&format!(".entry {kernel}(")).unwrap();
    let end = KERNELS[start..].find("\n}\n").unwrap() + start;
    let body = &KERNELS[start..end];
    assert!(body.contains(from), "{kernel} has no {from}");
    let body = if first_only { body.replacen(from, to, 1) } else { body.replace(from, to) };
    EmulatedDevice::new(&format!("{}{body}{}", &KERNELS[..start], &KERNELS[end..]))
}

fn transpose(mut device: EmulatedDevice) -> Result<(), FaultKind> {
    let from = device.floats(&noise(64 * 64, 1));
    let to = device.empty(4 * 64 * 64);
    let parameters = [Pointer(from), Pointer(to), Int(64), Int(64)];
    let result = device.launch("transpose", [2, 2, 1], [32, 8, 1], &parameters);
    result.map(|_| ()).map_err(|fault| fault.kind().clone())
}

#[test]
fn a_missing_barrier_is_a_race_of_two_named_threads() {
    assert_eq!(transpose(EmulatedDevice::new(KERNELS)), Ok(()));
    let mut device = changed("transpose", "bar.sync \t0;", "", false);
    // The first warp would read what is not written yet.
    device.checks.uninitialised = false;
    let found = transpose(device);
    let Err(FaultKind::SharedRace { access: Access::Load, bytes: 4, variable, other, .. }) = found
    else {
        panic!("{found:?}");
    };
    assert!(variable.unwrap().0.contains("tile"));
    assert_eq!(other.access, Access::Store);
    assert!(other.thread.is_some() && other.source.unwrap().0.ends_with("kernels.cu"));
}

#[test]
fn switched_off_checks_are_silent() {
    let mut device = changed("transpose", "bar.sync \t0;", "", false);
    device.checks = Checks { shared_races: false, uninitialised: false, ..Checks::default() };
    assert_eq!(transpose(device), Ok(()));
}

/// The tensor-core product with three steps of two stages.
fn product(mut device: EmulatedDevice) -> Result<(), FaultKind> {
    let halves = vec![0x3f80; 64 * 48];
    let (a, b) = (device.halves(&halves), device.halves(&halves));
    let c = device.empty(4 * 64 * 64);
    let pointers = [a, b, c].map(Pointer);
    let parameters = [pointers[0], pointers[1], pointers[2], Int(64), Int(64), Int(48)];
    let result = device.launch("matmul_bf16", [2, 2, 1], [128, 1, 1], &parameters);
    result.map(|_| ()).map_err(|fault| fault.kind().clone())
}

#[test]
fn a_pipeline_needs_a_barrier_before_a_stage_is_filled_again() {
    assert_eq!(product(EmulatedDevice::new(KERNELS)), Ok(()));
    let barriers = KERNELS[KERNELS.find(".entry matmul_bf16").unwrap()..].matches("bar.sync");
    assert!(barriers.count() >= 2);
    // Without the first barrier warps read what others have copied; without the last they copy
    // over what others still read.
    let mut device = changed("matmul_bf16", "bar.sync \t0;", "", true);
    device.checks.schedule = Some(1);
    device.checks.uninitialised = false;
    let found = product(device);
    assert!(matches!(found, Err(FaultKind::SharedRace { .. })), "{found:?}");
    let start = KERNELS.find(".entry matmul_bf16(").unwrap();
    let end = KERNELS[start..].find("\n}\n").unwrap() + start;
    let last = KERNELS[start..end].rfind("bar.sync \t0;").unwrap() + start;
    let text = format!("{}{}", &KERNELS[..last], &KERNELS[last + "bar.sync \t0;".len()..]);
    // Other warps meet the copies still on their way, or, if they came before, have read just now.
    let found = product(EmulatedDevice::new(&text));
    assert!(matches!(found, Err(FaultKind::CopyPending { access: Access::Load, .. })), "{found:?}");
    let mut device = EmulatedDevice::new(&text);
    device.checks.schedule = Some(1);
    let found = product(device);
    let seen = matches!(found, Err(FaultKind::CopyPending { .. } | FaultKind::SharedRace { .. }));
    assert!(seen, "{found:?}");
}

/// A kernel with one pointer in `%rd1`; `%r1` the thread, `%r2` the block; shared words `s`.
fn kernel(body: &str) -> String {
    module(
        ".param .u64 p",
        &format!(
            ".reg .b64 %rd<20>; .reg .b32 %r<20>; .reg .pred %p<20>; .reg .b16 %rs<20>;\n\
             .shared .align 4 .b8 s[1024];\n\
             ld.param.u64 %rd1, [p];\n\
             mov.u32 %r1, %tid.x;\n\
             mov.u32 %r2, %ctaid.x;\n\
             {body}\nret;"
        ),
    )
}

fn run(grid: u32, block: u32, body: &str) -> Result<(), FaultKind> {
    run_with(Checks::default(), grid, block, body)
}

fn run_with(checks: Checks, grid: u32, block: u32, body: &str) -> Result<(), FaultKind> {
    let mut device = EmulatedDevice::new(&kernel(body));
    device.checks = checks;
    let buffer = device.words(&[0; 256]);
    let result = device.launch("k", [grid, 1, 1], [block, 1, 1], &[Pointer(buffer)]);
    result.map(|_| ()).map_err(|fault| fault.kind().clone())
}

/// `%rd2` becomes the address of word `index` of the buffer.
fn word(index: &str) -> String {
    format!("mul.wide.u32 %rd2, {index}, 4; add.u64 %rd2, %rd1, %rd2;")
}

#[test]
fn blocks_that_write_the_same_place_race() {
    let body = |stride: u32| {
        format!("mad.lo.u32 %r3, %r2, {stride}, %r1; {} st.global.u32 [%rd2], %r2;", word("%r3"))
    };
    assert_eq!(run(4, 32, &body(32)), Ok(()));
    let found = run(4, 32, &body(31));
    let Err(FaultKind::GlobalRace { access: Access::Store, other, .. }) = found else {
        panic!("{found:?}");
    };
    assert_eq!((other.block, other.thread), ([0, 0, 0], Some([31, 0, 0])));
    let off = Checks { global_races: false, ..Checks::default() };
    assert_eq!(run_with(off, 4, 32, &body(31)), Ok(()));
}

#[test]
fn neighbouring_bytes_of_two_blocks_are_no_race() {
    let body = "mad.lo.u32 %r3, %r2, 33, %r1; cvt.u64.u32 %rd2, %r3; add.u64 %rd2, %rd1, %rd2;\n\
                st.global.u8 [%rd2], %r1;";
    assert_eq!(run(4, 33, body), Ok(()));
    let halves = "mad.lo.u32 %r3, %r2, 33, %r1; mul.wide.u32 %rd2, %r3, 2;\n\
                  add.u64 %rd2, %rd1, %rd2; st.global.b16 [%rd2], %r1;";
    assert_eq!(run(4, 33, halves), Ok(()));
}

#[test]
fn writing_the_same_value_is_no_race() {
    let body = |value: &str| {
        format!(
            "st.global.u32 [%rd1], {value}; st.shared.u32 [s], 3; bar.sync 0;\n\
                 ld.shared.u32 %r4, [s];"
        )
    };
    assert_eq!(run(4, 64, &body("7")), Ok(()));
    assert!(matches!(run(4, 64, &body("%r2")), Err(FaultKind::GlobalRace { .. })));
    let shared = "st.shared.u32 [s], %r1;";
    assert!(matches!(
        run(1, 64, shared),
        Err(FaultKind::SharedRace { access: Access::Store, address: 0, .. })
    ));
}

#[test]
fn reading_what_another_block_writes_is_a_race_in_either_order() {
    let body = |writer: u32| {
        format!(
            "setp.ne.u32 %p1, %r2, {writer}; @%p1 bra READ; st.global.u32 [%rd1+8], %r1; ret;\n\
             READ: ld.global.u32 %r4, [%rd1+8];"
        )
    };
    assert!(matches!(run(2, 1, &body(0)), Err(FaultKind::GlobalRace { access: Access::Load, .. })));
    assert!(matches!(
        run(2, 1, &body(1)),
        Err(FaultKind::GlobalRace { access: Access::Store, .. })
    ));
    // With many readers the writer names one of their blocks.
    let Err(FaultKind::GlobalRace { other, .. }) = run(4, 1, &body(3)) else {
        panic!("three blocks read before the last writes");
    };
    assert_eq!((other.block, other.thread, other.access), ([0, 0, 0], None, Access::Load));
}

/// Each lane writes its word, `order` comes, each lane reads its neighbour's.
fn neighbours(order: &str) -> String {
    format!(
        "mul.lo.u32 %r3, %r1, 4; mov.u32 %r4, s; add.u32 %r5, %r4, %r3; st.shared.u32 [%r5], %r1;\n\
         {order}\n\
         xor.b32 %r6, %r3, 4; add.u32 %r6, %r6, %r4; ld.shared.u32 %r7, [%r6];"
    )
}

#[test]
fn lanes_of_a_warp_are_ordered_by_what_synchronises_them() {
    for order in [
        "bar.sync 0;",
        "bar.warp.sync 0xffffffff;",
        "shfl.sync.bfly.b32 %r9, %r1, 1, 31, 0xffffffff;",
    ] {
        assert_eq!(run(2, 64, &neighbours(order)), Ok(()), "{order}");
    }
    let found = run(2, 64, &neighbours(""));
    assert!(matches!(found, Err(FaultKind::SharedRace { .. })), "{found:?}");
}

#[test]
fn half_a_warp_orders_only_its_own_lanes() {
    // Lanes 0 to 15 meet each other, then lanes 16 to 31 do.
    let halves = "and.b32 %r8, %r1, 16; setp.eq.u32 %p1, %r8, 0;\n\
                  selp.b32 %r9, 0x0000ffff, 0xffff0000, %p1; bar.warp.sync %r9;";
    let across = |distance: u32| {
        neighbours(halves).replace("xor.b32 %r6, %r3, 4", &format!("xor.b32 %r6, %r3, {distance}"))
    };
    assert_eq!(run(1, 32, &across(4)), Ok(()));
    assert_eq!(run(1, 32, &across(32)), Ok(()));
    let found = run(1, 32, &across(64));
    assert!(matches!(found, Err(FaultKind::SharedRace { .. })), "{found:?}");
}

#[test]
fn order_is_passed_on_through_a_third_lane() {
    // Lane 0 writes and meets lane 1, lane 1 meets lane 2, lane 2 reads.
    let chain = |second: &str| {
        format!(
            "setp.eq.u32 %p1, %r1, 0; setp.eq.u32 %p2, %r1, 2; setp.le.u32 %p3, %r1, 1;\n\
             setp.ge.u32 %p4, %r1, 1; setp.le.u32 %p5, %r1, 2; and.pred %p4, %p4, %p5;\n\
             @%p1 st.shared.u32 [s], 5;\n\
             @%p3 bar.warp.sync 3;\n\
             {second}\n\
             @%p2 ld.shared.u32 %r4, [s];"
        )
    };
    assert_eq!(run(1, 32, &chain("@%p4 bar.warp.sync 6;")), Ok(()));
    assert!(matches!(run(1, 32, &chain("")), Err(FaultKind::SharedRace { .. })));
}

#[test]
fn a_write_after_a_read_needs_order_too() {
    let body = |order: &str| {
        format!(
            "setp.eq.u32 %p1, %r1, 0; @%p1 st.shared.u32 [s], 5; bar.sync 0;\n\
             ld.shared.u32 %r4, [s]; {order} @%p1 st.shared.u32 [s], 6;"
        )
    };
    assert_eq!(run(1, 96, &body("bar.sync 0;")), Ok(()));
    let found = run(1, 96, &body(""));
    let Err(FaultKind::SharedRace { access: Access::Store, other, .. }) = found else {
        panic!("{found:?}");
    };
    assert_eq!(other.access, Access::Load);
    // A lane may write over what it alone has read.
    let own = "mul.lo.u32 %r3, %r1, 4; mov.u32 %r4, s; add.u32 %r5, %r4, %r3;\n\
               st.shared.u32 [%r5], %r1; ld.shared.u32 %r6, [%r5]; st.shared.u32 [%r5], %r6;";
    assert_eq!(run(1, 64, own), Ok(()));
}

#[test]
fn lanes_of_a_warp_at_different_barriers_have_diverged() {
    let body = "setp.lt.u32 %p1, %r1, 16; @%p1 bra LOW; bar.sync 0; bra.uni END;\n\
                LOW: bar.sync 0; END:";
    let found = run(1, 32, body);
    let Err(FaultKind::BarrierDivergence(what)) = found else { panic!("{found:?}") };
    assert!(what.contains("0xffff0000") && what.contains("0x0000ffff"), "{what}");
    // Lanes that have ended are not waited for.
    let ended = "setp.lt.u32 %p1, %r1, 40; @%p1 ret; bar.sync 0;";
    assert_eq!(run(1, 128, ended), Ok(()));
}

#[test]
fn warps_at_different_barriers_have_diverged() {
    let body = "setp.lt.u32 %p1, %r1, 32; @%p1 bra LOW; bar.sync 0; bra.uni END;\n\
                LOW: bar.sync 0; END:";
    assert!(matches!(run(1, 64, body), Err(FaultKind::BarrierDivergence(_))));
}

#[test]
fn lanes_that_wait_for_each_other_at_different_places_are_a_deadlock() {
    let body = "setp.lt.u32 %p1, %r1, 16; @%p1 bra LOW;\n\
                shfl.sync.bfly.b32 %r3, %r1, 1, 31, 0xffffffff; bra.uni END;\n\
                LOW: bar.warp.sync 0xffffffff; END:";
    let found = run(1, 32, body);
    assert!(matches!(found, Err(FaultKind::Deadlock(_))), "{found:?}");
}

#[test]
fn a_lane_must_be_in_its_own_member_mask() {
    let body = "bar.warp.sync 0x0000ffff;";
    assert!(matches!(run(1, 32, body), Err(FaultKind::InvalidMask(_))));
    let matrix = "mov.u32 %r3, s; st.shared.u32 [s], 0; setp.lt.u32 %p1, %r1, 16;\n\
                  @%p1 ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4, %r5, %r6, %r7}, [%r3];";
    assert!(matches!(run(1, 32, matrix), Err(FaultKind::InvalidMask(_))));
    let absent = "shfl.sync.bfly.b32 %r3, %r1, 16, 31, 0xffffffff;";
    assert!(matches!(run(1, 16, absent), Err(FaultKind::InvalidMask(_))));
    assert_eq!(run(1, 32, absent), Ok(()));
}

#[test]
fn operands_without_meaning_are_refused() {
    let body = "mov.u32 %r3, s; cp.async.cg.shared.global [%r3], [%rd1], 16, 17;";
    assert!(matches!(run(1, 1, body), Err(FaultKind::InvalidOperand(_))));
}

#[test]
fn a_loop_without_end_stops_the_launch() {
    let limited = Checks { max_instructions: 100_000, ..Checks::default() };
    let found = run_with(limited, 1, 32, "AGAIN: bra.uni AGAIN;");
    assert_eq!(found, Err(FaultKind::Runaway { instructions: 100_000 }));
}

#[test]
fn launches_that_are_not_possible_say_why() {
    let refused = |block: [u32; 3], bytes: usize, kernel: &str| {
        let EmulatedDevice { mut memory, program, checks } = EmulatedDevice::new(KERNELS);
        let config = LaunchConfig { grid: [1, 1, 1], block };
        let bytes = vec![0; bytes];
        let found =
            vitrine_ptx_emulator::launch(&mut memory, &program, kernel, &config, &bytes, &checks);
        let fault = found.unwrap_err();
        assert!(matches!(fault.kind(), FaultKind::Launch(_)) && fault.site().is_none());
        fault.to_string()
    };
    assert!(refused([32, 1, 1], 28, "nothing").contains("no kernel of this name"));
    assert!(refused([32, 1, 1], 27, "axpy").contains("27 bytes of parameters"));
    assert!(refused([1024, 2, 1], 28, "axpy").contains("not possible"));
    assert!(refused([0, 1, 1], 28, "axpy").contains("not possible"));
    assert!(refused([256, 1, 1], 36, "matmul_bf16").contains("takes 128"));
}

#[test]
fn the_order_of_blocks_warps_and_lanes_does_not_matter() {
    let mut results = Vec::new();
    for schedule in [None, Some(0), Some(1), Some(2), Some(3)] {
        let mut device = EmulatedDevice::new(KERNELS);
        device.checks.schedule = schedule;
        let from = device.floats(&noise(70 * 33, 1));
        let to = device.empty(4 * 70 * 33);
        let parameters = [Pointer(from), Pointer(to), Int(70), Int(33)];
        let stats = device.launch("transpose", [2, 3, 1], [32, 8, 1], &parameters).unwrap();
        results.push((device.read_words(to, 70 * 33), stats.thread_instructions));
    }
    assert!(results.iter().all(|found| *found == results[0]));
}
