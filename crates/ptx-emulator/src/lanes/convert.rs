//! Conversions between numbers (`cvt`). Those that kernels use all the time are in the table of
//! lane instructions; [`Conversion`] does any of them one value at a time.

use super::rounding::{
    BF16, F16 as HALF, F32, NAN, NAN64, Rounding, TF32, bf16_exact, bf16_from_f32, bf16_to_f32,
    canonical, canonical64, f16_exact, f16_from_f32, f16_to_f32,
};
use super::{Bf16, F16, Table, lane};
use crate::types::Type;

pub(super) fn fill(table: &mut Table) {
    integers(table);
    to_float(table);
    from_float(table);
    narrow_floats(table);
}

fn integers(table: &mut Table) {
    lane!(table, ["cvt.s64.s32", "cvt.u64.s32"], |a: i32| -> i64 { i64::from(a) });
    lane!(table, ["cvt.u64.u32", "cvt.s64.u32"], |a: u32| -> u64 { u64::from(a) });
    lane!(table, ["cvt.u32.u64", "cvt.s32.s64", "cvt.u32.s64", "cvt.s32.u64"], |a: u64| -> u32 {
        a as u32
    });
    lane!(table, ["cvt.u32.u16", "cvt.s32.u16"], |a: u16| -> u32 { u32::from(a) });
    lane!(table, ["cvt.s32.s16", "cvt.u32.s16"], |a: i16| -> i32 { i32::from(a) });
    lane!(table, ["cvt.u16.u32", "cvt.s16.s32", "cvt.u16.s32", "cvt.s16.u32"], |a: u32| -> u16 {
        a as u16
    });
}

fn to_float(table: &mut Table) {
    lane!(table, ["cvt.rn.f32.s32"], |a: i32| -> f32 { a as f32 });
    lane!(table, ["cvt.rn.f32.u32"], |a: u32| -> f32 { a as f32 });
    lane!(table, ["cvt.rn.f32.u16"], |a: u16| -> f32 { f32::from(a) });
    lane!(table, ["cvt.rn.f32.s16"], |a: i16| -> f32 { f32::from(a) });
    lane!(table, ["cvt.rn.f32.s64"], |a: i64| -> f32 { a as f32 });
    lane!(table, ["cvt.rn.f32.u64"], |a: u64| -> f32 { a as f32 });
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
    lane!(table, ["cvt.rni.s32.f32"], |a: f32| -> i32 { a.round_ties_even() as i32 });
    lane!(table, ["cvt.rmi.s32.f32"], |a: f32| -> i32 { a.floor() as i32 });
    lane!(table, ["cvt.rpi.s32.f32"], |a: f32| -> i32 { a.ceil() as i32 });
    lane!(table, ["cvt.rzi.s64.f32"], |a: f32| -> i64 { a as i64 });
    lane!(table, ["cvt.rzi.s64.f64"], |a: f64| -> i64 { a as i64 });
    lane!(table, ["cvt.rzi.s32.f64"], |a: f64| -> i32 { a as i32 });
    lane!(table, ["cvt.rni.f32.f32"], |a: f32| -> f32 { canonical(a.round_ties_even()) });
    lane!(table, ["cvt.rzi.f32.f32"], |a: f32| -> f32 { canonical(a.trunc()) });
    lane!(table, ["cvt.rmi.f32.f32"], |a: f32| -> f32 { canonical(a.floor()) });
    lane!(table, ["cvt.rpi.f32.f32"], |a: f32| -> f32 { canonical(a.ceil()) });
}

fn narrow_floats(table: &mut Table) {
    lane!(table, ["cvt.rn.bf16.f32"], |a: f32| -> Bf16 { Bf16(bf16_from_f32(a)) });
    lane!(table, ["cvt.f32.bf16"], |a: Bf16| -> f32 { canonical(bf16_to_f32(a.0)) });
    lane!(table, ["cvt.rn.f16.f32"], |a: f32| -> F16 { F16(f16_from_f32(a)) });
    lane!(table, ["cvt.f32.f16"], |a: F16| -> f32 { canonical(f16_to_f32(a.0)) });
    // The first operand becomes the upper half.
    lane!(table, ["cvt.rn.bf16x2.f32"], |a: f32, b: f32| -> u32 {
        u32::from(bf16_from_f32(a)) << 16 | u32::from(bf16_from_f32(b))
    });
    lane!(table, ["cvt.rn.relu.bf16x2.f32"], |a: f32, b: f32| -> u32 {
        u32::from(bf16_from_f32(relu(a))) << 16 | u32::from(bf16_from_f32(relu(b)))
    });
    lane!(table, ["cvt.rn.f16x2.f32"], |a: f32, b: f32| -> u32 {
        u32::from(f16_from_f32(a)) << 16 | u32::from(f16_from_f32(b))
    });
    lane!(table, ["cvt.rna.tf32.f32"], |a: f32| -> f32 {
        let bits = a.to_bits();
        let rounded = f32::from_bits((bits & 0x7fff_ffff).wrapping_add(0x1000) & !0x1fff);
        if a.is_nan() { NAN } else { rounded.copysign(a) }
    });
}

/// Zero for what is negative; NaN stays.
#[inline(always)]
fn relu(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}

/// Any `cvt` from one number to one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Conversion {
    pub to: Type,
    pub from: Type,
    pub rounding: Option<Rounding>,
    /// `.rni` and its like: the result is an integer, also where its type is a float's.
    pub to_integer: bool,
    pub saturate: bool,
    pub relu: bool,
    pub flush: bool,
}

/// An exact value on its way from one type to another.
enum Value {
    Integer(i128),
    Float(f64),
}

impl Conversion {
    /// Whether PTX has this conversion; the modifiers that it needs and forbids.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let (to, from) = (self.to, self.from);
        let number = |ty: Type| !matches!(ty, Type::Pred | Type::F16x2 | Type::Bf16x2);
        let typed = |ty: Type| !matches!(ty, Type::B8 | Type::B16 | Type::B32 | Type::B64);
        if !number(to) || !number(from) || !typed(to) || !typed(from) || from == Type::Tf32 {
            return Err("has a type that cvt does not take");
        }
        let narrows = to.is_float() && from.is_float() && to.bytes() < from.bytes()
            || to == Type::Tf32
            || to.is_float() && from.is_float() && to.bytes() == 2 && to != from;
        let needed = narrows || to.is_float() != from.is_float() || self.to_integer;
        if needed && self.rounding.is_none() {
            return Err("needs a rounding mode");
        }
        if !needed && self.rounding.is_some() {
            return Err("takes no rounding mode");
        }
        if self.to_integer && !from.is_float() {
            return Err("rounds an integer to an integer");
        }
        let keeps_fraction = from.is_float() && !to.is_float() && !self.to_integer;
        if keeps_fraction || self.to_integer && to.is_float() && to != from {
            return Err("has a rounding mode that does not fit its types");
        }
        let away = self.rounding == Some(Rounding::NearestAway);
        if away != (to == Type::Tf32) {
            return Err("rounds in a way that only tf32 has, or tf32 in another");
        }
        Ok(())
    }

    /// Converts the bits of one value; the result is widened to 64 bits by its type.
    pub(crate) fn apply(&self, bits: u64) -> u64 {
        match self.read(bits) {
            Value::Integer(value) if self.to.is_float() => self.float_from_integer(value),
            Value::Float(value) if self.to.is_float() => self.write_float(value),
            Value::Integer(value) => self.write_integer(value),
            Value::Float(value) => {
                let rounded = self.rounding.map_or(value, |mode| mode.to_integer(value));
                // `as` takes NaN to 0 and saturates, here at far more than 64 bits.
                let (low, high) = self.limits();
                self.write_integer((rounded as i128).clamp(low, high))
            }
        }
    }

    fn read(&self, bits: u64) -> Value {
        match self.from {
            Type::U8 => Value::Integer(i128::from(bits as u8)),
            Type::S8 => Value::Integer(i128::from(bits as i8)),
            Type::U16 => Value::Integer(i128::from(bits as u16)),
            Type::S16 => Value::Integer(i128::from(bits as i16)),
            Type::U32 => Value::Integer(i128::from(bits as u32)),
            Type::S32 => Value::Integer(i128::from(bits as i32)),
            Type::U64 => Value::Integer(i128::from(bits)),
            Type::S64 => Value::Integer(i128::from(bits as i64)),
            Type::F16 => Value::Float(f64::from(f16_to_f32(bits as u16))),
            Type::Bf16 => Value::Float(f64::from(bf16_to_f32(bits as u16))),
            Type::F64 => Value::Float(f64::from_bits(bits)),
            _ => {
                let value = f32::from_bits(bits as u32);
                let flushed =
                    if self.flush && value.is_subnormal() { 0.0f32.copysign(value) } else { value };
                Value::Float(f64::from(flushed))
            }
        }
    }

    /// The range of the integer type of the result.
    fn limits(&self) -> (i128, i128) {
        let bits = self.to.bytes() * 8;
        if self.to.is_signed() {
            (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        } else {
            (0, (1 << bits) - 1)
        }
    }

    fn write_integer(&self, value: i128) -> u64 {
        let (low, high) = self.limits();
        let value = if self.saturate { value.clamp(low, high) } else { value };
        let spare = 64 - self.to.bytes() * 8;
        let bits = (value as u64) << spare;
        if self.to.is_signed() { (bits as i64 >> spare) as u64 } else { bits >> spare }
    }

    fn float_from_integer(&self, value: i128) -> u64 {
        let rounding = self.rounding.unwrap_or(Rounding::Nearest);
        if self.to == Type::F64 {
            let nearest = value as f64;
            let exact = nearest as i128;
            let rounded = match rounding {
                Rounding::Down if exact > value => nearest.next_down(),
                Rounding::Up if exact < value => nearest.next_up(),
                Rounding::Zero if exact.abs() > value.abs() => {
                    if value > 0 {
                        nearest.next_down()
                    } else {
                        nearest.next_up()
                    }
                }
                _ => nearest,
            };
            return rounded.to_bits();
        }
        // To odd, so that the rounding that follows is the only one.
        let nearest = value as f64;
        let exact = nearest as i128;
        let odd = if exact == value || nearest.to_bits() & 1 == 1 {
            nearest
        } else if exact.abs() < value.abs() {
            f64::from_bits(nearest.to_bits() + 1)
        } else {
            f64::from_bits(nearest.to_bits() - 1)
        };
        self.write_float(odd)
    }

    fn write_float(&self, value: f64) -> u64 {
        let value = match self.rounding {
            Some(mode) if self.to_integer => mode.to_integer(value),
            _ => value,
        };
        let value = if self.saturate {
            // NaN becomes 0.
            if value > 0.0 { value.min(1.0) } else { 0.0 }
        } else if self.relu && value < 0.0 {
            0.0
        } else {
            value
        };
        let rounding = self.rounding.unwrap_or(Rounding::Nearest);
        match self.to {
            Type::F64 if value.is_nan() => NAN64.to_bits(),
            Type::F64 => value.to_bits(),
            Type::F16 => u64::from(f16_exact(HALF.round(value, rounding))),
            Type::Bf16 => u64::from(bf16_exact(BF16.round(value, rounding))),
            _ if value.is_nan() => u64::from(NAN.to_bits()),
            Type::Tf32 => u64::from((TF32.round(value, rounding) as f32).to_bits()),
            _ => {
                let value = F32.round(value, rounding) as f32;
                let flushed =
                    if self.flush && value.is_subnormal() { 0.0f32.copysign(value) } else { value };
                u64::from(flushed.to_bits())
            }
        }
    }
}
