//! Rounding to narrower formats and in directions that the machine has no instruction for, done
//! exactly with `f64`.

/// The direction of a rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// To the nearest, ties to even (`.rn`, `.rni`).
    Nearest,
    /// To the nearest, ties away from zero (`.rna`).
    NearestAway,
    /// Towards zero (`.rz`, `.rzi`).
    Zero,
    /// Towards negative infinity (`.rm`, `.rmi`).
    Down,
    /// Towards positive infinity (`.rp`, `.rpi`).
    Up,
}

impl Rounding {
    /// The integer that a number is rounded to.
    #[inline(always)]
    pub(crate) fn to_integer(self, value: f64) -> f64 {
        match self {
            Rounding::Nearest => value.round_ties_even(),
            Rounding::NearestAway => value.round(),
            Rounding::Zero => value.trunc(),
            Rounding::Down => value.floor(),
            Rounding::Up => value.ceil(),
        }
    }
}

/// What a NaN becomes in single precision; devices keep no payload.
pub(crate) const NAN: f32 = f32::from_bits(0x7fff_ffff);

/// What a NaN becomes in double precision.
pub(crate) const NAN64: f64 = f64::from_bits(0xfff8_0000_0000_0000);

/// The number, or for NaN the one that devices give. The bits are compared, as the compiler takes
/// all NaN for alike where numbers are.
#[inline(always)]
pub(crate) fn canonical(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits(if bits & 0x7fff_ffff > 0x7f80_0000 { NAN.to_bits() } else { bits })
}

/// The same in double precision.
#[inline(always)]
pub(crate) fn canonical64(value: f64) -> f64 {
    let bits = value.to_bits();
    f64::from_bits(if bits & !(1 << 63) > 0x7ff << 52 { NAN64.to_bits() } else { bits })
}

/// A floating-point format of at most 24 bits of precision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    /// Bits of the fraction with the hidden one.
    precision: i32,
    /// Exponent of the smallest normal number.
    smallest: i32,
    /// The largest finite number.
    largest: f64,
}

pub(crate) const F32: Format = Format { precision: 24, smallest: -126, largest: f32::MAX as f64 };
pub(crate) const F16: Format = Format { precision: 11, smallest: -14, largest: 65504.0 };
pub(crate) const BF16: Format =
    Format { precision: 8, smallest: -126, largest: 255.0 / 128.0 * power_of_two(127) };
/// `f32` with ten bits of fraction.
pub(crate) const TF32: Format =
    Format { precision: 11, smallest: -126, largest: 2047.0 / 1024.0 * power_of_two(127) };

const fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

impl Format {
    /// The number of this format that `value` is rounded to, as `f64`. The sign of a zero and NaN
    /// stay.
    #[inline(always)]
    pub(crate) fn round(self, value: f64, rounding: Rounding) -> f64 {
        if !value.is_finite() || value == 0.0 {
            return value;
        }
        let exponent = ((value.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(self.smallest);
        let quantum = exponent - (self.precision - 1);
        // Both factors are powers of two, so nothing is lost: a value below the smallest normal
        // `f64` is far below every format's last place.
        let scaled = value * power_of_two(-quantum);
        let result = rounding.to_integer(scaled) * power_of_two(quantum);
        let result = if result == 0.0 { 0.0f64.copysign(value) } else { result };
        if result.abs() <= self.largest {
            return result;
        }
        let finite = match rounding {
            Rounding::Nearest | Rounding::NearestAway => false,
            Rounding::Zero => true,
            Rounding::Down => result > 0.0,
            Rounding::Up => result < 0.0,
        };
        if finite { self.largest.copysign(result) } else { f64::INFINITY.copysign(result) }
    }
}

/// `a + b` as an `f64` whose last bit says whether something was cut off, so that rounding it
/// again to a narrower format gives what rounding the exact sum gives (round to odd).
#[inline(always)]
pub(crate) fn add_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let part = sum - a;
    let error = (a - (sum - part)) + (b - part);
    if error == 0.0 || !sum.is_finite() || sum.to_bits() & 1 == 1 {
        return sum;
    }
    // The exact sum lies between `sum` and its neighbour on the error's side, which is odd.
    let away = (error > 0.0) == (sum > 0.0);
    f64::from_bits(if away { sum.to_bits() + 1 } else { sum.to_bits() - 1 })
}

/// `a + b` rounded in a direction.
#[inline(always)]
pub(crate) fn add_f32(a: f32, b: f32, rounding: Rounding) -> f32 {
    finish(add_to_odd(f64::from(a), f64::from(b)), zero_sum(a, b, rounding), rounding)
}

/// `a · b` rounded in a direction; the product of two `f32` is exact in `f64`.
#[inline(always)]
pub(crate) fn multiply_f32(a: f32, b: f32, rounding: Rounding) -> f32 {
    let product = f64::from(a) * f64::from(b);
    finish(product, product as f32, rounding)
}

/// `a · b + c` rounded once, in a direction.
#[inline(always)]
pub(crate) fn fma_f32(a: f32, b: f32, c: f32, rounding: Rounding) -> f32 {
    let product = f64::from(a) * f64::from(b);
    // Only the product's sign matters where the sum is zero.
    let sign = if product.is_sign_negative() { -1.0 } else { 1.0 };
    let product_like = if product == 0.0 { 0.0f32.copysign(sign) } else { sign };
    let zero = zero_sum(product_like, if c == 0.0 { c } else { 1.0f32.copysign(c) }, rounding);
    finish(add_to_odd(product, f64::from(c)), zero, rounding)
}

/// The zero that a sum of zero is: of two zeros of one sign that zero, else the direction's.
#[inline(always)]
fn zero_sum(a: f32, b: f32, rounding: Rounding) -> f32 {
    if a.is_sign_negative() == b.is_sign_negative() && a == 0.0 && b == 0.0 {
        a
    } else if rounding == Rounding::Down {
        -0.0
    } else {
        0.0
    }
}

#[inline(always)]
fn finish(value: f64, zero: f32, rounding: Rounding) -> f32 {
    if value.is_nan() {
        NAN
    } else if value == 0.0 {
        zero
    } else {
        F32.round(value, rounding) as f32
    }
}

/// The bits of the `bf16` nearest to a number.
#[inline(always)]
pub(crate) fn bf16_from_f32(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1))) >> 16;
    if value.is_nan() { 0x7fff } else { rounded as u16 }
}

/// The number that `bf16` bits stand for.
#[inline(always)]
pub(crate) fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The bits of a number that is in `bf16` already, or NaN.
#[inline(always)]
pub(crate) fn bf16_exact(value: f64) -> u16 {
    if value.is_nan() { 0x7fff } else { ((value as f32).to_bits() >> 16) as u16 }
}

/// The bits of the half-precision number nearest to a number.
#[inline(always)]
pub(crate) fn f16_from_f32(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let size = bits & 0x7fff_ffff;
    // Half-precision numbers below 2⁻¹⁴ are multiples of 2⁻²⁴: adding ½ leaves their count of it
    // in the low bits, rounded to even by the addition.
    let small = (f32::from_bits(size) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    let normal = size.wrapping_add(0xfff + (size >> 13 & 1)).wrapping_sub(112 << 23) >> 13;
    let magnitude = if size > 0x7f80_0000 {
        return 0x7fff;
    } else if size >= 0x477f_f000 {
        0x7c00
    } else if size < 0x3880_0000 {
        small
    } else {
        normal
    };
    sign | magnitude as u16
}

/// The number that half-precision bits stand for.
#[inline(always)]
pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let size = u32::from(bits & 0x7fff);
    let normal = (size << 13) + (112 << 23);
    let small = (size as f32 * f32::from_bits(0x3380_0000)).to_bits();
    let magnitude = if size >= 0x7c00 {
        0x7f80_0000 | size << 13
    } else if size < 0x400 {
        small
    } else {
        normal
    };
    f32::from_bits(sign | magnitude)
}

/// The bits of a number that is in half precision already, or NaN.
#[inline(always)]
pub(crate) fn f16_exact(value: f64) -> u16 {
    f16_from_f32(value as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_bracket_a_sum() {
        let (a, b) = (1.0f32, f32::EPSILON / 4.0);
        assert_eq!(add_f32(a, b, Rounding::Nearest), 1.0);
        assert_eq!(add_f32(a, b, Rounding::Zero), 1.0);
        assert_eq!(add_f32(a, b, Rounding::Down), 1.0);
        assert_eq!(add_f32(a, b, Rounding::Up), 1.0 + f32::EPSILON);
        assert_eq!(add_f32(-a, -b, Rounding::Down), -1.0 - f32::EPSILON);
        assert_eq!(add_f32(-a, -b, Rounding::Zero), -1.0);
        // The small part is far below the last place of an f64 beside the large one.
        assert_eq!(add_f32(1e30, 1e-30, Rounding::Up), 1e30f32.next_up());
        assert_eq!(add_f32(1e30, -1e-30, Rounding::Down), 1e30f32.next_down());
        assert_eq!(add_f32(1e30, -1e-30, Rounding::Zero), 1e30f32.next_down());
    }

    #[test]
    fn a_sum_of_zero_has_the_direction_s_sign() {
        assert!(add_f32(1.0, -1.0, Rounding::Down).is_sign_negative());
        assert!(add_f32(1.0, -1.0, Rounding::Up).is_sign_positive());
        assert!(add_f32(-0.0, -0.0, Rounding::Up).is_sign_negative());
        assert!(fma_f32(2.0, 3.0, -6.0, Rounding::Down).is_sign_negative());
        assert!(fma_f32(2.0, 3.0, -6.0, Rounding::Zero).is_sign_positive());
        assert!(fma_f32(-0.0, 3.0, -0.0, Rounding::Zero).is_sign_negative());
    }

    #[test]
    fn overflow_stops_at_the_largest_number_in_directions_towards_zero() {
        assert_eq!(multiply_f32(f32::MAX, 2.0, Rounding::Zero), f32::MAX);
        assert_eq!(multiply_f32(f32::MAX, 2.0, Rounding::Down), f32::MAX);
        assert_eq!(multiply_f32(f32::MAX, 2.0, Rounding::Up), f32::INFINITY);
        assert_eq!(multiply_f32(f32::MIN, 2.0, Rounding::Down), f32::NEG_INFINITY);
    }

    #[test]
    fn nearest_agrees_with_the_machine() {
        let mut state = 1u32;
        let mut draw = || {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            f32::from_bits(state.rotate_left(state >> 27))
        };
        for _ in 0..100_000 {
            let (a, b, c) = (draw(), draw(), draw());
            let same = |x: f32, y: f32| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan();
            assert!(same(add_f32(a, b, Rounding::Nearest), a + b), "{a:e} + {b:e}");
            assert!(same(multiply_f32(a, b, Rounding::Nearest), a * b), "{a:e} * {b:e}");
            let fused = a.mul_add(b, c);
            assert!(same(fma_f32(a, b, c, Rounding::Nearest), fused), "{a:e} {b:e} {c:e}");
        }
    }

    #[test]
    fn half_precision_there_and_back() {
        for bits in 0..=u16::MAX {
            let value = f16_to_f32(bits);
            if value.is_nan() {
                assert!(bits & 0x7fff > 0x7c00);
            } else {
                assert_eq!(f16_from_f32(value), bits);
            }
        }
    }

    #[test]
    fn narrow_formats_agree_with_the_general_rounding() {
        for high in 0..=u16::MAX {
            for low in [0, 1, 0x0fff, 0x1000, 0x1001, 0x2fff, 0x3000, 0x7fff, 0x8000, 0x8001] {
                let value = f32::from_bits(u32::from(high) << 16 | low);
                if value.is_nan() {
                    continue;
                }
                let wide = f64::from(value);
                let half = F16.round(wide, Rounding::Nearest) as f32;
                assert_eq!(f16_to_f32(f16_from_f32(value)).to_bits(), half.to_bits(), "{value:e}");
                let brain = BF16.round(wide, Rounding::Nearest) as f32;
                assert_eq!(bf16_to_f32(bf16_from_f32(value)).to_bits(), brain.to_bits());
            }
        }
    }
}
