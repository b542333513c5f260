//! Logic, shifts, bit fields, permutations of bytes, and counts of bits.

use super::{Entry, Table, lane, versions};
use crate::types::Kind;

pub(super) fn fill(table: &mut Table) {
    logic(table);
    shifts(table);
    fields(table);
    counts(table);
    permutations(table);
}

/// Predicates are masks of lanes: one operation serves all of them.
macro_rules! masks {
    ($table:ident, $name:literal, $inputs:literal, |$a:ident, $b:ident| $body:expr) => {{
        let versions = versions!(|registers, slots, mask| {
            let $a = registers.predicate(slots.a);
            let $b = registers.predicate(slots.b);
            registers.set_predicate(slots.d, $body, mask);
        });
        let inputs = &[Kind::Predicate; $inputs];
        $table.add(&[$name], Entry { result: Kind::Predicate, inputs, versions });
    }};
}

fn logic(table: &mut Table) {
    macro_rules! logic {
        ($type:ty, $name:literal) => {
            lane!(table, [concat!("and.", $name)], |a: $type, b: $type| -> $type { a & b });
            lane!(table, [concat!("or.", $name)], |a: $type, b: $type| -> $type { a | b });
            lane!(table, [concat!("xor.", $name)], |a: $type, b: $type| -> $type { a ^ b });
            lane!(table, [concat!("not.", $name)], |a: $type| -> $type { !a });
        };
    }
    logic!(u16, "b16");
    logic!(u32, "b32");
    logic!(u64, "b64");
    masks!(table, "and.pred", 2, |a, b| a & b);
    masks!(table, "or.pred", 2, |a, b| a | b);
    masks!(table, "xor.pred", 2, |a, b| a ^ b);
    masks!(table, "not.pred", 1, |a, _b| !a);
    masks!(table, "mov.pred", 1, |a, _b| a);
    lane!(table, ["cnot.b16"], |a: u16| -> u16 { u16::from(a == 0) });
    lane!(table, ["cnot.b32"], |a: u32| -> u32 { u32::from(a == 0) });
    lane!(table, ["cnot.b64"], |a: u64| -> u64 { u64::from(a == 0) });
    // The fourth operand is the truth table: its bit 4a + 2b + c is the result for those bits.
    lane!(table, ["lop3.b32"], |a: u32, b: u32, c: u32, lut: u32| -> u32 {
        let mut result = 0;
        for row in 0..8 {
            let (x, y, z) = (sign(row & 4 != 0), sign(row & 2 != 0), sign(row & 1 != 0));
            let wanted = 0u32.wrapping_sub(lut >> row & 1);
            result |= !(a ^ x) & !(b ^ y) & !(c ^ z) & wanted;
        }
        result
    });
}

/// All ones for true.
#[inline(always)]
fn sign(bit: bool) -> u32 {
    0u32.wrapping_sub(u32::from(bit))
}

/// Shifts by more than the width give zeros, or copies of the sign.
fn shifts(table: &mut Table) {
    lane!(table, ["shl.b16"], |a: u16, b: u32| -> u16 { if b > 15 { 0 } else { a << b } });
    lane!(table, ["shl.b32"], |a: u32, b: u32| -> u32 { if b > 31 { 0 } else { a << (b & 31) } });
    lane!(table, ["shl.b64"], |a: u64, b: u32| -> u64 { if b > 63 { 0 } else { a << (b & 63) } });
    lane!(table, ["shr.u16", "shr.b16"], |a: u16, b: u32| -> u16 {
        if b > 15 { 0 } else { a >> b }
    });
    lane!(table, ["shr.u32", "shr.b32"], |a: u32, b: u32| -> u32 {
        if b > 31 { 0 } else { a >> (b & 31) }
    });
    lane!(table, ["shr.u64", "shr.b64"], |a: u64, b: u32| -> u64 {
        if b > 63 { 0 } else { a >> (b & 63) }
    });
    lane!(table, ["shr.s16"], |a: i16, b: u32| -> i16 { a >> b.min(15) });
    lane!(table, ["shr.s32"], |a: i32, b: u32| -> i32 { a >> b.min(31) });
    lane!(table, ["shr.s64"], |a: i64, b: u32| -> i64 { a >> b.min(63) });
    lane!(table, ["shf.l.wrap.b32"], |a: u32, b: u32, c: u32| -> u32 {
        (joined(a, b) << (c & 31) >> 32) as u32
    });
    lane!(table, ["shf.l.clamp.b32"], |a: u32, b: u32, c: u32| -> u32 {
        (joined(a, b) << c.min(32) >> 32) as u32
    });
    lane!(table, ["shf.r.wrap.b32"], |a: u32, b: u32, c: u32| -> u32 {
        (joined(a, b) >> (c & 31)) as u32
    });
    lane!(table, ["shf.r.clamp.b32"], |a: u32, b: u32, c: u32| -> u32 {
        (joined(a, b) >> c.min(32)) as u32
    });
}

#[inline(always)]
fn joined(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn fields(table: &mut Table) {
    macro_rules! fields {
        ($unsigned:ty, $signed:ty, $u:literal, $s:literal, $b:literal) => {
            lane!(table, [concat!("bfe.", $u)], |a: $unsigned, b: u32, c: u32| -> $unsigned {
                let (position, length) = (b & 255, c & 255);
                let shifted = if position < <$unsigned>::BITS { a >> position } else { 0 };
                shifted & low_ones::<{ <$unsigned>::BITS }>(length) as $unsigned
            });
            lane!(table, [concat!("bfe.", $s)], |a: $signed, b: u32, c: u32| -> $signed {
                let (position, length) = (b & 255, c & 255);
                if length == 0 {
                    return 0;
                }
                let top = (position + length - 1).min(<$signed>::BITS - 1);
                let negative = a >> top & 1 != 0;
                let shifted = a >> position.min(<$signed>::BITS - 1);
                let kept = low_ones::<{ <$signed>::BITS }>(top + 1 - position.min(top + 1));
                let kept = kept as $signed;
                (shifted & kept) | if negative { !kept } else { 0 }
            });
            lane!(table, [concat!("bfi.", $b)], |a: $unsigned,
                                                 b: $unsigned,
                                                 c: u32,
                                                 e: u32|
             -> $unsigned {
                let (position, length) = (c & 255, e & 255);
                if position >= <$unsigned>::BITS {
                    return b;
                }
                let field = low_ones::<{ <$unsigned>::BITS }>(length) as $unsigned;
                let field = field << position;
                (b & !field) | (a << position & field)
            });
        };
    }
    fields!(u32, i32, "u32", "s32", "b32");
    fields!(u64, i64, "u64", "s64", "b64");
    lane!(table, ["bmsk.clamp.b32"], |a: u32, b: u32| -> u32 {
        if a > 31 { 0 } else { (low_ones::<32>(b) as u32) << a }
    });
    lane!(table, ["bmsk.wrap.b32"], |a: u32, b: u32| -> u32 {
        (low_ones::<32>(b & 31) as u32) << (a & 31)
    });
}

/// A number with that many ones at its lower end, at most `WIDTH`.
#[inline(always)]
fn low_ones<const WIDTH: u32>(count: u32) -> u64 {
    if count >= WIDTH { !0 >> (64 - WIDTH) } else { (1 << count) - 1 }
}

fn counts(table: &mut Table) {
    lane!(table, ["popc.b32"], |a: u32| -> u32 { a.count_ones() });
    lane!(table, ["popc.b64"], |a: u64| -> u32 { a.count_ones() });
    lane!(table, ["clz.b32"], |a: u32| -> u32 { a.leading_zeros() });
    lane!(table, ["clz.b64"], |a: u64| -> u32 { a.leading_zeros() });
    lane!(table, ["brev.b32"], |a: u32| -> u32 { a.reverse_bits() });
    lane!(table, ["brev.b64"], |a: u64| -> u64 { a.reverse_bits() });
    // The position of the highest bit that is not the sign's, or how far it is from the top.
    lane!(table, ["bfind.u32"], |a: u32| -> u32 { 31u32.wrapping_sub(a.leading_zeros()) });
    lane!(table, ["bfind.u64"], |a: u64| -> u32 { 63u32.wrapping_sub(a.leading_zeros()) });
    lane!(table, ["bfind.s32"], |a: i32| -> u32 {
        31u32.wrapping_sub((a ^ a >> 31).leading_zeros())
    });
    lane!(table, ["bfind.s64"], |a: i64| -> u32 {
        63u32.wrapping_sub((a ^ a >> 63).leading_zeros())
    });
    lane!(table, ["bfind.shiftamt.u32"], |a: u32| -> u32 { distance(a.leading_zeros(), 32) });
    lane!(table, ["bfind.shiftamt.u64"], |a: u64| -> u32 { distance(a.leading_zeros(), 64) });
    lane!(table, ["bfind.shiftamt.s32"], |a: i32| -> u32 {
        distance((a ^ a >> 31).leading_zeros(), 32)
    });
    lane!(table, ["bfind.shiftamt.s64"], |a: i64| -> u32 {
        distance((a ^ a >> 63).leading_zeros(), 64)
    });
}

/// All ones where no bit was found.
#[inline(always)]
fn distance(zeros: u32, width: u32) -> u32 {
    if zeros == width { !0 } else { zeros }
}

/// `prmt`: four bytes chosen among the eight of two registers.
fn permutations(table: &mut Table) {
    lane!(table, ["prmt.b32"], |a: u32, b: u32, c: u32| -> u32 {
        choose(a, b, [c, c >> 4, c >> 8, c >> 12])
    });
    lane!(table, ["prmt.b32.f4e"], |a: u32, b: u32, c: u32| -> u32 {
        let c = c & 3;
        choose(a, b, [c, c + 1, c + 2, c + 3])
    });
    lane!(table, ["prmt.b32.b4e"], |a: u32, b: u32, c: u32| -> u32 {
        let c = c & 3;
        choose(a, b, [c, (c + 7) & 7, (c + 6) & 7, (c + 5) & 7])
    });
    lane!(table, ["prmt.b32.rc8"], |a: u32, b: u32, c: u32| -> u32 { choose(a, b, [c & 3; 4]) });
    lane!(table, ["prmt.b32.ecl"], |a: u32, b: u32, c: u32| -> u32 {
        let c = c & 3;
        choose(a, b, [c, c.max(1), c.max(2), 3])
    });
    lane!(table, ["prmt.b32.ecr"], |a: u32, b: u32, c: u32| -> u32 {
        let c = c & 3;
        choose(a, b, [0, c.min(1), c.min(2), c])
    });
    lane!(table, ["prmt.b32.rc16"], |a: u32, b: u32, c: u32| -> u32 {
        let c = (c & 1) * 2;
        choose(a, b, [c, c + 1, c, c + 1])
    });
}

/// Bit 3 of a selector asks for copies of the byte's sign.
#[inline(always)]
fn choose(a: u32, b: u32, selectors: [u32; 4]) -> u32 {
    let bytes = joined(a, b);
    let mut result = 0;
    for (index, selector) in selectors.into_iter().enumerate() {
        let byte = (bytes >> ((selector & 7) * 8)) as u8;
        let byte = if selector & 8 != 0 { (byte as i8 >> 7) as u8 } else { byte };
        result |= u32::from(byte) << (8 * index);
    }
    result
}
