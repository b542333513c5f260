//! Integers, bits, moves and predicates: single instructions against results that are known from
//! the PTX ISA manual or by hand.

use crate::single::{D, H, NAN, ONES, P, W, check, check_body, d, f, i, l};

#[test]
fn integer_arithmetic_wraps_and_saturates() {
    check("add.s32", W, [W, W], &[([ONES, 2], 1), ([i(i32::MAX), 1], 0x8000_0000)]);
    check("add.sat.s32", W, [W, W], &[([i(i32::MAX), 1], i(i32::MAX)), ([i(-5), i(3)], i(-2))]);
    check("sub.sat.s32", W, [W, W], &[([i(i32::MIN), 1], i(i32::MIN))]);
    check("sub.u64", D, [D, D], &[([0, 1], u64::MAX)]);
    check("add.u16", H, [H, H], &[([0xffff, 3], 2)]);
    check("mul.lo.s32", W, [W, W], &[([i(-3), i(7)], i(-21)), ([0x1_0001, 0x1_0001], 0x2_0001)]);
    check("mul.hi.s32", W, [W, W], &[([i(-3), i(7)], ONES), ([i(i32::MIN), i(i32::MIN)], 1 << 30)]);
    check("mul.hi.u32", W, [W, W], &[([ONES, ONES], ONES - 1)]);
    check("mul.hi.u64", D, [D, D], &[([u64::MAX, u64::MAX], u64::MAX - 1)]);
    check("mul.hi.s64", D, [D, D], &[([l(-1), l(5)], u64::MAX)]);
    check("mul.wide.s32", D, [W, W], &[([i(-3), i(7)], l(-21)), ([i(i32::MIN), 2], l(-1 << 32))]);
    check("mul.wide.u16", W, [H, H], &[([0xffff, 0xffff], 0xfffe_0001)]);
    check("mul.wide.s16", W, [H, H], &[([0xffff, 3], i(-3))]);
    check("mul24.lo.u32", W, [W, W], &[([0xff00_0003, 5], 15)]);
    check("mul24.hi.s32", W, [W, W], &[([0x00ff_ffff, 0x10000], ONES)]);
    check("mad.lo.s32", W, [W, W, W], &[([i(-3), 7, 22], 1)]);
    check("mad.wide.u32", D, [W, W, D], &[([ONES, 2, 3], 0x2_0000_0001)]);
    check("mad.hi.u32", W, [W, W, W], &[([ONES, ONES, 2], 0)]);
    check(
        "mad.hi.sat.s32",
        W,
        [W, W, W],
        &[([i(i32::MAX), i(i32::MAX), i(i32::MAX)], i(i32::MAX))],
    );
    check("sad.s32", W, [W, W, W], &[([i(-3), 4, 10], 17)]);
    check(
        "div.s32",
        W,
        [W, W],
        &[([i(-7), 2], i(-3)), ([i(i32::MIN), ONES], i(i32::MIN)), ([3, 0], ONES)],
    );
    check("rem.s32", W, [W, W], &[([i(-7), 2], i(-1)), ([i(i32::MIN), ONES], 0)]);
    check("div.u32", W, [W, W], &[([ONES, 2], 0x7fff_ffff), ([3, 0], ONES)]);
    check("rem.u64", D, [D, D], &[([u64::MAX, 10], 5)]);
    check("div.s64", D, [D, D], &[([l(-7), l(2)], l(-3))]);
    check("min.s32", W, [W, W], &[([i(-7), 2], i(-7))]);
    check("min.u32", W, [W, W], &[([i(-7), 2], 2)]);
    check("max.s16", H, [H, H], &[([0xffff, 2], 2)]);
    check("abs.s32", W, [W], &[([i(-7)], 7), ([i(i32::MIN)], i(i32::MIN))]);
    check("neg.s64", D, [D], &[([5], l(-5))]);
    check("dp4a.s32.s32", W, [W, W, W], &[([0xff02_0304, 0x0101_01ff, 100], 100 - 4 + 3 + 2 - 1)]);
    check("dp4a.u32.s32", W, [W, W, W], &[([0xff00_0000, 0xff00_0000, 0], i(-255))]);
}

#[test]
fn carries_run_through_a_chain() {
    let body = "{ .reg .b32 al, ah, bl, bh; mov.b64 {al, ah}, a; mov.b64 {bl, bh}, b;\n\
                add.cc.u32 al, al, bl; addc.u32 ah, ah, bh; mov.b64 d, {al, ah}; }";
    let cases = [
        ([0xffff_ffff, 1], 1 << 32),
        ([u64::MAX, 1], 0),
        ([0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321], 0x2222_2222_2222_2211),
    ];
    check_body(body, D, [D, D], &cases);
    let body = body.replace("add.cc", "sub.cc").replace("addc", "subc");
    check_body(&body, D, [D, D], &[([1 << 32, 1], ONES), ([0, 1], u64::MAX)]);
    // 64 × 64 bits from parts of 32.
    let body = "{ .reg .b32 al, ah, bl, bh, r0, r1, r2, r3; mov.b64 {al, ah}, a;\n\
                mov.b64 {bl, bh}, b; mul.lo.u32 r0, al, bl; mul.hi.u32 r1, al, bl;\n\
                mad.lo.cc.u32 r1, ah, bl, r1; madc.hi.u32 r2, ah, bl, 0;\n\
                mad.lo.cc.u32 r1, al, bh, r1; madc.hi.cc.u32 r2, al, bh, r2; addc.u32 r3, 0, 0;\n\
                mad.lo.cc.u32 r2, ah, bh, r2; madc.hi.u32 r3, ah, bh, r3; mov.b64 d, {r2, r3}; }";
    let cases = [[u64::MAX, u64::MAX], [0x1234_5678_9abc_def0, 0xfedc_ba98_7654_3210], [3, 5]];
    let product = |[a, b]: [u64; 2]| ([a, b], ((u128::from(a) * u128::from(b)) >> 64) as u64);
    check_body(body, D, [D, D], &cases.map(product));
}

#[test]
fn bits_are_moved_counted_and_chosen() {
    check("shl.b32", W, [W, W], &[([1, 31], 1 << 31), ([1, 32], 0), ([1, ONES], 0)]);
    check("shr.s32", W, [W, W], &[([i(-8), 1], i(-4)), ([i(-8), 40], ONES)]);
    check("shr.u64", D, [D, W], &[([u64::MAX, 63], 1), ([u64::MAX, 64], 0)]);
    check("shr.s16", H, [H, W], &[([0x8000, 3], 0xf000)]);
    check("shf.l.wrap.b32", W, [W, W, W], &[([0x8765_4321, 0x1234_5678, 36], 0x2345_6788)]);
    check("shf.l.clamp.b32", W, [W, W, W], &[([0x8765_4321, 0x1234_5678, 36], 0x8765_4321)]);
    check("shf.r.wrap.b32", W, [W, W, W], &[([0x8765_4321, 0x1234_5678, 8], 0x7887_6543)]);
    check("shf.r.clamp.b32", W, [W, W, W], &[([0x8765_4321, 0x1234_5678, 99], 0x1234_5678)]);
    check(
        "bfe.u32",
        W,
        [W, W, W],
        &[
            ([0x1234_5678, 8, 12], 0x456),
            ([0x1234_5678, 28, 12], 1),
            ([ONES, 40, 3], 0),
            ([ONES, 4, 0], 0),
            ([ONES, 0, 32], ONES),
        ],
    );
    check(
        "bfe.s32",
        W,
        [W, W, W],
        &[
            ([0x0000_0f00, 8, 4], ONES),
            ([0x0000_0700, 8, 4], 7),
            ([0x8000_0000, 28, 12], 0xffff_fff8),
            ([0x8000_0000, 40, 3], ONES),
            ([ONES, 4, 0], 0),
        ],
    );
    check("bfe.s64", D, [D, W, W], &[([0xf0, 4, 4], u64::MAX), ([0x70, 4, 4], 7)]);
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
    check("popc.b64", W, [D], &[([u64::MAX], 64)]);
    check("clz.b32", W, [W], &[([0], 32), ([1], 31)]);
    check("brev.b32", W, [W], &[([0x0000_0003], 0xc000_0000)]);
    check("bfind.u32", W, [W], &[([0], ONES), ([0x10], 4)]);
    check("bfind.s32", W, [W], &[([ONES], ONES), ([0xffff_fff0], 3)]);
    check("bfind.shiftamt.u32", W, [W], &[([0], ONES), ([0x10], 27)]);
    check("not.b16", H, [H], &[([0xff], 0xff00)]);
    check("cnot.b32", W, [W], &[([0], 1), ([7], 0)]);
    check_body("lop3.b32 d, a, b, c, 0x96;", W, [W, W, W], &[([0xf0, 0xcc, 0xaa], 0x96)]);
    check_body("lop3.b32 d, a, b, c, 0xe8;", W, [W, W, W], &[([0xf0, 0xcc, 0xaa], 0xe8)]);
    check(
        "prmt.b32",
        W,
        [W, W, W],
        &[
            ([0x3322_1100, 0x7766_5544, 0x7410], 0x7744_1100),
            ([0x3322_1180, 0x7766_5544, 0x0008], 0x8080_80ff),
        ],
    );
    check("prmt.b32.f4e", W, [W, W, W], &[([0x3322_1100, 0x7766_5544, 1], 0x4433_2211)]);
    check("prmt.b32.b4e", W, [W, W, W], &[([0x3322_1100, 0x7766_5544, 1], 0x6677_0011)]);
    check("prmt.b32.rc8", W, [W, W, W], &[([0x3322_1100, 0, 2], 0x2222_2222)]);
    check("prmt.b32.ecl", W, [W, W, W], &[([0x3322_1100, 0, 2], 0x3322_2222)]);
    check("prmt.b32.ecr", W, [W, W, W], &[([0x3322_1100, 0, 2], 0x2222_1100)]);
    check("prmt.b32.rc16", W, [W, W, W], &[([0x3322_1100, 0, 1], 0x3322_3322)]);
}

#[test]
fn moves_select_pack_and_take_apart() {
    check("selp.b32", W, [W, W, P], &[([1, 2, 1], 1), ([1, 2, 0], 2)]);
    check("slct.b32.s32", W, [W, W, W], &[([1, 2, 0], 1), ([1, 2, i(-1)], 2)]);
    check("slct.u64.f32", D, [D, D, W], &[([1, 2, f(-0.0)], 1), ([1, 2, NAN], 2)]);
    check_body("mov.b32 d, {a, b};", W, [H, H], &[([0x1111, 0x2222], 0x2222_1111)]);
    check_body("mov.b64 d, {a, b};", D, [W, W], &[([1, 2], 0x2_0000_0001)]);
    check_body("mov.b64 d, {a, b, a, b};", D, [H, H], &[([1, 2], 0x0002_0001_0002_0001)]);
    check_body(
        "{ .reg .b16 x, y; mov.b32 {x, y}, a; mov.b32 d, {y, x}; }",
        W,
        [W],
        &[([0x1234_5678], 0x5678_1234)],
    );
    check_body(
        "{ .reg .b32 x; mov.b64 {_, x}, a; mov.b32 d, x; }",
        W,
        [D],
        &[([0x1_0000_0002], 1)],
    );
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
    check("setp.hs.u32", P, [W, W], &[([1, 1], 1)]);
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
        let brain = |bits: u64| bits >> 16;
        check(
            &format!("setp.{name}.bf16"),
            P,
            [H, H],
            &cases.map(|([a, b], wanted)| ([brain(a), brain(b)], wanted)),
        );
    }
    check_body(
        "setp.lt.and.s32 d, a, b, c;",
        P,
        [W, W, P],
        &[([1, 2, 1], 1), ([1, 2, 0], 0), ([2, 1, 1], 0)],
    );
    check_body("setp.lt.or.s32 d, a, b, !c;", P, [W, W, P], &[([2, 1, 0], 1), ([2, 1, 1], 0)]);
    check_body("setp.lt.xor.s32 %p1|d, a, b, c;", P, [W, W, P], &[([1, 2, 1], 1), ([1, 2, 0], 0)]);
    check_body("setp.lt.s32 d|%p1, a, b;", P, [W, W], &[([1, 2], 1)]);
    check_body("setp.lt.s32 %p1|d, a, b;", P, [W, W], &[([1, 2], 0), ([2, 1], 1)]);
    check("setp.eq.ftz.f32", P, [W, W], &[([1, 0x8000_0000], 1)]);
    check("set.gt.u32.f32", W, [W, W], &[([f(2.0), f(1.0)], ONES), ([nan, f(1.0)], 0)]);
    check("set.ne.f32.s32", W, [W, W], &[([1, 2], f(1.0)), ([2, 2], 0)]);
    check("set.lt.and.s32.s32", W, [W, W, P], &[([1, 2, 0], 0), ([1, 2, 1], ONES)]);
    check("and.pred", P, [P, P], &[([1, 1], 1), ([1, 0], 0)]);
    check("not.pred", P, [P], &[([0], 1)]);
    check("testp.subnormal.f32", P, [W], &[([1], 1), ([f(1.0)], 0)]);
    check("testp.notanumber.f64", P, [D], &[([d(f64::NAN)], 1)]);
    check("testp.infinite.f32", P, [W], &[([f(f32::NEG_INFINITY)], 1)]);
}
