//! Lanes that part and meet: loops, early ends, nested branches.

use crate::device::{Argument, EmulatedDevice, module};
use vitrine_ptx_emulator::Checks;

/// Runs a body for one block and gives what each thread left in `%r2`; `%r1` is its number, `%rd1`
/// the address of its word.
fn run(threads: u32, body: &str) -> Vec<u32> {
    let text = format!(
        ".reg .b64 %rd<20>; .reg .b32 %r<20>; .reg .pred %p<20>;\n\
         .shared .align 8 .b8 s[1024];\n\
         ld.param.u64 %rd1, [p]; mov.u32 %r1, %tid.x; mad.wide.u32 %rd1, %r1, 4, %rd1;\n\
         mov.u32 %r2, 0;\n{body}\nst.global.u32 [%rd1], %r2; ret;"
    );
    let mut results = Vec::new();
    for schedule in [None].into_iter().chain((0..20).map(Some)) {
        let mut device = EmulatedDevice::new(&module(".param .u64 p", &text));
        device.checks = Checks { schedule, ..Checks::default() };
        let buffer = device.empty(4 * u64::from(threads));
        device
            .launch("k", [1, 1, 1], [threads, 1, 1], &[Argument::Pointer(buffer)])
            .unwrap_or_else(|fault| panic!("{fault}"));
        results.push(device.read_words(buffer, threads as usize));
    }
    assert!(results.iter().all(|found| *found == results[0]), "the schedule matters: {body}");
    results.swap_remove(0)
}

fn each(threads: u32, wanted: impl Fn(u32) -> u32) -> Vec<u32> {
    (0..threads).map(wanted).collect()
}

#[test]
fn a_loop_runs_as_often_as_each_lane_says() {
    let body = "mov.u32 %r3, 0;\n\
                LOOP: setp.ge.u32 %p1, %r3, %r1; @%p1 bra DONE;\n\
                add.u32 %r2, %r2, %r3; add.u32 %r3, %r3, 1; bra.uni LOOP;\n\
                DONE:";
    assert_eq!(run(40, body), each(40, |t| (0..t).sum()));
}

#[test]
fn nested_loops_with_breaks_and_an_early_end() {
    let body = "setp.eq.u32 %p9, %r1, 7; @%p9 st.global.u32 [%rd1], 777; @%p9 ret;\n\
                mov.u32 %r3, 0;\n\
                OUTER: setp.gt.u32 %p1, %r3, 5; @%p1 bra DONE;\n\
                mov.u32 %r4, 0;\n\
                INNER: setp.gt.u32 %p2, %r4, %r3; @%p2 bra NEXT;\n\
                add.u32 %r2, %r2, 1; setp.ge.u32 %p3, %r2, %r1; @%p3 bra DONE;\n\
                add.u32 %r4, %r4, 1; bra.uni INNER;\n\
                NEXT: add.u32 %r3, %r3, 1; bra.uni OUTER;\n\
                DONE:";
    let wanted = |t: u32| match t {
        7 => 777,
        0 => 1,
        t => t.min(21),
    };
    assert_eq!(run(32, body), each(32, wanted));
}

#[test]
fn lanes_meet_again_behind_branches() {
    // A shuffle with a mask of those that are there, in each arm and behind both.
    let body = "and.b32 %r3, %r1, 3; setp.eq.u32 %p1, %r3, 0; @%p1 bra THEN;\n\
         mov.u32 %r4, 100; shfl.sync.bfly.b32 %r5, %r1, 0, 31, 0xeeeeeeee; bra.uni MEET;\n\
         THEN: mov.u32 %r4, 200; shfl.sync.bfly.b32 %r5, %r1, 4, 31, 0x11111111;\n\
         MEET: shfl.sync.bfly.b32 %r6, %r4, 1, 31, 0xffffffff; add.u32 %r2, %r5, %r6;";
    let wanted = |t: u32| {
        let own = if t & 3 == 0 { t ^ 4 } else { t };
        own + if (t ^ 1) & 3 == 0 { 200 } else { 100 }
    };
    assert_eq!(run(32, body), each(32, wanted));
}

#[test]
fn code_behind_the_end_may_jump_back() {
    let body = "setp.lt.u32 %p1, %r1, 10; @%p1 bra COLD;\n\
                BACK: add.u32 %r2, %r2, 1;\n\
                bra.uni STORE;\n\
                COLD: add.u32 %r2, %r2, 100; bra.uni BACK;\n\
                STORE:";
    assert_eq!(run(32, body), each(32, |t| if t < 10 { 101 } else { 1 }));
}

#[test]
fn labels_are_those_of_their_scope() {
    let body = "{ .reg .b32 x; mov.u32 x, 1; setp.lt.u32 %p1, %r1, 4; @%p1 bra OUT;\n\
                add.u32 x, x, 1; OUT: add.u32 %r2, %r2, x; }\n\
                { .reg .b32 x; mov.u32 x, 10; setp.lt.u32 %p1, %r1, 8; @%p1 bra OUT;\n\
                add.u32 x, x, 10; OUT: add.u32 %r2, %r2, x; }";
    let wanted = |t| (if t < 4 { 1 } else { 2 }) + if t < 8 { 10 } else { 20 };
    assert_eq!(run(16, body), each(16, wanted));
}

#[test]
fn guarded_instructions_leave_other_lanes_alone() {
    let body = "setp.lt.u32 %p1, %r1, 5; mov.u32 %r2, 3; @%p1 mov.u32 %r2, 4;\n\
                @!%p1 add.u32 %r2, %r2, %r1; @%p1 bra.uni END; add.u32 %r2, %r2, 100; END:";
    assert_eq!(run(33, body), each(33, |t| if t < 5 { 4 } else { 103 + t }));
}

#[test]
fn lanes_may_meet_at_different_instructions() {
    let body = "mul.lo.u32 %r3, %r1, 4; mov.u32 %r4, s; add.u32 %r5, %r4, %r3;\n\
                st.shared.u32 [%r5], %r1; setp.lt.u32 %p1, %r1, 16; @%p1 bra LOW;\n\
                bar.warp.sync 0xffffffff; bra.uni READ;\n\
                LOW: add.u32 %r2, %r2, 0; bar.warp.sync 0xffffffff;\n\
                READ: xor.b32 %r6, %r3, 64; add.u32 %r6, %r6, %r4; ld.shared.u32 %r2, [%r6];";
    assert_eq!(run(32, body), each(32, |t| t ^ 16));
}

#[test]
fn a_barrier_in_a_loop_keeps_warps_in_step() {
    // Each round passes the words on by one place.
    let body = "mul.lo.u32 %r3, %r1, 4; mov.u32 %r4, s; add.u32 %r5, %r4, %r3;\n\
                add.u32 %r6, %r1, 1; rem.u32 %r6, %r6, 96; mad.lo.u32 %r6, %r6, 4, %r4;\n\
                mov.u32 %r2, %r1; mov.u32 %r7, 0;\n\
                LOOP: st.shared.u32 [%r5], %r2; bar.sync 0; ld.shared.u32 %r2, [%r6]; bar.sync 0;\n\
                add.u32 %r7, %r7, 1; setp.lt.u32 %p1, %r7, 10; @%p1 bra LOOP;";
    assert_eq!(run(96, body), each(96, |t| (t + 10) % 96));
}
