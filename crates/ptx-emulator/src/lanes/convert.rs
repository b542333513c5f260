//! Conversions between numbers (`cvt`).

use super::rounding::{NAN, bf16_from_f32, canonical, canonical64};
use super::{Table, lane};

pub(super) fn fill(table: &mut Table) {
    integers(table);
    to_float(table);
    from_float(table);
}

fn integers(table: &mut Table) {
    lane!(table, ["cvt.s64.s32", "cvt.u64.s32"], |a: i32| -> i64 { i64::from(a) });
    lane!(table, ["cvt.u64.u32", "cvt.s64.u32"], |a: u32| -> u64 { u64::from(a) });
    lane!(table, ["cvt.u64.u16", "cvt.s64.u16"], |a: u16| -> u64 { u64::from(a) });
    lane!(table, ["cvt.u32.u64", "cvt.s32.s64", "cvt.u32.s64", "cvt.s32.u64"], |a: u64| -> u32 {
        a as u32
    });
    lane!(table, ["cvt.u32.u16", "cvt.s32.u16"], |a: u16| -> u32 { u32::from(a) });
    lane!(table, ["cvt.u16.u32", "cvt.s16.s32", "cvt.u16.s32", "cvt.s16.u32"], |a: u32| -> u16 {
        a as u16
    });
    lane!(table, ["cvt.u16.u64", "cvt.s16.s64", "cvt.u16.s64", "cvt.s16.u64"], |a: u64| -> u16 {
        a as u16
    });
}

fn to_float(table: &mut Table) {
    lane!(table, ["cvt.rn.f32.s32"], |a: i32| -> f32 { a as f32 });
    lane!(table, ["cvt.rn.f32.u32"], |a: u32| -> f32 { a as f32 });
    lane!(table, ["cvt.rn.f32.s64"], |a: i64| -> f32 { a as f32 });
    lane!(table, ["cvt.rn.f32.u64"], |a: u64| -> f32 { a as f32 });
    lane!(table, ["cvt.rn.f64.u16"], |a: u16| -> f64 { f64::from(a) });
    lane!(table, ["cvt.rn.f64.s32"], |a: i32| -> f64 { f64::from(a) });
    lane!(table, ["cvt.rn.f64.u32"], |a: u32| -> f64 { f64::from(a) });
    lane!(table, ["cvt.rn.f64.s64"], |a: i64| -> f64 { a as f64 });
    lane!(table, ["cvt.rn.f64.u64"], |a: u64| -> f64 { a as f64 });
    lane!(table, ["cvt.f64.f32"], |a: f32| -> f64 { canonical64(f64::from(a)) });
    lane!(table, ["cvt.rn.f32.f64"], |a: f64| -> f32 { canonical(a as f32) });
}

/// NaN becomes 0, and what is out of range the nearest integer of the type.
fn from_float(table: &mut Table) {
    lane!(table, ["cvt.rzi.s32.f32"], |a: f32| -> i32 { a as i32 });
    lane!(table, ["cvt.rzi.u32.f32"], |a: f32| -> u32 { a as u32 });
    lane!(table, ["cvt.rzi.s32.f64"], |a: f64| -> i32 { a as i32 });
    lane!(table, ["cvt.rzi.u32.f64"], |a: f64| -> u32 { a as u32 });
    lane!(table, ["cvt.rzi.s64.f64"], |a: f64| -> i64 { a as i64 });
    lane!(table, ["cvt.rzi.f32.f32"], |a: f32| -> f32 { canonical(a.trunc()) });
    lane!(table, ["cvt.sat.f32.f32"], |a: f32| -> f32 {
        if a > 1.0 {
            1.0
        } else if a > 0.0 {
            a
        } else {
            0.0
        }
    });
    lane!(table, ["cvt.rn.bf16.f32"], |a: f32| -> u16 { bf16_from_f32(a) });
    // The first operand becomes the upper half.
    lane!(table, ["cvt.rn.bf16x2.f32"], |a: f32, b: f32| -> u32 {
        u32::from(bf16_from_f32(a)) << 16 | u32::from(bf16_from_f32(b))
    });
    lane!(table, ["cvt.rna.tf32.f32"], |a: f32| -> f32 {
        let bits = a.to_bits();
        let rounded = f32::from_bits((bits & 0x7fff_ffff).wrapping_add(0x1000) & !0x1fff);
        if a.is_nan() { NAN } else { rounded.copysign(a) }
    });
}
