//! Rounding to `bf16` and downwards, which the machine has no instruction for, and the bits of NaN.

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

/// `a + b` as an `f64` whose last bit says whether something was cut off, so that rounding it
/// again to a narrower format gives what rounding the exact sum gives (round to odd).
#[inline(always)]
fn add_to_odd(a: f64, b: f64) -> f64 {
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

/// `a · b + c` rounded once, towards negative infinity; the product of two `f32` is exact in `f64`.
#[inline(always)]
pub(crate) fn fma_down(a: f32, b: f32, c: f32) -> f32 {
    let product = f64::from(a) * f64::from(b);
    let sum = add_to_odd(product, f64::from(c));
    let nearest = sum as f32;
    if sum == 0.0 {
        // Of two zeros of one sign that zero, else the direction's.
        let positive = product == 0.0 && product.is_sign_positive() && c.is_sign_positive();
        if positive { 0.0 } else { -0.0 }
    } else if f64::from(nearest) > sum {
        nearest.next_down()
    } else {
        canonical(nearest)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_rounded_down() {
        let tiny = f32::EPSILON / 4.0;
        assert_eq!(fma_down(1.0, 1.0, tiny), 1.0);
        assert_eq!(fma_down(-1.0, 1.0, -tiny), -1.0 - f32::EPSILON);
        // The small part is far below the last place of an f64 beside the large one.
        assert_eq!(fma_down(1e30, 1.0, 1e-30), 1e30);
        assert_eq!(fma_down(1e30, 1.0, -1e-30), 1e30f32.next_down());
        assert_eq!(fma_down(f32::MIN_POSITIVE, -1e-30, 0.0), -f32::from_bits(1));
        assert_eq!(fma_down(f32::MAX, 2.0, 0.0), f32::MAX);
        assert_eq!(fma_down(f32::MIN, 2.0, 0.0), f32::NEG_INFINITY);
        assert_eq!(fma_down(f32::INFINITY, 0.0, 1.0).to_bits(), NAN.to_bits());
    }

    #[test]
    fn a_sum_of_zero_has_the_direction_s_sign() {
        assert!(fma_down(2.0, 3.0, -6.0).is_sign_negative());
        assert!(fma_down(-0.0, 3.0, 0.0).is_sign_negative());
        assert!(fma_down(-0.0, 3.0, -0.0).is_sign_negative());
        assert!(fma_down(0.0, 3.0, 0.0).is_sign_positive());
    }

    #[test]
    fn rounding_down_is_the_nearest_number_or_the_one_below() {
        let mut state = 1u32;
        let mut draw = || {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            f32::from_bits(state.rotate_left(state >> 27))
        };
        for _ in 0..100_000 {
            let (a, b, c) = (draw(), draw(), draw());
            let (found, nearest) = (fma_down(a, b, c), a.mul_add(b, c));
            let alike = found == nearest || found == nearest.next_down();
            assert!(alike || found.is_nan() && nearest.is_nan(), "{a:e} {b:e} {c:e}");
        }
    }

    #[test]
    fn bf16_is_the_nearest_and_of_two_the_even_one() {
        for high in 0..0x7f80u16 {
            let (below, above) = (bf16_to_f32(high), bf16_to_f32(high + 1));
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let value = f32::from_bits(u32::from(high) << 16 | low);
                let up = low > 0x8000 || low == 0x8000 && high & 1 == 1;
                let wanted = if up { above } else { below };
                assert_eq!(bf16_to_f32(bf16_from_f32(value)), wanted, "{value:e}");
                assert_eq!(bf16_to_f32(bf16_from_f32(-value)), -wanted, "{value:e}");
            }
        }
    }
}
