//! Logic, shifts and bit fields.

use super::{Entry, Table, lane, versions};
use crate::types::Kind;

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

pub(super) fn fill(table: &mut Table) {
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
    shifts(table);
    fields(table);
}

/// Shifts by more than the width give zeros, or copies of the sign.
fn shifts(table: &mut Table) {
    macro_rules! shifts {
        ($unsigned:ty, $signed:ty, $bits:literal) => {
            lane!(table, [concat!("shl.b", $bits)], |a: $unsigned, b: u32| -> $unsigned {
                if b >= $bits { 0 } else { a << (b & ($bits - 1)) }
            });
            lane!(table, [concat!("shr.u", $bits)], |a: $unsigned, b: u32| -> $unsigned {
                if b >= $bits { 0 } else { a >> (b & ($bits - 1)) }
            });
            lane!(table, [concat!("shr.s", $bits)], |a: $signed, b: u32| -> $signed {
                a >> b.min($bits - 1)
            });
        };
    }
    shifts!(u16, i16, 16);
    shifts!(u32, i32, 32);
    shifts!(u64, i64, 64);
}

fn fields(table: &mut Table) {
    macro_rules! insert {
        ($type:ty, $name:literal) => {
            lane!(table, [$name], |a: $type, b: $type, c: u32, e: u32| -> $type {
                let (position, length) = (c & 255, e & 255);
                if position >= <$type>::BITS {
                    return b;
                }
                let field = low_ones::<{ <$type>::BITS }>(length) as $type;
                let field = field << position;
                (b & !field) | (a << position & field)
            });
        };
    }
    insert!(u32, "bfi.b32");
    insert!(u64, "bfi.b64");
}

/// A number with that many ones at its lower end, at most `WIDTH`.
#[inline(always)]
fn low_ones<const WIDTH: u32>(count: u32) -> u64 {
    if count >= WIDTH { !0 >> (64 - WIDTH) } else { (1 << count) - 1 }
}
