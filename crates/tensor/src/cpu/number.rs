//! The numbers that kernels are generic over: storage types ([`Number`]) and the types that arithmetic is done in
//! ([`Real`]), with the functions that the compiler can vectorise.

use std::sync::LazyLock;

use num_traits::Float;

use super::product::{self, MicroKernels};
use crate::dtype::Element;
use crate::{Activation, bf16};

/// A type that sums and products are computed in: `f32` or `f64`.
pub(crate) trait Real: Number<Acc = Self> + Float + std::iter::Sum {
    /// The constant nearest to `value`.
    fn of(value: f64) -> Self;
    /// `eˣ`, within 2 units in the last place.
    fn exponential(self) -> Self;
    /// The standard normal distribution function `Φ(x)` and density `φ(x)`.
    fn normal(self) -> (Self, Self);
}

/// The type that arithmetic on a stored type is done in.
pub(crate) type Acc<T> = <T as Number>::Acc;

/// A type that tensors store.
pub(crate) trait Number: Element {
    /// The type for arithmetic.
    type Acc: Real;
    /// To the arithmetic type, exactly.
    fn widen(self) -> Self::Acc;
    /// To the nearest storable value.
    fn narrow(value: Self::Acc) -> Self;
    /// The bits of two values side by side, the first lower: a word of the products that take pairs of `bf16`.
    fn pair(_: Self, _: Self) -> Self::Acc {
        unreachable!("no kernel takes pairs of this type")
    }
    /// How this machine multiplies matrices of this type.
    fn kernels() -> &'static MicroKernels<Self::Acc>;
}

/// A type that arithmetic is done in as it is stored.
macro_rules! own_accumulator {
    ($type:ty, $kernels:path) => {
        impl Number for $type {
            type Acc = Self;
            #[inline(always)]
            fn widen(self) -> Self {
                self
            }
            #[inline(always)]
            fn narrow(value: Self) -> Self {
                value
            }
            fn kernels() -> &'static MicroKernels<Self> {
                static KERNELS: LazyLock<MicroKernels<$type>> = LazyLock::new($kernels);
                &KERNELS
            }
        }
    };
}

own_accumulator!(f32, product::for_f32);
own_accumulator!(f64, product::portable);

impl Number for bf16 {
    type Acc = f32;
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        // Round to nearest, ties to even; a NaN stays one. Written without branches, so that it vectorises.
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let nan = (bits >> 16) | 0x40;
        Self::from_bits(if value.is_nan() { nan } else { rounded } as u16)
    }
    #[inline(always)]
    fn pair(first: Self, second: Self) -> f32 {
        f32::from_bits(u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16)
    }
    fn kernels() -> &'static MicroKernels<f32> {
        static KERNELS: LazyLock<MicroKernels<f32>> = LazyLock::new(product::for_bf16);
        &KERNELS
    }
}

impl Real for f64 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn exponential(self) -> Self {
        self.exp()
    }
    #[inline(always)]
    fn normal(self) -> (Self, Self) {
        let cdf = 0.5 * libm::erfc(-self * std::f64::consts::FRAC_1_SQRT_2);
        let pdf = (-0.5 * self * self).exp() * FRAC_1_SQRT_TAU;
        (cdf, pdf)
    }
}

const FRAC_1_SQRT_TAU: f64 = 0.398_942_280_401_432_7;

/// `(1 − Φ(z))·exp(z²/2) = t·P(t)` with `t = 1/(1 + 0.26z)`, for 0 ≤ z ≤ 14: the form of Abramowitz and Stegun, 7.1.26,
/// with coefficients fitted anew to a relative error of 2.5e-8.
const TAIL: [f32; 9] = [
    0.103_759_07,
    0.103_016_63,
    0.103_031_08,
    0.051_024_56,
    0.160_954_93,
    -0.150_958_84,
    0.251_499_6,
    -0.152_832_7,
    0.030_505_65,
];

impl Real for f32 {
    #[inline(always)]
    fn of(value: f64) -> Self {
        value as Self
    }

    /// `2ⁿ·eʳ` with n the rounded quotient by ln 2 (Cody and Waite's reduction in two parts) and eʳ a polynomial of
    /// degree 6 with relative error 3e-9. No branch and no call, so that it vectorises.
    #[inline(always)]
    fn exponential(self) -> Self {
        // Adding and taking away 1.5·2²³ rounds to an integer.
        const ROUND: f32 = 12_582_912.0;
        // Below the first bound the result is subnormal, above the second infinite.
        let x = self.clamp(-87.3, 88.8);
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
        let q = 0.001_381_456_7;
        let q = q * r + 0.008_368_701;
        let q = q * r + 0.041_668_39;
        let q = q * r + 0.166_665_21;
        let q = q * r + 0.499_999_93;
        let power = q * r * r + r + 1.0;
        // The low bits of the shifted number are n. Two factors, as 2ⁿ itself overflows for n = 128.
        let whole = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
        let half = whole >> 1;
        let two = |k: i32| Self::from_bits((k.wrapping_add(127) << 23) as u32);
        let value = power * two(half) * two(whole.wrapping_sub(half));
        let value = if self < -87.3 { 0.0 } else { value };
        if self.is_nan() { self } else { value }
    }

    #[inline(always)]
    fn normal(self) -> (Self, Self) {
        let z = self.abs().min(14.0);
        let e = (-0.5 * z * z).exponential();
        let t = 1.0 / (1.0 + 0.26 * z);
        let polynomial = TAIL.iter().rev().fold(0.0, |sum, &c| sum * t + c);
        let tail = e * t * polynomial;
        let cdf = if self > 0.0 { 1.0 - tail } else { tail };
        (if self.is_nan() { self } else { cdf }, e * FRAC_1_SQRT_TAU as Self)
    }
}

impl Activation {
    /// The value and the derivative at `x`. Where one is not used, it costs nothing.
    #[inline(always)]
    pub(crate) fn at<A: Real>(self, x: A) -> (A, A) {
        match self {
            Self::GeluErf => {
                let (cdf, pdf) = x.normal();
                (x * cdf, cdf + x * pdf)
            }
            Self::GeluTanh => {
                let (gate, inner) = gate(x);
                (x * gate, gate + x * gate * (A::one() - gate) * inner)
            }
            Self::Relu => {
                // A NaN is passed on, as is its gradient: `max` would hide it.
                let off = x <= A::zero();
                (if off { A::zero() } else { x }, if off { A::zero() } else { A::one() })
            }
            Self::Silu => {
                // By e^-|x|, which does not overflow, and in which neither side cancels.
                let e = (-x.abs()).exponential();
                let upper = A::one() / (A::one() + e);
                let sigmoid = if x < A::zero() { e * upper } else { upper };
                (x * sigmoid, sigmoid + x * (e * upper * upper))
            }
        }
    }
}

/// `(1 + tanh u)/2 = 1/(1 + e⁻²ᵘ)` for GELU's `u = √(2/π)(x + 0.044715x³)`, and the derivative of `2u`.
#[inline(always)]
fn gate<A: Real>(x: A) -> (A, A) {
    // Beyond it, the value is 0 or 1 to the last bit, and the polynomial has not overflowed yet.
    let limit = A::of(50.0);
    let x = if x > limit { limit } else { x };
    let x = if x < -limit { -limit } else { x };
    let two_root = A::of(2.0 * 0.797_884_560_802_865_4);
    let cubic = A::of(0.044_715);
    let square = x * x;
    let u2 = two_root * x * (A::one() + cubic * square);
    let inner = two_root * (A::one() + A::of(3.0) * cubic * square);
    (A::one() / (A::one() + (-u2).exponential()), inner)
}

/// Independent partial sums: enough for the widest registers, and the same order of additions on every machine.
const LANES: usize = 16;

/// The sum of `f` over what stands side by side in N rows of one length, in a fixed order that vectorises.
#[inline(always)]
pub(crate) fn sum_of<T: Number, S: Real, const N: usize>(
    rows: [&[T]; N],
    f: impl Fn([T::Acc; N]) -> S,
) -> S {
    let len = rows[0].len();
    let zero = T::from_f64(0.0);
    let mut lanes = [S::zero(); LANES];
    let whole = len / LANES * LANES;
    // Whole blocks by value: a check of each index would keep the loop over the lanes from becoming vector code.
    for start in (0..whole).step_by(LANES) {
        let mut blocks = [[zero; LANES]; N];
        for (block, row) in blocks.iter_mut().zip(&rows) {
            block.copy_from_slice(&row[start..start + LANES]);
        }
        for lane in 0..LANES {
            lanes[lane] = lanes[lane] + f(std::array::from_fn(|n| blocks[n][lane].widen()));
        }
    }
    for i in whole..len {
        lanes[i - whole] = lanes[i - whole] + f(std::array::from_fn(|n| rows[n][i].widen()));
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = lanes[lane] + lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(from: f32, to: f32) -> impl Iterator<Item = f32> {
        (0..=200_000).map(move |i| from + (to - from) * i as f32 / 200_000.0)
    }

    #[test]
    fn exponential_is_within_2_ulp() {
        let worst = points(-87.0, 88.5)
            .map(|x| {
                let exact = f64::from(x).exp();
                (f64::from(x.exponential()) - exact).abs() / exact
            })
            .fold(0.0, f64::max);
        assert!(worst < 2.0 * f64::from(f32::EPSILON) / 2.0 * 2.0, "{worst:e}");
        assert_eq!(0.0f32.exponential(), 1.0);
        assert_eq!((-100.0f32).exponential(), 0.0);
        assert_eq!(f32::NEG_INFINITY.exponential(), 0.0);
        assert_eq!(f32::INFINITY.exponential(), f32::INFINITY);
        assert!(f32::NAN.exponential().is_nan());
    }

    #[test]
    fn activations_have_finite_derivatives_far_out() {
        use Activation::{GeluErf, GeluTanh, Relu, Silu};
        for activation in [GeluErf, GeluTanh, Relu, Silu] {
            for x in [100.0, 1e15, 1e30] {
                assert_eq!(activation.at(x), (x, 1.0f32));
                assert_eq!(activation.at(-x), (0.0, 0.0));
            }
        }
        assert!(GeluTanh.at(f32::NAN).1.is_nan());
        assert_eq!(Silu.at(f32::INFINITY).0, f32::INFINITY);
        assert!(Silu.at(f32::NEG_INFINITY).0.is_nan());
    }

    #[test]
    fn the_normal_distribution_is_accurate_also_in_the_tail() {
        for x in points(-12.0, 12.0) {
            let ((cdf, pdf), (exact_cdf, exact_pdf)) = (x.normal(), f64::from(x).normal());
            let error = (f64::from(cdf) - exact_cdf).abs();
            // The squared argument of the exponential is rounded: 72·2⁻²⁴ at x = 12.
            assert!(error < 2e-7 && error < 1e-5 * exact_cdf, "{x}");
            assert!((f64::from(pdf) - exact_pdf).abs() < 2e-7, "{x}");
        }
        assert_eq!(f32::INFINITY.normal().0, 1.0);
        assert_eq!(f32::NEG_INFINITY.normal().0, 0.0);
        assert!(f32::NAN.normal().0.is_nan());
    }

    #[test]
    fn bf16_rounds_like_the_half_crate() {
        for bits in (0..=u32::MAX).step_by(65_521) {
            let value = f32::from_bits(bits);
            let (ours, theirs) = (bf16::narrow(value), bf16::from_f32(value));
            assert!(ours == theirs || (ours.is_nan() && theirs.is_nan()), "{bits:#x}");
        }
    }
}
