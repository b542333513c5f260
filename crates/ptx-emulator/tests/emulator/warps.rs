//! Exchange between the lanes of a warp and the threads of a block.

use crate::device::{Argument, EmulatedDevice, module};

/// Runs a body for one block and gives what each thread left in `%r2`; `%r1` is its number.
fn run(threads: u32, body: &str) -> Vec<u32> {
    let text = format!(
        ".reg .b64 %rd<20>; .reg .b32 %r<20>; .reg .pred %p<20>;\n\
         .shared .align 8 .b8 s[1024];\n\
         ld.param.u64 %rd1, [p]; mov.u32 %r1, %tid.x; mad.wide.u32 %rd1, %r1, 4, %rd1;\n\
         mov.u32 %r2, 0;\n{body}\nst.global.u32 [%rd1], %r2; ret;"
    );
    let mut device = EmulatedDevice::new(&module(".param .u64 p", &text));
    let buffer = device.empty(4 * u64::from(threads));
    device
        .launch("k", [1, 1, 1], [threads, 1, 1], &[Argument::Pointer(buffer)])
        .unwrap_or_else(|fault| panic!("{body}: {fault}"));
    device.read_words(buffer, threads as usize)
}

fn each(threads: u32, wanted: impl Fn(u32) -> u32) -> Vec<u32> {
    (0..threads).map(wanted).collect()
}

/// A shuffle of the lane numbers; 1000 is added where the source was in range.
fn shuffled(mode: &str, operand: u32, clamp: u32) -> Vec<u32> {
    run(
        32,
        &format!(
            "shfl.sync.{mode}.b32 %r2|%p1, %r1, {operand}, {clamp}, 0xffffffff;\n\
             @%p1 add.u32 %r2, %r2, 1000;"
        ),
    )
}

#[test]
fn shuffles_clamp_at_their_segments() {
    assert_eq!(shuffled("bfly", 5, 31), each(32, |t| 1000 + (t ^ 5)));
    assert_eq!(shuffled("idx", 7, 31), each(32, |_| 1007));
    assert_eq!(shuffled("down", 3, 31), each(32, |t| if t < 29 { 1003 + t } else { t }));
    assert_eq!(shuffled("up", 3, 0), each(32, |t| if t > 2 { 1000 + t - 3 } else { t }));
    // Segments of eight lanes: the mask in bits 8 to 12 is 0b11000, as __shfl_*_sync makes it.
    let (segments, up) = (0x181f, 0x1800);
    assert_eq!(shuffled("idx", 10, segments), each(32, |t| 1000 + (t & 24) + 2));
    let down = |t: u32| if t % 8 < 5 { 1003 + t } else { t };
    assert_eq!(shuffled("down", 3, segments), each(32, down));
    assert_eq!(shuffled("up", 3, up), each(32, |t| if t % 8 > 2 { 1000 + t - 3 } else { t }));
    assert_eq!(
        shuffled("bfly", 12, segments),
        each(32, |t| if t & 8 == 8 { 1000 + (t ^ 12) } else { t })
    );
}

#[test]
fn votes_of_all_lanes_and_of_some() {
    let vote = |mode: &str, limit: u32| {
        run(
            32,
            &format!(
                "setp.lt.u32 %p1, %r1, {limit}; vote.sync.{mode}.pred %p2, %p1, 0xffffffff;\n\
                 selp.u32 %r2, 1, 0, %p2;"
            ),
        )[0]
    };
    for (limit, all, any, uniform) in [(0, 0, 0, 1), (5, 0, 1, 0), (32, 1, 1, 1)] {
        let found = [vote("all", limit), vote("any", limit), vote("uni", limit)];
        assert_eq!(found, [all, any, uniform], "{limit}");
    }
    let ballot = "setp.lt.u32 %p1, %r1, 5; vote.sync.ballot.b32 %r2, !%p1, 0xffffffff;";
    assert_eq!(run(32, ballot), vec![0xffff_ffe0; 32]);
    // Odd and even lanes vote for themselves in one instruction.
    let parties = "and.b32 %r3, %r1, 1; setp.eq.u32 %p1, %r3, 1; setp.lt.u32 %p2, %r1, 4;\n\
                   selp.b32 %r4, 0xaaaaaaaa, 0x55555555, %p1;\n\
                   vote.sync.ballot.b32 %r2, %p2, %r4;";
    assert_eq!(run(32, parties), each(32, |t| if t & 1 == 1 { 0xa } else { 0x5 }));
}

#[test]
fn equal_values_are_matched() {
    let any = "shr.u32 %r3, %r1, 3; match.any.sync.b32 %r2, %r3, 0xffffffff;";
    assert_eq!(run(32, any), each(32, |t| 0xff << (t / 8 * 8)));
    let all = "match.all.sync.b32 %r2|%p1, %r1, 0xffffffff; @%p1 add.u32 %r2, %r2, 1;";
    assert_eq!(run(32, all), vec![0; 32]);
    let same = "mov.u64 %rd2, 5; match.all.sync.b64 %r2|%p1, %rd2, 0xffffffff; @!%p1 trap;";
    assert_eq!(run(32, same), vec![0xffff_ffff; 32]);
}

#[test]
fn reductions_of_a_warp() {
    let reduce = |op: &str| run(32, &format!("redux.sync.{op} %r2, %r1, 0xffffffff;"))[31];
    assert_eq!(reduce("add.u32"), 31 * 16);
    assert_eq!(reduce("max.u32"), 31);
    assert_eq!(reduce("and.b32"), 0);
    assert_eq!(reduce("or.b32"), 31);
    let signed = "sub.s32 %r3, %r1, 3; redux.sync.min.s32 %r2, %r3, 0xffffffff;";
    assert_eq!(run(32, signed), vec![-3i32 as u32; 32]);
}

#[test]
fn barriers_that_count_and_combine() {
    let count = "setp.lt.u32 %p1, %r1, 50; bar.red.popc.u32 %r2, 0, %p1;";
    assert_eq!(run(96, count), vec![50; 96]);
    let any = "setp.eq.u32 %p1, %r1, 70; bar.red.or.pred %p2, 0, %p1; selp.u32 %r2, 1, 0, %p2;";
    assert_eq!(run(96, any), vec![1; 96]);
    let all = "setp.eq.u32 %p1, %r1, 70; bar.red.and.pred %p2, 0, !%p1; selp.u32 %r2, 1, 0, %p2;";
    assert_eq!(run(96, all), vec![0; 96]);
    let ended = "setp.ge.u32 %p1, %r1, 70; @%p1 st.global.u32 [%rd1], 9; @%p1 ret;\n\
                 bar.red.and.pred %p2, 1, !%p1; selp.u32 %r2, 1, 0, %p2;";
    assert_eq!(run(96, ended), each(96, |t| if t < 70 { 1 } else { 9 }));
}

#[test]
fn atomics_see_each_other_in_some_order() {
    let body = |atomic: &str| {
        format!(
            "setp.eq.u32 %p1, %r1, 0; @%p1 st.shared.u32 [s], 5; bar.sync 0;\n\
             {atomic} bar.sync 0; ld.shared.u32 %r2, [s];"
        )
    };
    for (atomic, wanted) in [
        ("atom.shared.add.u32 %r3, [s], %r1;", 5 + 63 * 32),
        ("red.shared.add.u32 [s], 1;", 69),
        ("atom.shared.max.s32 %r3, [s], %r1;", 63),
        ("atom.shared.min.u32 %r3, [s], %r1;", 0),
        ("atom.shared.and.b32 %r3, [s], 0xfffffffe;", 4),
        ("atom.shared.or.b32 %r3, [s], %r1;", 63),
        ("atom.shared.xor.b32 %r3, [s], %r1;", 5),
        ("atom.shared.inc.u32 %r3, [s], 6;", 6),
        ("atom.shared.dec.u32 %r3, [s], 6;", 4),
        ("atom.shared.cas.b32 %r3, [s], 5, 99;", 99),
    ] {
        assert_eq!(run(64, &body(atomic)), vec![wanted; 64], "{atomic}");
    }
    // Old values are all those between the first and the last.
    let mut olds = run(
        64,
        "setp.eq.u32 %p1, %r1, 0; @%p1 st.shared.u32 [s], 5; bar.sync 0;\n\
         atom.shared.add.u32 %r2, [s], 1;",
    );
    olds.sort_unstable();
    assert_eq!(olds, each(64, |t| t + 5));
}

#[test]
fn atomics_of_floats_and_wide_numbers() {
    let body = "setp.eq.u32 %p1, %r1, 0; @%p1 st.shared.u64 [s], 0; @%p1 st.shared.u64 [s+8], 0;\n\
                bar.sync 0;\n\
                atom.shared.add.f32 %r3, [s], 0f3F000000;\n\
                mov.b32 %r7, 0x3f804000; atom.shared.add.noftz.bf16x2 %r4, [s+4], %r7;\n\
                cvt.u64.u32 %rd2, %r1; atom.shared.add.u64 %rd3, [s+8], %rd2;\n\
                bar.sync 0; ld.shared.f32 %r2, [s]; ld.shared.u32 %r5, [s+4];\n\
                ld.shared.u64 %rd4, [s+8]; cvt.u32.u64 %r6, %rd4; add.u32 %r2, %r2, %r6;\n\
                setp.ne.u32 %p2, %r5, 0x41804200; @%p2 trap;";
    // 16 times 0.5, 1.0 and 2.0, and the sum of the numbers below 16.
    assert_eq!(run(16, body), vec![8.0f32.to_bits() + 120; 16]);
    let doubles = "setp.eq.u32 %p1, %r1, 0; @%p1 st.shared.u64 [s], 0; bar.sync 0;\n\
                   cvt.rn.f64.u32 %rd2, %r1; atom.shared.add.f64 %rd3, [s], %rd2;\n\
                   bar.sync 0; ld.shared.f64 %rd4, [s]; cvt.rzi.u32.f64 %r2, %rd4;";
    assert_eq!(run(32, doubles), vec![31 * 16; 32]);
}

#[test]
fn matrices_are_transposed_between_the_lanes() {
    // Element (i, j) is 8i + j: lane l holds 2l and 2l + 1.
    let body = "shl.b32 %r3, %r1, 1; add.u32 %r4, %r3, 1; shl.b32 %r4, %r4, 16;\n\
                or.b32 %r3, %r3, %r4; movmatrix.sync.aligned.m8n8.trans.b16 %r2, %r3;";
    let wanted = |t: u32| {
        let (i, j) = (t / 4, t % 4 * 2);
        (8 * j + i) | (8 * (j + 1) + i) << 16
    };
    assert_eq!(run(32, body), each(32, wanted));
    // The same by way of shared memory, whose rows lie 48 bytes apart.
    let body = |trans: &str| {
        format!(
            "shr.u32 %r3, %r1, 2; and.b32 %r4, %r1, 3; mul.lo.u32 %r5, %r3, 48;\n\
             mad.lo.u32 %r5, %r4, 4, %r5; mov.u32 %r6, s; add.u32 %r5, %r5, %r6;\n\
             shl.b32 %r7, %r1, 1; add.u32 %r8, %r7, 1; shl.b32 %r8, %r8, 16;\n\
             or.b32 %r7, %r7, %r8; st.shared.u32 [%r5], %r7; bar.warp.sync 0xffffffff;\n\
             and.b32 %r9, %r1, 7; mad.lo.u32 %r9, %r9, 48, %r6;\n\
             ldmatrix.sync.aligned.m8n8.x1{trans}.shared.b16 {{%r2}}, [%r9];"
        )
    };
    assert_eq!(run(32, &body(".trans")), each(32, wanted));
    assert_eq!(run(32, &body("")), each(32, |t| (2 * t) | (2 * t + 1) << 16));
}

#[test]
fn special_registers_say_where_a_thread_is() {
    let text = ".reg .b64 %rd<4>; .reg .b32 %r<40>;\n\
                ld.param.u64 %rd1, [p];\n\
                mov.u32 %r1, %tid.x; mov.u32 %r2, %tid.y; mov.u32 %r3, %tid.z;\n\
                mov.u32 %r4, %ctaid.x; mov.u32 %r5, %ctaid.y; mov.u32 %r6, %ctaid.z;\n\
                mov.u32 %r7, %ntid.y; mov.u32 %r8, %nctaid.z; mov.u32 %r9, %laneid;\n\
                mov.u32 %r10, %lanemask_lt; mov.u32 %r11, %lanemask_ge;\n\
                mad.lo.u32 %r20, %r6, 3, %r5; mad.lo.u32 %r20, %r20, 2, %r4;\n\
                mad.lo.u32 %r20, %r20, 4, %r3; mad.lo.u32 %r20, %r20, 3, %r2;\n\
                mad.lo.u32 %r20, %r20, 5, %r1;\n\
                mul.wide.u32 %rd2, %r20, 4; add.u64 %rd1, %rd1, %rd2;\n\
                mad.lo.u32 %r21, %r7, 1000, %r8; mad.lo.u32 %r21, %r9, 10000, %r21;\n\
                popc.b32 %r12, %r10; popc.b32 %r13, %r11; mad.lo.u32 %r12, %r12, 33, %r13;\n\
                mad.lo.u32 %r21, %r12, 1000000, %r21;\n\
                st.global.u32 [%rd1], %r21; ret;";
    let mut device = EmulatedDevice::new(&module(".param .u64 p", text));
    let count = 2 * 3 * 2 * 60;
    let buffer = device.empty(4 * count);
    let parameters = [Argument::Pointer(buffer)];
    device.launch("k", [2, 3, 2], [5, 3, 4], &parameters).unwrap();
    let wanted = |index: u32| {
        let lane = index % 60 % 32;
        (lane * 33 + 32 - lane) * 1_000_000 + lane * 10_000 + 3002
    };
    assert_eq!(device.read_words(buffer, count as usize), each(count as u32, wanted));
}
