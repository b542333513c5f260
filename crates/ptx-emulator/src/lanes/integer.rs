//! Integer arithmetic. Division by zero, which PTX leaves open, gives all ones as devices do.

use super::{Lane, Table, lane, versions};
use crate::lanes::Entry;
use crate::registers::{BITS, LANES};

pub(super) fn fill(table: &mut Table) {
    add_and_subtract(table);
    multiply(table);
    multiply_and_add(table);
    divide(table);
    order(table);
    carry_chains(table);
    dot_products(table);
}

fn add_and_subtract(table: &mut Table) {
    lane!(table, ["add.u16", "add.s16"], |a: u16, b: u16| -> u16 { a.wrapping_add(b) });
    lane!(table, ["add.u32", "add.s32"], |a: u32, b: u32| -> u32 { a.wrapping_add(b) });
    lane!(table, ["add.u64", "add.s64"], |a: u64, b: u64| -> u64 { a.wrapping_add(b) });
    lane!(table, ["sub.u16", "sub.s16"], |a: u16, b: u16| -> u16 { a.wrapping_sub(b) });
    lane!(table, ["sub.u32", "sub.s32"], |a: u32, b: u32| -> u32 { a.wrapping_sub(b) });
    lane!(table, ["sub.u64", "sub.s64"], |a: u64, b: u64| -> u64 { a.wrapping_sub(b) });
    lane!(table, ["add.sat.s32"], |a: i32, b: i32| -> i32 { a.saturating_add(b) });
    lane!(table, ["sub.sat.s32"], |a: i32, b: i32| -> i32 { a.saturating_sub(b) });
    lane!(table, ["neg.s16"], |a: i16| -> i16 { a.wrapping_neg() });
    lane!(table, ["neg.s32"], |a: i32| -> i32 { a.wrapping_neg() });
    lane!(table, ["neg.s64"], |a: i64| -> i64 { a.wrapping_neg() });
    lane!(table, ["abs.s16"], |a: i16| -> i16 { a.wrapping_abs() });
    lane!(table, ["abs.s32"], |a: i32| -> i32 { a.wrapping_abs() });
    lane!(table, ["abs.s64"], |a: i64| -> i64 { a.wrapping_abs() });
}

fn multiply(table: &mut Table) {
    lane!(table, ["mul.lo.u16", "mul.lo.s16"], |a: u16, b: u16| -> u16 { a.wrapping_mul(b) });
    lane!(table, ["mul.lo.u32", "mul.lo.s32"], |a: u32, b: u32| -> u32 { a.wrapping_mul(b) });
    lane!(table, ["mul.lo.u64", "mul.lo.s64"], |a: u64, b: u64| -> u64 { a.wrapping_mul(b) });
    lane!(table, ["mul.hi.u16"], |a: u16, b: u16| -> u16 { high_u16(a, b) });
    lane!(table, ["mul.hi.s16"], |a: i16, b: i16| -> i16 { high_s16(a, b) });
    lane!(table, ["mul.hi.u32"], |a: u32, b: u32| -> u32 { high_u32(a, b) });
    lane!(table, ["mul.hi.s32"], |a: i32, b: i32| -> i32 { high_s32(a, b) });
    lane!(table, ["mul.hi.u64"], |a: u64, b: u64| -> u64 { high_u64(a, b) });
    lane!(table, ["mul.hi.s64"], |a: i64, b: i64| -> i64 { high_s64(a, b) });
    lane!(table, ["mul.wide.u16"], |a: u16, b: u16| -> u32 { u32::from(a) * u32::from(b) });
    lane!(table, ["mul.wide.s16"], |a: i16, b: i16| -> i32 { i32::from(a) * i32::from(b) });
    lane!(table, ["mul.wide.u32"], |a: u32, b: u32| -> u64 { u64::from(a) * u64::from(b) });
    lane!(table, ["mul.wide.s32"], |a: i32, b: i32| -> i64 { i64::from(a) * i64::from(b) });
    lane!(table, ["mul24.lo.u32"], |a: u32, b: u32| -> u32 { product_u24(a, b) as u32 });
    lane!(table, ["mul24.hi.u32"], |a: u32, b: u32| -> u32 { (product_u24(a, b) >> 16) as u32 });
    lane!(table, ["mul24.lo.s32"], |a: i32, b: i32| -> i32 { product_s24(a, b) as i32 });
    lane!(table, ["mul24.hi.s32"], |a: i32, b: i32| -> i32 { (product_s24(a, b) >> 16) as i32 });
}

fn multiply_and_add(table: &mut Table) {
    lane!(table, ["mad.lo.u16", "mad.lo.s16"], |a: u16, b: u16, c: u16| -> u16 {
        a.wrapping_mul(b).wrapping_add(c)
    });
    lane!(table, ["mad.lo.u32", "mad.lo.s32"], |a: u32, b: u32, c: u32| -> u32 {
        a.wrapping_mul(b).wrapping_add(c)
    });
    lane!(table, ["mad.lo.u64", "mad.lo.s64"], |a: u64, b: u64, c: u64| -> u64 {
        a.wrapping_mul(b).wrapping_add(c)
    });
    lane!(table, ["mad.hi.u32"], |a: u32, b: u32, c: u32| -> u32 {
        high_u32(a, b).wrapping_add(c)
    });
    lane!(table, ["mad.hi.s32"], |a: i32, b: i32, c: i32| -> i32 {
        high_s32(a, b).wrapping_add(c)
    });
    lane!(table, ["mad.hi.sat.s32"], |a: i32, b: i32, c: i32| -> i32 {
        high_s32(a, b).saturating_add(c)
    });
    lane!(table, ["mad.hi.u64"], |a: u64, b: u64, c: u64| -> u64 {
        high_u64(a, b).wrapping_add(c)
    });
    lane!(table, ["mad.hi.s64"], |a: i64, b: i64, c: i64| -> i64 {
        high_s64(a, b).wrapping_add(c)
    });
    lane!(table, ["mad.wide.u16"], |a: u16, b: u16, c: u32| -> u32 {
        (u32::from(a) * u32::from(b)).wrapping_add(c)
    });
    lane!(table, ["mad.wide.s16"], |a: i16, b: i16, c: i32| -> i32 {
        (i32::from(a) * i32::from(b)).wrapping_add(c)
    });
    lane!(table, ["mad.wide.u32"], |a: u32, b: u32, c: u64| -> u64 {
        (u64::from(a) * u64::from(b)).wrapping_add(c)
    });
    lane!(table, ["mad.wide.s32"], |a: i32, b: i32, c: i64| -> i64 {
        (i64::from(a) * i64::from(b)).wrapping_add(c)
    });
    lane!(table, ["mad24.lo.u32"], |a: u32, b: u32, c: u32| -> u32 {
        (product_u24(a, b) as u32).wrapping_add(c)
    });
    lane!(table, ["mad24.lo.s32"], |a: i32, b: i32, c: i32| -> i32 {
        (product_s24(a, b) as i32).wrapping_add(c)
    });
    lane!(table, ["sad.u32"], |a: u32, b: u32, c: u32| -> u32 { c.wrapping_add(a.abs_diff(b)) });
    lane!(table, ["sad.s32"], |a: i32, b: i32, c: u32| -> u32 { c.wrapping_add(a.abs_diff(b)) });
}

#[inline(always)]
fn high_u16(a: u16, b: u16) -> u16 {
    ((u32::from(a) * u32::from(b)) >> 16) as u16
}

#[inline(always)]
fn high_s16(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}

#[inline(always)]
fn high_u32(a: u32, b: u32) -> u32 {
    ((u64::from(a) * u64::from(b)) >> 32) as u32
}

#[inline(always)]
fn high_s32(a: i32, b: i32) -> i32 {
    ((i64::from(a) * i64::from(b)) >> 32) as i32
}

#[inline(always)]
fn high_u64(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

#[inline(always)]
fn high_s64(a: i64, b: i64) -> i64 {
    ((i128::from(a) * i128::from(b)) >> 64) as i64
}

/// The product of the low 24 bits.
#[inline(always)]
fn product_u24(a: u32, b: u32) -> u64 {
    u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)
}

#[inline(always)]
fn product_s24(a: i32, b: i32) -> i64 {
    i64::from(a << 8 >> 8) * i64::from(b << 8 >> 8)
}

fn divide(table: &mut Table) {
    macro_rules! unsigned {
        ($type:ty, $name:literal) => {
            lane!(table, [concat!("div.", $name)], |a: $type, b: $type| -> $type {
                a.checked_div(b).unwrap_or(!0)
            });
            lane!(table, [concat!("rem.", $name)], |a: $type, b: $type| -> $type {
                a.checked_rem(b).unwrap_or(a)
            });
        };
    }
    unsigned!(u16, "u16");
    unsigned!(u32, "u32");
    unsigned!(u64, "u64");
    macro_rules! signed {
        ($type:ty, $name:literal) => {
            lane!(table, [concat!("div.", $name)], |a: $type, b: $type| -> $type {
                if b == 0 { !0 } else { a.wrapping_div(b) }
            });
            lane!(table, [concat!("rem.", $name)], |a: $type, b: $type| -> $type {
                if b == 0 { a } else { a.wrapping_rem(b) }
            });
        };
    }
    signed!(i16, "s16");
    signed!(i32, "s32");
    signed!(i64, "s64");
}

fn order(table: &mut Table) {
    macro_rules! order {
        ($type:ty, $name:literal) => {
            lane!(table, [concat!("min.", $name)], |a: $type, b: $type| -> $type { a.min(b) });
            lane!(table, [concat!("max.", $name)], |a: $type, b: $type| -> $type { a.max(b) });
        };
    }
    order!(u16, "u16");
    order!(i16, "s16");
    order!(u32, "u32");
    order!(i32, "s32");
    order!(u64, "u64");
    order!(i64, "s64");
}

/// `add.cc`, `addc`, `sub.cc`, `subc`, `mad.cc`, `madc`: the carry of each lane is kept in the
/// warp's carry mask. For differences it means a borrow.
fn carry_chains(table: &mut Table) {
    macro_rules! chain {
        ($type:ty, [$($name:expr),+], $reads:literal, $writes:literal,
         |$a:ident, $b:ident, $c:ident, $carry:ident| $body:expr) => {{
            let versions = versions!(|registers, slots, mask| {
                let (a, b, c) = (
                    <$type as Lane>::row(registers, slots.a),
                    <$type as Lane>::row(registers, slots.b),
                    <$type as Lane>::row(registers, slots.c),
                );
                let before = if $reads { registers.carry } else { 0 };
                let mut result = <$type as Lane>::EMPTY;
                let mut after = 0;
                for lane in 0..LANES {
                    let $a = <$type as Lane>::get(a, lane);
                    let $b = <$type as Lane>::get(b, lane);
                    let $c = <$type as Lane>::get(c, lane);
                    let $carry = before & BITS[lane] != 0;
                    let (value, carries): ($type, bool) = $body;
                    <$type as Lane>::put(&mut result, lane, value);
                    after |= u32::from(carries) << lane;
                }
                <$type as Lane>::store(registers, slots.d, &result, mask);
                if $writes {
                    registers.carry = (registers.carry & !mask) | (after & mask);
                }
            });
            let kind = <$type as Lane>::KIND;
            // Sums take two operands; the third slot is then not read for its value.
            let inputs: &[_] = if [$($name),+][0].starts_with("mad") {
                &[<$type as Lane>::KIND; 3]
            } else {
                &[<$type as Lane>::KIND; 2]
            };
            table.add(&[$($name),+], Entry { result: kind, inputs, versions });
        }};
    }
    macro_rules! width {
        ($type:ty, $unsigned:literal, $signed:literal, $high:ident) => {
            chain!(
                $type,
                [concat!("add.cc.", $unsigned), concat!("add.cc.", $signed)],
                false,
                true,
                |a, b, _c, carry| add(a, b, carry)
            );
            chain!(
                $type,
                [concat!("addc.", $unsigned), concat!("addc.", $signed)],
                true,
                false,
                |a, b, _c, carry| add(a, b, carry)
            );
            chain!(
                $type,
                [concat!("addc.cc.", $unsigned), concat!("addc.cc.", $signed)],
                true,
                true,
                |a, b, _c, carry| add(a, b, carry)
            );
            chain!(
                $type,
                [concat!("sub.cc.", $unsigned), concat!("sub.cc.", $signed)],
                false,
                true,
                |a, b, _c, carry| subtract(a, b, carry)
            );
            chain!(
                $type,
                [concat!("subc.", $unsigned), concat!("subc.", $signed)],
                true,
                false,
                |a, b, _c, carry| subtract(a, b, carry)
            );
            chain!(
                $type,
                [concat!("subc.cc.", $unsigned), concat!("subc.cc.", $signed)],
                true,
                true,
                |a, b, _c, carry| subtract(a, b, carry)
            );
            chain!(
                $type,
                [concat!("mad.lo.cc.", $unsigned), concat!("mad.lo.cc.", $signed)],
                false,
                true,
                |a, b, c, carry| add(a.wrapping_mul(b), c, carry)
            );
            chain!(
                $type,
                [concat!("madc.lo.", $unsigned), concat!("madc.lo.", $signed)],
                true,
                false,
                |a, b, c, carry| add(a.wrapping_mul(b), c, carry)
            );
            chain!(
                $type,
                [concat!("madc.lo.cc.", $unsigned), concat!("madc.lo.cc.", $signed)],
                true,
                true,
                |a, b, c, carry| add(a.wrapping_mul(b), c, carry)
            );
            chain!($type, [concat!("mad.hi.cc.", $unsigned)], false, true, |a, b, c, carry| add(
                $high(a, b),
                c,
                carry
            ));
            chain!($type, [concat!("madc.hi.", $unsigned)], true, false, |a, b, c, carry| add(
                $high(a, b),
                c,
                carry
            ));
            chain!($type, [concat!("madc.hi.cc.", $unsigned)], true, true, |a, b, c, carry| add(
                $high(a, b),
                c,
                carry
            ));
        };
    }
    width!(u32, "u32", "s32", high_u32);
    width!(u64, "u64", "s64", high_u64);
}

/// A type whose sums and differences carry.
trait Carries: Copy {
    fn sum(self, other: Self) -> (Self, bool);
    fn difference(self, other: Self) -> (Self, bool);
    fn from_bit(bit: bool) -> Self;
}

macro_rules! carries {
    ($type:ty) => {
        impl Carries for $type {
            #[inline(always)]
            fn sum(self, other: $type) -> ($type, bool) {
                self.overflowing_add(other)
            }
            #[inline(always)]
            fn difference(self, other: $type) -> ($type, bool) {
                self.overflowing_sub(other)
            }
            #[inline(always)]
            fn from_bit(bit: bool) -> $type {
                <$type>::from(bit)
            }
        }
    };
}
carries!(u32);
carries!(u64);

#[inline(always)]
fn add<T: Carries>(a: T, b: T, carry: bool) -> (T, bool) {
    let (sum, first) = a.sum(b);
    let (sum, second) = sum.sum(T::from_bit(carry));
    (sum, first | second)
}

#[inline(always)]
fn subtract<T: Carries>(a: T, b: T, borrow: bool) -> (T, bool) {
    let (difference, first) = a.difference(b);
    let (difference, second) = difference.difference(T::from_bit(borrow));
    (difference, first | second)
}

/// `dp4a`: four products of bytes, added to a sum.
fn dot_products(table: &mut Table) {
    macro_rules! dot {
        ($name:literal, $a:ty, $b:ty) => {
            lane!(table, [concat!("dp4a.", $name)], |a: u32, b: u32, c: u32| -> u32 {
                let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
                let mut sum = c;
                for i in 0..4 {
                    let product = i32::from(a[i] as $a) * i32::from(b[i] as $b);
                    sum = sum.wrapping_add(product as u32);
                }
                sum
            });
        };
    }
    dot!("u32.u32", u8, u8);
    dot!("u32.s32", u8, i8);
    dot!("s32.u32", i8, u8);
    dot!("s32.s32", i8, i8);
}
