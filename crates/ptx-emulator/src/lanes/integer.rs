//! Integer arithmetic. Division by zero, which PTX leaves open, gives all ones as devices do.

use super::{Table, lane};

pub(super) fn fill(table: &mut Table) {
    macro_rules! width {
        ($unsigned:ty, $signed:ty, $u:literal, $s:literal) => {
            lane!(table, [concat!("add.", $u), concat!("add.", $s)], |a: $unsigned,
                                                                      b: $unsigned|
             -> $unsigned {
                a.wrapping_add(b)
            });
            lane!(table, [concat!("sub.", $u), concat!("sub.", $s)], |a: $unsigned,
                                                                      b: $unsigned|
             -> $unsigned {
                a.wrapping_sub(b)
            });
            lane!(table, [concat!("mul.lo.", $u), concat!("mul.lo.", $s)], |a: $unsigned,
                                                                            b: $unsigned|
             -> $unsigned {
                a.wrapping_mul(b)
            });
            lane!(table, [concat!("mad.lo.", $u), concat!("mad.lo.", $s)], |a: $unsigned,
                                                                            b: $unsigned,
                                                                            c: $unsigned|
             -> $unsigned {
                a.wrapping_mul(b).wrapping_add(c)
            });
            lane!(table, [concat!("div.", $u)], |a: $unsigned, b: $unsigned| -> $unsigned {
                a.checked_div(b).unwrap_or(!0)
            });
            lane!(table, [concat!("rem.", $u)], |a: $unsigned, b: $unsigned| -> $unsigned {
                a.checked_rem(b).unwrap_or(a)
            });
            lane!(table, [concat!("neg.", $s)], |a: $signed| -> $signed { a.wrapping_neg() });
            lane!(table, [concat!("min.", $u)], |a: $unsigned, b: $unsigned| -> $unsigned {
                a.min(b)
            });
            lane!(table, [concat!("max.", $u)], |a: $unsigned, b: $unsigned| -> $unsigned {
                a.max(b)
            });
            lane!(table, [concat!("min.", $s)], |a: $signed, b: $signed| -> $signed { a.min(b) });
            lane!(table, [concat!("max.", $s)], |a: $signed, b: $signed| -> $signed { a.max(b) });
        };
    }
    width!(u16, i16, "u16", "s16");
    width!(u32, i32, "u32", "s32");
    width!(u64, i64, "u64", "s64");
    lane!(table, ["mul.hi.u32"], |a: u32, b: u32| -> u32 {
        ((u64::from(a) * u64::from(b)) >> 32) as u32
    });
    lane!(table, ["mul.wide.u16"], |a: u16, b: u16| -> u32 { u32::from(a) * u32::from(b) });
    lane!(table, ["mul.wide.u32"], |a: u32, b: u32| -> u64 { u64::from(a) * u64::from(b) });
    lane!(table, ["mul.wide.s32"], |a: i32, b: i32| -> i64 { i64::from(a) * i64::from(b) });
    lane!(table, ["mad.wide.u32"], |a: u32, b: u32, c: u64| -> u64 {
        (u64::from(a) * u64::from(b)).wrapping_add(c)
    });
}
