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

#[test]
fn shuffles_clamp_at_their_segments() {
    // A shuffle of the lane numbers; 1000 is added where the source was in range.
    let shuffled = |distance: u32, clamp: u32| {
        let body = format!(
            "shfl.sync.bfly.b32 %r2|%p1, %r1, {distance}, {clamp}, 0xffffffff;\n\
             @%p1 add.u32 %r2, %r2, 1000;"
        );
        run(32, &body)
    };
    assert_eq!(shuffled(5, 31), each(32, |t| 1000 + (t ^ 5)));
    // Segments of eight lanes: the mask in bits 8 to 12 is 0b11000, as __shfl_xor_sync makes it.
    let wanted = |t: u32| if t & 8 == 8 { 1000 + (t ^ 12) } else { t };
    assert_eq!(shuffled(12, 0x181f), each(32, wanted));
}

#[test]
fn lanes_with_different_masks_shuffle_among_themselves() {
    let body = "and.b32 %r3, %r1, 1; setp.eq.u32 %p1, %r3, 1;\n\
                selp.b32 %r4, 0xaaaaaaaa, 0x55555555, %p1;\n\
                shfl.sync.bfly.b32 %r2, %r1, 6, 31, %r4;";
    assert_eq!(run(32, body), each(32, |t| t ^ 6));
}

#[test]
fn matrices_are_transposed_between_the_lanes() {
    // Element (i, j) of each of four matrices is 8i + j: lane l holds 2l and 2l + 1. They go by way of
    // shared memory, whose rows lie 80 bytes apart and hold a row of each matrix.
    let body = |trans: &str| {
        format!(
            "shr.u32 %r3, %r1, 2; and.b32 %r4, %r1, 3; mul.lo.u32 %r5, %r3, 80;\n\
             mad.lo.u32 %r5, %r4, 4, %r5; mov.u32 %r6, s; add.u32 %r5, %r5, %r6;\n\
             shl.b32 %r7, %r1, 1; add.u32 %r8, %r7, 1; shl.b32 %r8, %r8, 16;\n\
             or.b32 %r7, %r7, %r8; st.shared.u32 [%r5], %r7; add.u32 %r7, %r7, 0x01000100;\n\
             st.shared.u32 [%r5+16], %r7; add.u32 %r7, %r7, 0x01000100;\n\
             st.shared.u32 [%r5+32], %r7; add.u32 %r7, %r7, 0x01000100;\n\
             st.shared.u32 [%r5+48], %r7; bar.warp.sync 0xffffffff;\n\
             and.b32 %r9, %r1, 7; mad.lo.u32 %r9, %r9, 80, %r6;\n\
             shr.u32 %r10, %r1, 3; mad.lo.u32 %r9, %r10, 16, %r9;\n\
             ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%r11, %r12, %r13, %r14}}, [%r9];\n\
             sub.u32 %r12, %r12, %r11; sub.u32 %r13, %r13, %r11; sub.u32 %r14, %r14, %r11;\n\
             setp.eq.u32 %p1, %r12, 0x01000100; @%p1 add.u32 %r2, %r11, %r2;\n\
             setp.eq.u32 %p1, %r13, 0x02000200; @!%p1 mov.u32 %r2, 0;\n\
             setp.eq.u32 %p1, %r14, 0x03000300; @!%p1 mov.u32 %r2, 0;"
        )
    };
    let wanted = |t: u32| {
        let (i, j) = (t / 4, t % 4 * 2);
        (8 * j + i) | (8 * (j + 1) + i) << 16
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
                mov.u32 %r7, %ntid.y; mov.u32 %r8, %nctaid.z;\n\
                mad.lo.u32 %r20, %r6, 3, %r5; mad.lo.u32 %r20, %r20, 2, %r4;\n\
                mad.lo.u32 %r20, %r20, 4, %r3; mad.lo.u32 %r20, %r20, 3, %r2;\n\
                mad.lo.u32 %r20, %r20, 5, %r1;\n\
                mul.wide.u32 %rd2, %r20, 4; add.u64 %rd1, %rd1, %rd2;\n\
                mad.lo.u32 %r21, %r7, 1000, %r8; mad.lo.u32 %r21, %r20, 10000, %r21;\n\
                st.global.u32 [%rd1], %r21; ret;";
    let mut device = EmulatedDevice::new(&module(".param .u64 p", text));
    let count = 2 * 3 * 2 * 60;
    let buffer = device.empty(4 * count);
    let parameters = [Argument::Pointer(buffer)];
    device.launch("k", [2, 3, 2], [5, 3, 4], &parameters).unwrap();
    let wanted = |index: u32| index * 10_000 + 3002;
    assert_eq!(device.read_words(buffer, count as usize), each(count as u32, wanted));
}
