//! Integers, bits, moves and predicates: single instructions against results that are known from
//! the PTX ISA manual or by hand.

use crate::single::{D, H, ONES, P, W, check, check_body, d, f, i, l};

#[test]
fn integer_arithmetic_wraps() {
    check("add.s32", W, [W, W], &[([ONES, 2], 1), ([i(i32::MAX), 1], 0x8000_0000)]);
    check("sub.u64", D, [D, D], &[([0, 1], u64::MAX)]);
    check("add.u16", H, [H, H], &[([0xffff, 3], 2)]);
    check("mul.lo.s32", W, [W, W], &[([i(-3), i(7)], i(-21)), ([0x1_0001, 0x1_0001], 0x2_0001)]);
    check("mul.hi.u32", W, [W, W], &[([ONES, ONES], ONES - 1)]);
    check("mul.wide.s32", D, [W, W], &[([i(-3), i(7)], l(-21)), ([i(i32::MIN), 2], l(-1 << 32))]);
    check("mul.wide.u16", W, [H, H], &[([0xffff, 0xffff], 0xfffe_0001)]);
    check("mad.lo.s32", W, [W, W, W], &[([i(-3), 7, 22], 1)]);
    check("mad.wide.u32", D, [W, W, D], &[([ONES, 2, 3], 0x2_0000_0001)]);
    check("div.u32", W, [W, W], &[([ONES, 2], 0x7fff_ffff), ([3, 0], ONES)]);
    check("rem.u64", D, [D, D], &[([u64::MAX, 10], 5)]);
    check("min.s32", W, [W, W], &[([i(-7), 2], i(-7))]);
    check("min.u32", W, [W, W], &[([i(-7), 2], 2)]);
    check("max.s16", H, [H, H], &[([0xffff, 2], 2)]);
    check("neg.s64", D, [D], &[([5], l(-5))]);
}

#[test]
fn bits_are_moved_and_chosen() {
    check("shl.b32", W, [W, W], &[([1, 31], 1 << 31), ([1, 32], 0), ([1, ONES], 0)]);
    check("shr.s32", W, [W, W], &[([i(-8), 1], i(-4)), ([i(-8), 40], ONES)]);
    check("shr.u64", D, [D, W], &[([u64::MAX, 63], 1), ([u64::MAX, 64], 0)]);
    check("shr.s16", H, [H, W], &[([0x8000, 3], 0xf000)]);
    check(
        "bfi.b32",
        W,
        [W, W, W, W],
        &[
            ([0xab, ONES, 8, 8], 0xffff_abff),
            ([0xab, ONES, 28, 8], 0xbfff_ffff),
            ([0xab, ONES, 32, 8], ONES),
            ([0xab, ONES, 8, 0], ONES),
        ],
    );
    check("bfi.b64", D, [D, D, W, W], &[([0xab, 0, 60, 8], 0xb << 60), ([5, u64::MAX, 0, 64], 5)]);
    check("xor.b64", D, [D, D], &[([0xff00, 0x0ff0], 0xf0f0)]);
    check("or.b16", H, [H, H], &[([0xff00, 0x0ff0], 0xfff0)]);
    check("not.b16", H, [H], &[([0xff], 0xff00)]);
}

#[test]
fn moves_select_and_pack() {
    check("selp.b32", W, [W, W, P], &[([1, 2, 1], 1), ([1, 2, 0], 2)]);
    check_body("mov.b32 d, {a, b};", W, [H, H], &[([0x1111, 0x2222], 0x2222_1111)]);
    check_body("{ .reg .pred q; mov.pred q, -1; mov.pred d, q; }", P, [P], &[([0], 1)]);
    check_body("mov.b32 d, 0fBF800000;", W, [W], &[([0], f(-1.0))]);
    check_body("mov.f64 d, 0d3FF0000000000000;", D, [W], &[([0], d(1.0))]);
    check_body("mov.u32 d, -1;", W, [W], &[([0], ONES)]);
    check_body("mov.b64 d, 0xffffffffffffffff;", D, [W], &[([0], u64::MAX)]);
}

#[test]
fn predicates_are_compared_and_combined() {
    check("setp.lt.s32", P, [W, W], &[([i(-1), 1], 1), ([1, i(-1)], 0)]);
    check("setp.lt.u32", P, [W, W], &[([i(-1), 1], 0)]);
    check("setp.ge.s64", P, [D, D], &[([l(-1), l(-1)], 1)]);
    check("setp.eq.b16", P, [H, H], &[([5, 5], 1)]);
    let nan = f(f32::NAN);
    for (name, equal, less, unordered) in [
        ("eq", 1, 0, 0),
        ("ne", 0, 1, 0),
        ("lt", 0, 1, 0),
        ("le", 1, 1, 0),
        ("gt", 0, 0, 0),
        ("ge", 1, 0, 0),
        ("equ", 1, 0, 1),
        ("neu", 0, 1, 1),
        ("ltu", 0, 1, 1),
        ("leu", 1, 1, 1),
        ("gtu", 0, 0, 1),
        ("geu", 1, 0, 1),
        ("num", 1, 1, 0),
        ("nan", 0, 0, 1),
    ] {
        let one = f(1.0);
        let cases = [
            ([one, one], equal),
            ([f(-1.0), one], less),
            ([nan, one], unordered),
            ([one, nan], unordered),
        ];
        check(&format!("setp.{name}.f32"), P, [W, W], &cases);
        let wide = |bits: u64| d(f64::from(f32::from_bits(bits as u32)));
        check(
            &format!("setp.{name}.f64"),
            P,
            [D, D],
            &cases.map(|([a, b], wanted)| ([wide(a), wide(b)], wanted)),
        );
    }
    check("and.pred", P, [P, P], &[([1, 1], 1), ([1, 0], 0)]);
    check("not.pred", P, [P], &[([0], 1)]);
}
