//! The `.approx` and `.full` instructions: by default the exact result rounded once; on demand off
//! by as much as the PTX ISA manual allows. The table of bounds is [`APPROXIMATIONS`].

use std::f64::consts::{LN_2, LOG2_E, PI, SQRT_2};

use super::rounding::canonical;
use super::{Entry, Lane, Table, versions};
use crate::registers::{LANES, Narrow};
use crate::types::Kind;

/// How far a result may be from the exact one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Relative to the result: `Relative(-23.0)` is 2⁻²³ of it.
    Relative(f64),
    /// Units in the last place of the result in single precision.
    Ulps(f64),
    /// For arguments up to the first limit in size the first absolute error, up to the second the
    /// second, as powers of two; the manual gives none for larger arguments, the second is taken.
    AbsoluteUpTo([(f64, f64); 2]),
    /// For arguments between ½ and 2 the absolute error, else the relative error: a power of two.
    AbsoluteAroundOne(f64),
}

impl Bound {
    /// The largest permitted difference from the exact result for an argument.
    pub fn allowed(self, argument: f64, exact: f64) -> f64 {
        match self {
            Bound::Relative(exponent) => exponent.exp2() * exact.abs(),
            Bound::Ulps(count) => count * last_place(exact),
            Bound::AbsoluteUpTo([(limit, first), (_, second)]) => {
                if argument.abs() <= limit {
                    first.exp2()
                } else {
                    second.exp2()
                }
            }
            Bound::AbsoluteAroundOne(exponent) => {
                let near = argument > 0.5 && argument < 2.0;
                exponent.exp2() * if near { 1.0 } else { exact.abs() }
            }
        }
    }
}

/// The distance between neighbours in single precision around a number.
fn last_place(value: f64) -> f64 {
    let exponent = ((value.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(-126);
    f64::from(exponent - 23).exp2()
}

/// An instruction that only approximates, and the bound that the PTX ISA manual states.
#[derive(Clone, Copy, Debug)]
pub struct Approximation {
    /// The instruction; its form with `.ftz` has the same bound.
    pub instruction: &'static str,
    /// The section of the PTX ISA manual, version 9.0.
    pub section: &'static str,
    /// The stated bound.
    pub bound: Bound,
}

const fn entry(instruction: &'static str, section: &'static str, bound: Bound) -> Approximation {
    Approximation { instruction, section, bound }
}

const SINE: Bound = Bound::AbsoluteUpTo([(2.0 * PI, -20.5), (100.0 * PI, -14.7)]);

/// The approximating instructions with their bounds from the PTX ISA manual, version 9.0.
pub const APPROXIMATIONS: [Approximation; 10] = [
    entry("div.approx.f32", "9.7.3.8", Bound::Ulps(2.0)),
    entry("div.full.f32", "9.7.3.8", Bound::Ulps(2.0)),
    entry("rcp.approx.f32", "9.7.3.13", Bound::Ulps(1.0)),
    entry("sqrt.approx.f32", "9.7.3.15", Bound::Relative(-23.0)),
    entry("rsqrt.approx.f32", "9.7.3.16", Bound::Relative(-22.9)),
    entry("sin.approx.f32", "9.7.3.18", SINE),
    entry("cos.approx.f32", "9.7.3.19", SINE),
    entry("lg2.approx.f32", "9.7.3.20", Bound::AbsoluteAroundOne(-22.0)),
    entry("ex2.approx.f32", "9.7.3.21", Bound::Ulps(2.0)),
    entry("tanh.approx.f32", "9.7.3.22", Bound::Relative(-11.0)),
];

const DIVIDE: usize = 0;
const DIVIDE_FULL: usize = 1;
const RECIPROCAL: usize = 2;
const SQUARE_ROOT: usize = 3;
const RECIPROCAL_ROOT: usize = 4;
const SIN: usize = 5;
const COS: usize = 6;
const LOGARITHM: usize = 7;
const EXPONENTIAL: usize = 8;
const TANH: usize = 9;

pub(super) fn fill(table: &mut Table) {
    macro_rules! one {
        ($index:ident, $plain:literal, $flushing:literal, |$a:ident| $body:expr) => {
            one!(@ $index, $plain, false, |$a| $body);
            one!(@ $index, $flushing, true, |$a| $body);
        };
        (@ $index:ident, $name:literal, $flush:literal, |$a:ident| $body:expr) => {{
            #[inline(always)]
            fn exact($a: f64) -> f64 {
                $body
            }
            let versions = versions!(|registers, slots, mask| {
                let noise = registers.noise;
                let a = <f32 as Lane>::row(registers, slots.a);
                let mut result = Narrow::ZERO;
                for lane in 0..LANES {
                    let x = flushed::<$flush>(<f32 as Lane>::get(a, lane));
                    result.0[lane] = single::<$flush>(exact(f64::from(x)) as f32).to_bits();
                }
                if let Some(seed) = noise {
                    for lane in 0..LANES {
                        let x = flushed::<$flush>(<f32 as Lane>::get(a, lane));
                        let off = disturb($index, seed, [x, 0.0], exact(f64::from(x)));
                        result.0[lane] = single::<$flush>(off).to_bits();
                    }
                }
                registers.set_narrow(slots.d, &result, mask);
            });
            table.add(&[$name], Entry { result: Kind::B32, inputs: &[Kind::B32], versions });
        }};
    }
    macro_rules! quotient {
        ($index:ident, $name:literal, $flush:literal, $limited:literal) => {{
            let versions = versions!(|registers, slots, mask| {
                let noise = registers.noise;
                let a = <f32 as Lane>::row(registers, slots.a);
                let b = <f32 as Lane>::row(registers, slots.b);
                let mut result = Narrow::ZERO;
                for lane in 0..LANES {
                    let x = flushed::<$flush>(<f32 as Lane>::get(a, lane));
                    let y = flushed::<$flush>(<f32 as Lane>::get(b, lane));
                    // Divisors whose reciprocal is subnormal count as infinite.
                    let huge = $limited && y.is_finite() && y.abs() > f32::from_bits(0x7e80_0000);
                    let divisor = if huge { f32::INFINITY.copysign(y) } else { y };
                    let exact = f64::from(x) / f64::from(divisor);
                    result.0[lane] = single::<$flush>(exact as f32).to_bits();
                    if let Some(seed) = noise {
                        let off = disturb($index, seed, [x, y], exact);
                        result.0[lane] = single::<$flush>(off).to_bits();
                    }
                }
                registers.set_narrow(slots.d, &result, mask);
            });
            table.add(&[$name], Entry { result: Kind::B32, inputs: &[Kind::B32; 2], versions });
        }};
    }
    quotient!(DIVIDE, "div.approx.f32", false, true);
    quotient!(DIVIDE, "div.approx.ftz.f32", true, true);
    quotient!(DIVIDE_FULL, "div.full.f32", false, false);
    quotient!(DIVIDE_FULL, "div.full.ftz.f32", true, false);
    one!(RECIPROCAL, "rcp.approx.f32", "rcp.approx.ftz.f32", |a| 1.0 / a);
    one!(SQUARE_ROOT, "sqrt.approx.f32", "sqrt.approx.ftz.f32", |a| a.sqrt());
    one!(RECIPROCAL_ROOT, "rsqrt.approx.f32", "rsqrt.approx.ftz.f32", |a| 1.0 / a.sqrt());
    one!(SIN, "sin.approx.f32", "sin.approx.ftz.f32", |a| a.sin());
    one!(COS, "cos.approx.f32", "cos.approx.ftz.f32", |a| a.cos());
    one!(LOGARITHM, "lg2.approx.f32", "lg2.approx.ftz.f32", |a| logarithm(a));
    one!(EXPONENTIAL, "ex2.approx.f32", "ex2.approx.ftz.f32", |a| exponential(a));
    one!(TANH, "tanh.approx.f32", "tanh.approx.ftz.f32", |a| a.tanh());
}

/// With `.ftz`, subnormal numbers count as zero.
#[inline(always)]
fn flushed<const FLUSH: bool>(value: f32) -> f32 {
    let small = value.to_bits() & 0x7f80_0000 == 0;
    if FLUSH && small { 0.0f32.copysign(value) } else { value }
}

#[inline(always)]
fn single<const FLUSH: bool>(value: f32) -> f32 {
    canonical(flushed::<FLUSH>(value))
}

/// 1 / n! for n from 13 down to 0.
const INVERSE_FACTORIALS: [f64; 14] = {
    let mut table = [1.0; 14];
    let mut factorial = 1.0;
    let mut n = 1;
    while n < 14 {
        factorial *= n as f64;
        table[13 - n] = 1.0 / factorial;
        n += 1;
    }
    table
};

/// 2ᵃ within a few units of the last place of `f64`, in a form that vectorises.
#[inline(always)]
fn exponential(a: f64) -> f64 {
    let clamped = a.clamp(-1000.0, 1000.0);
    // Adding 1½·2⁵² rounds to an integer, which then stands in the low bits of the sum.
    const ROUNDER: f64 = 6_755_399_441_055_744.0;
    let shifted = clamped + ROUNDER;
    let t = (clamped - (shifted - ROUNDER)) * LN_2;
    // The series of eᵗ for |t| < 0.35; the first term left out is below 2⁻⁵³.
    let mut sum = 0.0;
    for coefficient in INVERSE_FACTORIALS {
        sum = sum * t + coefficient;
    }
    let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    let value = sum * power;
    if a.is_nan() { a } else { value }
}

/// 1 / n for odd n from 21 down to 1.
const INVERSE_ODD: [f64; 11] = {
    let mut table = [1.0; 11];
    let mut n = 0;
    while n < 11 {
        table[n] = 1.0 / (21 - 2 * n) as f64;
        n += 1;
    }
    table
};

/// log₂ a for an `f64` that was an `f32`.
#[inline(always)]
fn logarithm(a: f64) -> f64 {
    let bits = a.to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    let fraction = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    let above = fraction > SQRT_2;
    let (fraction, exponent) =
        if above { (fraction * 0.5, exponent + 1) } else { (fraction, exponent) };
    // ln m = 2 artanh((m − 1) / (m + 1)), as a series of odd powers; |s| < 0.172.
    let s = (fraction - 1.0) / (fraction + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for coefficient in INVERSE_ODD {
        sum = sum * square + coefficient;
    }
    let value = f64::from(exponent) + 2.0 * LOG2_E * s * sum;
    if a > 0.0 {
        if a == f64::INFINITY { a } else { value }
    } else if a == 0.0 {
        f64::NEG_INFINITY
    } else {
        f64::NAN
    }
}

/// A result that is off by a pseudo-random part of the bound; the same for the same arguments.
/// Results that the manual lists as exact stay: those of zeros, infinities and NaN.
#[cold]
#[inline(never)]
fn disturb(index: usize, seed: u64, arguments: [f32; 2], exact: f64) -> f32 {
    let nearest = exact as f32;
    let special = |x: f32| x == 0.0 || !x.is_finite();
    let quotient = index == DIVIDE || index == DIVIDE_FULL;
    if special(arguments[0]) || quotient && special(arguments[1]) || !nearest.is_finite() {
        return nearest;
    }
    let allowed = APPROXIMATIONS[index].bound.allowed(f64::from(arguments[0]), exact);
    let bits = u64::from(arguments[0].to_bits()) << 32 | u64::from(arguments[1].to_bits());
    let draw = scramble(seed ^ scramble(bits ^ scramble(index as u64)));
    // Every fourth result lies at the bound itself.
    let part = match draw & 7 {
        0 => 1.0,
        1 => -1.0,
        _ => (draw >> 11) as f64 * f64::EPSILON - 1.0,
    };
    // Rounding must not carry it over the bound.
    let mut off = (exact + part * allowed) as f32;
    while (f64::from(off) - exact).abs() > allowed && off != nearest {
        off = if f64::from(off) > exact { off.next_down() } else { off.next_up() };
    }
    off
}

/// A bijective mix of 64 bits (the finaliser of SplitMix64).
pub(crate) fn scramble(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}
