//! Arithmetic of `f16` and `bf16`, alone and in pairs. Each operation is exact up to one rounding.

use super::rounding::{
    BF16, F16 as HALF, Rounding, add_to_odd, bf16_exact, bf16_to_f32, f16_exact, f16_to_f32,
};
use super::{Bf16, F16, Lane, Table, lane};

/// A 16-bit format: exact widening, and one rounding of an `f64` that was rounded to odd.
trait HalfFormat: Lane {
    const NAN: u16;
    fn from_bits(bits: u16) -> Self;
    fn bits(self) -> u16;
    fn widen(self) -> f64;
    fn round(value: f64) -> Self;
}

impl HalfFormat for F16 {
    const NAN: u16 = 0x7fff;
    #[inline(always)]
    fn from_bits(bits: u16) -> F16 {
        F16(bits)
    }
    #[inline(always)]
    fn bits(self) -> u16 {
        self.0
    }
    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(f16_to_f32(self.0))
    }
    #[inline(always)]
    fn round(value: f64) -> F16 {
        F16(f16_exact(HALF.round(value, Rounding::Nearest)))
    }
}

impl HalfFormat for Bf16 {
    const NAN: u16 = 0x7fff;
    #[inline(always)]
    fn from_bits(bits: u16) -> Bf16 {
        Bf16(bits)
    }
    #[inline(always)]
    fn bits(self) -> u16 {
        self.0
    }
    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(bf16_to_f32(self.0))
    }
    #[inline(always)]
    fn round(value: f64) -> Bf16 {
        Bf16(bf16_exact(BF16.round(value, Rounding::Nearest)))
    }
}

#[inline(always)]
fn add<T: HalfFormat>(a: T, b: T) -> T {
    T::round(add_to_odd(a.widen(), b.widen()))
}

#[inline(always)]
fn subtract<T: HalfFormat>(a: T, b: T) -> T {
    T::round(add_to_odd(a.widen(), -b.widen()))
}

#[inline(always)]
fn multiply<T: HalfFormat>(a: T, b: T) -> T {
    T::round(a.widen() * b.widen())
}

#[inline(always)]
fn fma<T: HalfFormat>(a: T, b: T, c: T) -> T {
    T::round(add_to_odd(a.widen() * b.widen(), c.widen()))
}

#[inline(always)]
fn fma_relu<T: HalfFormat>(a: T, b: T, c: T) -> T {
    let result = fma(a, b, c);
    let value = result.widen();
    if value.is_nan() || value > 0.0 { result } else { T::from_bits(0) }
}

#[inline(always)]
fn negate<T: HalfFormat>(a: T) -> T {
    T::from_bits(a.bits() ^ 0x8000)
}

#[inline(always)]
fn absolute<T: HalfFormat>(a: T) -> T {
    T::from_bits(a.bits() & 0x7fff)
}

#[inline(always)]
fn smaller<T: HalfFormat>(a: T, b: T) -> T {
    let (x, y) = (a.widen(), b.widen());
    if x.is_nan() && y.is_nan() {
        T::from_bits(T::NAN)
    } else if x < y || y.is_nan() || x == y && x.is_sign_negative() {
        a
    } else {
        b
    }
}

#[inline(always)]
fn larger<T: HalfFormat>(a: T, b: T) -> T {
    let (x, y) = (a.widen(), b.widen());
    if x.is_nan() && y.is_nan() {
        T::from_bits(T::NAN)
    } else if x > y || y.is_nan() || x == y && x.is_sign_positive() {
        a
    } else {
        b
    }
}

#[inline(always)]
fn smaller_or_nan<T: HalfFormat>(a: T, b: T) -> T {
    let nan = a.widen().is_nan() || b.widen().is_nan();
    if nan { T::from_bits(T::NAN) } else { smaller(a, b) }
}

#[inline(always)]
fn larger_or_nan<T: HalfFormat>(a: T, b: T) -> T {
    let nan = a.widen().is_nan() || b.widen().is_nan();
    if nan { T::from_bits(T::NAN) } else { larger(a, b) }
}

/// Applies a function to the lower and to the upper halves.
#[inline(always)]
fn both<T: HalfFormat, const N: usize>(words: [u32; N], function: impl Fn([T; N]) -> T) -> u32 {
    let low = function(words.map(|word| T::from_bits(word as u16)));
    let high = function(words.map(|word| T::from_bits((word >> 16) as u16)));
    u32::from(low.bits()) | u32::from(high.bits()) << 16
}

pub(super) fn fill(table: &mut Table) {
    macro_rules! one {
        ($type:ty, $function:ident, [$($name:literal),+], $format:literal, $pair:literal) => {
            lane!(table, [$(concat!($name, ".", $format)),+], |a: $type| -> $type { $function(a) });
            lane!(table, [$(concat!($name, ".", $pair)),+], |a: u32| -> u32 {
                both::<$type, 1>([a], |[a]| $function(a))
            });
        };
    }
    macro_rules! two {
        ($type:ty, $function:ident, [$($name:literal),+], $format:literal, $pair:literal) => {
            lane!(table, [$(concat!($name, ".", $format)),+], |a: $type, b: $type| -> $type {
                $function(a, b)
            });
            lane!(table, [$(concat!($name, ".", $pair)),+], |a: u32, b: u32| -> u32 {
                both::<$type, 2>([a, b], |[a, b]| $function(a, b))
            });
        };
    }
    macro_rules! three {
        ($type:ty, $function:ident, $name:literal, $format:literal, $pair:literal) => {
            lane!(table, [concat!($name, ".", $format)], |a: $type, b: $type, c: $type| -> $type {
                $function(a, b, c)
            });
            lane!(table, [concat!($name, ".", $pair)], |a: u32, b: u32, c: u32| -> u32 {
                both::<$type, 3>([a, b, c], |[a, b, c]| $function(a, b, c))
            });
        };
    }
    macro_rules! compare {
        ($type:ty, $format:literal, $name:literal, |$a:ident, $b:ident| $body:expr) => {
            lane!(table, [concat!("setp.", $name, ".", $format)], |a: $type, b: $type| -> bool {
                let ($a, $b) = (a.widen(), b.widen());
                $body
            });
        };
    }
    macro_rules! format {
        ($type:ty, $format:literal, $pair:literal) => {
            two!($type, add, ["add", "add.rn"], $format, $pair);
            two!($type, subtract, ["sub", "sub.rn"], $format, $pair);
            two!($type, multiply, ["mul", "mul.rn"], $format, $pair);
            two!($type, smaller, ["min"], $format, $pair);
            two!($type, larger, ["max"], $format, $pair);
            two!($type, smaller_or_nan, ["min.NaN"], $format, $pair);
            two!($type, larger_or_nan, ["max.NaN"], $format, $pair);
            three!($type, fma, "fma.rn", $format, $pair);
            three!($type, fma_relu, "fma.rn.relu", $format, $pair);
            one!($type, negate, ["neg"], $format, $pair);
            one!($type, absolute, ["abs"], $format, $pair);
            compare!($type, $format, "eq", |a, b| a == b);
            compare!($type, $format, "ne", |a, b| a != b && !(a.is_nan() || b.is_nan()));
            compare!($type, $format, "lt", |a, b| a < b);
            compare!($type, $format, "le", |a, b| a <= b);
            compare!($type, $format, "gt", |a, b| a > b);
            compare!($type, $format, "ge", |a, b| a >= b);
            compare!($type, $format, "equ", |a, b| a == b || a.is_nan() || b.is_nan());
            compare!($type, $format, "neu", |a, b| a != b);
            compare!($type, $format, "ltu", |a, b| a < b || a.is_nan() || b.is_nan());
            compare!($type, $format, "leu", |a, b| a <= b || a.is_nan() || b.is_nan());
            compare!($type, $format, "gtu", |a, b| a > b || a.is_nan() || b.is_nan());
            compare!($type, $format, "geu", |a, b| a >= b || a.is_nan() || b.is_nan());
            compare!($type, $format, "num", |a, b| !a.is_nan() && !b.is_nan());
            compare!($type, $format, "nan", |a, b| a.is_nan() || b.is_nan());
        };
    }
    format!(F16, "f16", "f16x2");
    format!(Bf16, "bf16", "bf16x2");
}
