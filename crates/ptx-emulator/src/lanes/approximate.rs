//! The `.approx` instructions: by default the exact result rounded once; on demand off by as much
//! as the PTX ISA manual allows. The table of bounds is [`APPROXIMATIONS`].

use std::f64::consts::LN_2;

use super::rounding::canonical;
use super::{Entry, Lane, Table, versions};
use crate::registers::{LANES, Narrow};
use crate::types::Kind;

/// An instruction that only approximates, and the bound that the PTX ISA manual states.
#[derive(Clone, Copy, Debug)]
pub struct Approximation {
    /// The instruction.
    pub instruction: &'static str,
    /// The section of the PTX ISA manual, version 9.0.
    pub section: &'static str,
    /// The stated bound in units in the last place of the result.
    pub ulps: f64,
}

impl Approximation {
    /// The largest permitted difference from the exact result.
    pub fn allowed(&self, exact: f64) -> f64 {
        let exponent = ((exact.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(-126);
        self.ulps * f64::from(exponent - 23).exp2()
    }
}

/// The approximating instructions with their bounds from the PTX ISA manual, version 9.0.
pub const APPROXIMATIONS: [Approximation; 2] = [
    Approximation { instruction: "rcp.approx.ftz.f32", section: "9.7.3.13", ulps: 1.0 },
    Approximation { instruction: "ex2.approx.ftz.f32", section: "9.7.3.21", ulps: 2.0 },
];

pub(super) fn fill(table: &mut Table) {
    macro_rules! one {
        ($index:literal, |$a:ident| $body:expr) => {{
            #[inline(always)]
            fn exact($a: f64) -> f64 {
                $body
            }
            let versions = versions!(|registers, slots, mask| {
                let noise = registers.noise;
                let a = <f32 as Lane>::row(registers, slots.a);
                let mut result = Narrow::ZERO;
                for lane in 0..LANES {
                    let x = flushed(<f32 as Lane>::get(a, lane));
                    result.0[lane] = single(exact(f64::from(x)) as f32).to_bits();
                }
                if let Some(seed) = noise {
                    for lane in 0..LANES {
                        let x = flushed(<f32 as Lane>::get(a, lane));
                        let off = disturb($index, seed, x, exact(f64::from(x)));
                        result.0[lane] = single(off).to_bits();
                    }
                }
                registers.set_narrow(slots.d, &result, mask);
            });
            let name = APPROXIMATIONS[$index].instruction;
            table.add(&[name], Entry { result: Kind::B32, inputs: &[Kind::B32], versions });
        }};
    }
    one!(0, |a| 1.0 / a);
    one!(1, |a| exponential(a));
}

/// Of `.ftz`: subnormal numbers count as zero.
#[inline(always)]
fn flushed(value: f32) -> f32 {
    let small = value.to_bits() & 0x7f80_0000 == 0;
    if small { 0.0f32.copysign(value) } else { value }
}

#[inline(always)]
fn single(value: f32) -> f32 {
    canonical(flushed(value))
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

/// A result that is off by a pseudo-random part of the bound; the same for the same argument.
/// Results that the manual lists as exact stay: those of zeros, infinities and NaN.
#[cold]
#[inline(never)]
fn disturb(index: usize, seed: u64, argument: f32, exact: f64) -> f32 {
    let nearest = exact as f32;
    if argument == 0.0 || !argument.is_finite() || !nearest.is_finite() {
        return nearest;
    }
    let allowed = APPROXIMATIONS[index].allowed(exact);
    let bits = u64::from(argument.to_bits());
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
