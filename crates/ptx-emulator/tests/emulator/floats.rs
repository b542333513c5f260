//! Floating-point numbers and conversions: single instructions against results that are known from
//! the PTX ISA manual or by hand.

use crate::single::{D, H, NAN, ONES, W, check, d, f, i, l};

#[test]
fn floats_are_rounded_in_each_direction() {
    let tiny = f(f32::EPSILON / 4.0);
    let next = f(1.0 + f32::EPSILON);
    check(
        "add.f32",
        W,
        [W, W],
        &[([f(1.0), tiny], f(1.0)), ([f(f32::INFINITY), f(f32::NEG_INFINITY)], NAN)],
    );
    check("add.rp.f32", W, [W, W], &[([f(1.0), tiny], next)]);
    check("add.rm.f32", W, [W, W], &[([f(1.0), tiny], f(1.0)), ([f(1.0), f(-1.0)], f(-0.0))]);
    check("add.rz.f32", W, [W, W], &[([f(f32::MAX), f(f32::MAX)], f(f32::MAX))]);
    check("sub.rz.f32", W, [W, W], &[([f(1.0), tiny], f(1.0f32.next_down()))]);
    check("mul.rp.f32", W, [W, W], &[([f(f32::MIN_POSITIVE), f(1e-30)], 1)]);
    check(
        "mul.f32",
        W,
        [W, W],
        &[([f(f32::MIN_POSITIVE), f(1e-30)], 0), ([0, f(f32::INFINITY)], NAN)],
    );
    check(
        "fma.rn.f32",
        W,
        [W, W, W],
        &[([next, next, next | 1 << 31], 0x3400_0001), ([f(2.0), f(3.0), f(4.0)], f(10.0))],
    );
    check(
        "fma.rm.f32",
        W,
        [W, W, W],
        &[
            ([f(3.0), f(1.0), tiny], f(3.0)),
            ([f(-3.0), f(1.0), f(-1e-20)], f((-3.0f32).next_down())),
        ],
    );
    check("fma.rz.f32", W, [W, W, W], &[([f(-3.0), f(1.0), f(1e-20)], f((-3.0f32).next_up()))]);
    check(
        "div.rn.f32",
        W,
        [W, W],
        &[
            ([f(1.0), f(3.0)], f(1.0 / 3.0)),
            ([f(1.0), f(-0.0)], f(f32::NEG_INFINITY)),
            ([0, 0], NAN),
        ],
    );
    check("rcp.rn.f32", W, [W], &[([f(3.0)], f(1.0 / 3.0))]);
    check(
        "sqrt.rn.f32",
        W,
        [W],
        &[([f(2.0)], f(2f32.sqrt())), ([f(-1.0)], NAN), ([f(-0.0)], f(-0.0))],
    );
    check(
        "min.f32",
        W,
        [W, W],
        &[
            ([NAN, f(1.0)], f(1.0)),
            ([f(-0.0), 0], f(-0.0)),
            ([0, f(-0.0)], f(-0.0)),
            ([NAN, NAN], NAN),
        ],
    );
    check("max.f32", W, [W, W], &[([f(1.0), NAN], f(1.0)), ([f(-0.0), 0], 0)]);
    check("max.NaN.f32", W, [W, W], &[([f(1.0), NAN], NAN)]);
    check("abs.f32", W, [W], &[([f(-2.0)], f(2.0))]);
    check("neg.f32", W, [W], &[([f(-2.0)], f(2.0))]);
    check("copysign.f32", W, [W, W], &[([f(-2.0), f(3.0)], f(-3.0))]);
    check("add.f64", D, [D, D], &[([d(0.1), d(0.2)], d(0.1 + 0.2))]);
    check(
        "fma.rn.f64",
        D,
        [D, D, D],
        &[([d(0.1), d(10.0), d(-1.0)], d(0.1f64.mul_add(10.0, -1.0)))],
    );
    check("sqrt.rn.f64", D, [D], &[([d(2.0)], d(2f64.sqrt()))]);
    // Saturation and flushing are steps of their own.
    check(
        "add.sat.f32",
        W,
        [W, W],
        &[([f(0.75), f(0.5)], f(1.0)), ([f(-1.0), f(0.5)], 0), ([NAN, 0], 0)],
    );
    check("fma.rn.sat.f32", W, [W, W, W], &[([f(0.5), f(0.5), f(0.25)], f(0.5))]);
    check(
        "add.ftz.f32",
        W,
        [W, W],
        &[([1, f(-0.0)], 0), ([f(1.5e-38), f(-1.2e-38)], 0), ([f(1.0), f(2.0)], f(3.0))],
    );
    check("mul.ftz.f32", W, [W, W], &[([f(-1e-30), f(1e-10)], f(-0.0))]);
    check("abs.ftz.f32", W, [W], &[([0x8000_0001], 0)]);
}

#[test]
fn small_floats_are_rounded_once() {
    // 1.0 is 0x3c00 in f16 and 0x3f80 in bf16.
    check("add.f16", H, [H, H], &[([0x3c00, 0x3c00], 0x4000), ([0x7bff, 0x7bff], 0x7c00)]);
    check("fma.rn.f16", H, [H, H, H], &[([0x3c01, 0x3c01, 0xbc01], 0x1401)]);
    check(
        "fma.rn.bf16",
        H,
        [H, H, H],
        &[([0x3f80, 0x3f80, 0x3f80], 0x4000), ([0x3f81, 0x3f81, 0xbf81], 0x3c01)],
    );
    // 9 · 29 + 2⁻²⁰: by way of f32 this would be 261, a tie, and go to 260.
    check("fma.rn.bf16", H, [H, H, H], &[([0x4110, 0x41e8, 0x3580], 0x4383)]);
    check("fma.rn.bf16x2", W, [W, W, W], &[([0x3f80_4000, 0x4000_4000, 0x3f80_3f80], 0x4040_40a0)]);
    check("fma.rn.relu.bf16", H, [H, H, H], &[([0xbf80, 0x3f80, 0], 0)]);
    check("max.bf16x2", W, [W, W], &[([0x3f80_c000, 0x4000_7fff], 0x4000_c000)]);
    check("min.NaN.bf16x2", W, [W, W], &[([0x3f80_c000, 0x4000_7fff], 0x3f80_7fff)]);
    check("neg.bf16x2", W, [W], &[([0x3f80_c000], 0xbf80_4000)]);
    check("abs.f16x2", W, [W], &[([0xbc00_3c00], 0x3c00_3c00)]);
    check("mul.bf16x2", W, [W, W], &[([0x4000_4000, 0x4040_bf80], 0x40c0_c000)]);
}

#[test]
fn conversions_round_saturate_and_extend() {
    check(
        "cvt.rn.bf16.f32",
        H,
        [W],
        &[
            ([f(1.0)], 0x3f80),
            ([0x3f80_8000], 0x3f80),
            ([0x3f81_8000], 0x3f82),
            ([0x3f80_8001], 0x3f81),
            ([f(f32::MAX)], 0x7f80),
            ([0xff80_0001], 0x7fff),
        ],
    );
    check("cvt.rz.bf16.f32", H, [W], &[([0x3f80_ffff], 0x3f80), ([f(f32::MAX)], 0x7f7f)]);
    check("cvt.rn.relu.bf16.f32", H, [W], &[([f(-1.0)], 0), ([f(1.0)], 0x3f80), ([NAN], 0x7fff)]);
    check("cvt.rn.bf16x2.f32", W, [W, W], &[([f(1.0), f(2.0)], 0x3f80_4000)]);
    check("cvt.rn.f16x2.f32", W, [W, W], &[([f(1.0), f(2.0)], 0x3c00_4000)]);
    check(
        "cvt.rn.f16.f32",
        H,
        [W],
        &[
            ([f(65504.0)], 0x7bff),
            ([f(65520.0)], 0x7c00),
            ([f(5.960_464_5e-8)], 1),
            ([f(2.980_232_2e-8)], 0),
            ([f(8.940_697e-8)], 2),
            ([f(1.000_976_6)], 0x3c01),
        ],
    );
    check(
        "cvt.f32.f16",
        W,
        [H],
        &[
            ([0x3555], f(0.333_251_95)),
            ([1], f(5.960_464_5e-8)),
            ([0xfc00], f(f32::NEG_INFINITY)),
            ([0x7c01], NAN),
        ],
    );
    check("cvt.f32.bf16", W, [H], &[([0x3fc0], f(1.5))]);
    check("cvt.f64.f16", D, [H], &[([0x3c00], d(1.0))]);
    check(
        "cvt.rn.f16.f64",
        H,
        [D],
        &[([d(1.0 + 0.000_488_281_25)], 0x3c00), ([d(1.0 + 0.000_488_281_26)], 0x3c01)],
    );
    check(
        "cvt.rna.tf32.f32",
        W,
        [W],
        &[([0x3f80_1000], 0x3f80_2000), ([0xbf80_1000], 0xbf80_2000), ([0x3f80_0fff], 0x3f80_0000)],
    );
    check("cvt.rn.f32.f64", W, [D], &[([d(0.1)], f(0.1)), ([d(1e300)], f(f32::INFINITY))]);
    check(
        "cvt.rz.f32.f64",
        W,
        [D],
        &[([d(1e300)], f(f32::MAX)), ([d(1.0 - 1e-10)], f(1.0f32.next_down()))],
    );
    check("cvt.rm.f32.f64", W, [D], &[([d(-1.0 - 1e-10)], f((-1.0f32).next_down()))]);
    check(
        "cvt.rzi.s32.f32",
        W,
        [W],
        &[([f(-2.9)], i(-2)), ([f(3e9)], i(i32::MAX)), ([f(-3e9)], i(i32::MIN)), ([NAN], 0)],
    );
    check("cvt.rni.s32.f32", W, [W], &[([f(2.5)], 2), ([f(3.5)], 4), ([f(-2.5)], i(-2))]);
    check("cvt.rmi.s32.f32", W, [W], &[([f(-2.1)], i(-3))]);
    check("cvt.rpi.s32.f32", W, [W], &[([f(-2.9)], i(-2))]);
    check("cvt.rzi.u32.f32", W, [W], &[([f(-2.9)], 0), ([f(5e9)], ONES)]);
    check("cvt.rzi.s64.f64", D, [D], &[([d(-1e30)], l(i64::MIN)), ([d(-2.5)], l(-2))]);
    check(
        "cvt.rzi.u64.f64",
        D,
        [D],
        &[([d(1e19)], 10_000_000_000_000_000_000), ([d(-1.0)], 0), ([d(1e30)], u64::MAX)],
    );
    check("cvt.rzi.u16.f32", H, [W], &[([f(70000.0)], 0xffff)]);
    check("cvt.rni.f32.f32", W, [W], &[([f(2.5)], f(2.0)), ([f(-0.2)], f(-0.0))]);
    check("cvt.rzi.f64.f64", D, [D], &[([d(-2.5)], d(-2.0))]);
    check(
        "cvt.sat.f32.f32",
        W,
        [W],
        &[([f(2.5)], f(1.0)), ([f(-0.2)], 0), ([NAN], 0), ([f(0.5)], f(0.5))],
    );
    check("cvt.ftz.f32.f32", W, [W], &[([0x8000_0001], f(-0.0)), ([f(1.0)], f(1.0))]);
    check("cvt.rn.f32.s32", W, [W], &[([i(-16_777_217)], f(-16_777_216.0))]);
    check("cvt.rp.f32.s32", W, [W], &[([i(16_777_217)], f(16_777_218.0))]);
    check("cvt.rn.f32.u64", W, [D], &[([u64::MAX], f(1.844_674_4e19))]);
    check("cvt.rz.f32.u64", W, [D], &[([u64::MAX], 0x5f7f_ffff)]);
    check("cvt.rn.f64.s64", D, [D], &[([l((1 << 53) + 1)], d(9_007_199_254_740_992.0))]);
    check("cvt.rp.f64.s64", D, [D], &[([l((1 << 53) + 1)], d(9_007_199_254_740_994.0))]);
    check("cvt.s64.s32", D, [W], &[([i(-5)], l(-5))]);
    check("cvt.u64.u32", D, [W], &[([i(-5)], 0xffff_fffb)]);
    check("cvt.s32.s8", W, [W], &[([0x1280], 0xffff_ff80)]);
    check("cvt.u32.u8", W, [W], &[([0x1280], 0x80)]);
    check("cvt.s8.s32", W, [W], &[([0x1280], 0xffff_ff80)]);
    check("cvt.u16.s8", H, [H], &[([0x80], 0xff80)]);
    check("cvt.sat.u8.s32", W, [W], &[([i(-5)], 0), ([300], 255), ([77], 77)]);
    check("cvt.sat.s16.s32", H, [W], &[([i(-70000)], 0x8000)]);
    check("cvt.sat.u32.s64", W, [D], &[([l(-1)], 0), ([1 << 40], ONES)]);
    check("cvt.rn.f32.u8", W, [W], &[([0x1ff], f(255.0))]);
    check("cvt.rn.f16.s32", H, [W], &[([2049], 0x6800)]);
    check(
        "cvt.rn.bf16.f64",
        H,
        [D],
        &[([d(1.0 + 0.003_906_25)], 0x3f80), ([d(1.0 + 0.003_906_251)], 0x3f81)],
    );
}

#[test]
fn approximations_have_the_manual_s_special_values() {
    let (inf, ninf) = (f(f32::INFINITY), f(f32::NEG_INFINITY));
    check(
        "ex2.approx.f32",
        W,
        [W],
        &[
            ([ninf], 0),
            ([f(-0.0)], f(1.0)),
            ([inf], inf),
            ([NAN], NAN),
            ([f(3.0)], f(8.0)),
            ([f(-149.0)], 1),
        ],
    );
    check(
        "ex2.approx.ftz.f32",
        W,
        [W],
        &[([f(-140.0)], 0), ([f(0.5)], f(2f32.sqrt())), ([f(200.0)], inf)],
    );
    check(
        "lg2.approx.f32",
        W,
        [W],
        &[
            ([ninf], NAN),
            ([f(-1.0)], NAN),
            ([f(-0.0)], ninf),
            ([0], ninf),
            ([inf], inf),
            ([NAN], NAN),
            ([f(8.0)], f(3.0)),
            ([1], f(-149.0)),
            ([f(3.0)], f(3f32.log2())),
        ],
    );
    check(
        "rcp.approx.f32",
        W,
        [W],
        &[
            ([ninf], f(-0.0)),
            ([f(-0.0)], ninf),
            ([0], inf),
            ([inf], 0),
            ([NAN], NAN),
            ([f(4.0)], f(0.25)),
        ],
    );
    check("rcp.approx.ftz.f32", W, [W], &[([1], inf), ([f(3e38)], 0)]);
    check(
        "sqrt.approx.f32",
        W,
        [W],
        &[([ninf], NAN), ([f(-1.0)], NAN), ([f(-0.0)], f(-0.0)), ([f(9.0)], f(3.0)), ([inf], inf)],
    );
    check(
        "rsqrt.approx.f32",
        W,
        [W],
        &[
            ([ninf], NAN),
            ([f(-1.0)], NAN),
            ([f(-0.0)], ninf),
            ([0], inf),
            ([inf], 0),
            ([f(4.0)], f(0.5)),
        ],
    );
    check(
        "sin.approx.f32",
        W,
        [W],
        &[([ninf], NAN), ([f(-0.0)], f(-0.0)), ([inf], NAN), ([f(1.0)], f(1f32.sin()))],
    );
    check(
        "cos.approx.f32",
        W,
        [W],
        &[([ninf], NAN), ([f(-0.0)], f(1.0)), ([f(1.0)], f(0.540_302_3))],
    );
    check(
        "tanh.approx.f32",
        W,
        [W],
        &[([ninf], f(-1.0)), ([f(-0.0)], f(-0.0)), ([inf], f(1.0)), ([NAN], NAN), ([1], 1)],
    );
    check(
        "div.approx.f32",
        W,
        [W, W],
        &[([f(1.0), f(3.0)], f(1.0 / 3.0)), ([f(1.0), f(3e38)], 0), ([inf, f(3e38)], NAN)],
    );
    check("div.full.f32", W, [W, W], &[([f(1.0), f(3e38)], f(1.0 / 3e38))]);
}
