//! Floating-point numbers and conversions: single instructions against results that are known from
//! the PTX ISA manual or by hand.

use crate::single::{D, H, NAN, ONES, W, check, d, f, i, l};

#[test]
fn floats_are_rounded_once() {
    let tiny = f(f32::EPSILON / 4.0);
    let next = f(1.0 + f32::EPSILON);
    check(
        "add.f32",
        W,
        [W, W],
        &[([f(1.0), tiny], f(1.0)), ([f(f32::INFINITY), f(f32::NEG_INFINITY)], NAN)],
    );
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
}

#[test]
fn conversions_round_and_extend() {
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
    check("cvt.rn.bf16x2.f32", W, [W, W], &[([f(1.0), f(2.0)], 0x3f80_4000)]);
    check(
        "cvt.rna.tf32.f32",
        W,
        [W],
        &[([0x3f80_1000], 0x3f80_2000), ([0xbf80_1000], 0xbf80_2000), ([0x3f80_0fff], 0x3f80_0000)],
    );
    check("cvt.rn.f32.f64", W, [D], &[([d(0.1)], f(0.1)), ([d(1e300)], f(f32::INFINITY))]);
    check(
        "cvt.rzi.s32.f32",
        W,
        [W],
        &[([f(-2.9)], i(-2)), ([f(3e9)], i(i32::MAX)), ([f(-3e9)], i(i32::MIN)), ([NAN], 0)],
    );
    check("cvt.rzi.u32.f32", W, [W], &[([f(-2.9)], 0), ([f(5e9)], ONES)]);
    check("cvt.rzi.s64.f64", D, [D], &[([d(-1e30)], l(i64::MIN)), ([d(-2.5)], l(-2))]);
    check(
        "cvt.sat.f32.f32",
        W,
        [W],
        &[([f(2.5)], f(1.0)), ([f(-0.2)], 0), ([NAN], 0), ([f(0.5)], f(0.5))],
    );
    check("cvt.rn.f32.s32", W, [W], &[([i(-16_777_217)], f(-16_777_216.0))]);
    check("cvt.rn.f32.u64", W, [D], &[([u64::MAX], f(1.844_674_4e19))]);
    check("cvt.rn.f64.s64", D, [D], &[([l((1 << 53) + 1)], d(9_007_199_254_740_992.0))]);
    check("cvt.s64.s32", D, [W], &[([i(-5)], l(-5))]);
    check("cvt.u64.u16", D, [H], &[([0xffff], 0xffff)]);
    check("cvt.u16.u64", H, [D], &[([0x1_2345], 0x2345)]);
    check("cvt.rn.f64.u16", D, [H], &[([0xffff], d(65535.0))]);
    check("cvt.rzi.u32.f64", W, [D], &[([d(-2.5)], 0), ([d(1e10)], ONES), ([d(7.9)], 7)]);
    check("cvt.rzi.f32.f32", W, [W], &[([f(-2.5)], f(-2.0)), ([f(0.2)], 0)]);
    check("cvt.u64.u32", D, [W], &[([i(-5)], 0xffff_fffb)]);
}

#[test]
fn approximations_have_the_manual_s_special_values() {
    let (inf, ninf) = (f(f32::INFINITY), f(f32::NEG_INFINITY));
    check(
        "ex2.approx.ftz.f32",
        W,
        [W],
        &[
            ([ninf], 0),
            ([f(-0.0)], f(1.0)),
            ([inf], inf),
            ([NAN], NAN),
            ([f(3.0)], f(8.0)),
            ([f(-140.0)], 0),
            ([f(0.5)], f(2f32.sqrt())),
            ([f(200.0)], inf),
        ],
    );
    check(
        "rcp.approx.ftz.f32",
        W,
        [W],
        &[
            ([ninf], f(-0.0)),
            ([f(-0.0)], ninf),
            ([0], inf),
            ([inf], 0),
            ([NAN], NAN),
            ([f(4.0)], f(0.25)),
            ([1], inf),
            ([f(3e38)], 0),
        ],
    );
}
