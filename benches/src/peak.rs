//! The most multiply-adds that this machine does: loops of nothing else, in registers. Products are measured against
//! it.

use std::hint::black_box;

/// A loop of multiply-adds in registers, for one instruction of this machine; see [`peaks`].
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    /// The element type and the instruction set.
    pub name: &'static str,
    /// Floating-point operations in a round: two for each product and its addition.
    flops: u64,
    rounds: fn(u64),
}

impl Peak {
    /// Does `rounds` rounds on each of rayon's threads at the same time. Gives the floating-point operations of all.
    pub fn run(&self, rounds: u64) -> u64 {
        rayon::broadcast(|_| (self.rounds)(rounds)).len() as u64 * rounds * self.flops
    }
}

/// Sums that do not depend on each other: more than the products that are under way at a time, and few enough for the
/// sixteen registers of AVX2.
const SUMS: usize = 12;

/// Loops of nothing but multiply-adds, one for each instruction of this machine that does them, whatever `VITRINE_SIMD`
/// says: the pace that no product can exceed.
pub fn peaks() -> Vec<Peak> {
    let flops = |lanes: usize| (2 * SUMS * lanes) as u64;
    let mut peaks = vec![Peak { name: "f32_portable", flops: flops(4), rounds: portable }];
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        // SAFETY: each loop is listed only where its instructions were found.
        let avx2: fn(u64) = |rounds| unsafe { x86::f32_avx2(rounds) };
        // SAFETY: as above.
        let avx512: fn(u64) = |rounds| unsafe { x86::f32_avx512(rounds) };
        // SAFETY: as above.
        let pairs: fn(u64) = |rounds| unsafe { x86::bf16_avx512(rounds) };
        let all = [
            (has!("avx2") && has!("fma"), "f32_avx2", flops(8), avx2),
            (has!("avx512f"), "f32_avx512", flops(16), avx512),
            (has!("avx512f") && has!("avx512bf16"), "bf16_avx512", flops(32), pairs),
        ];
        let found = all.into_iter().filter(|(has, ..)| *has);
        peaks.extend(found.map(|(_, name, flops, rounds)| Peak { name, flops, rounds }));
    }
    peaks
}

/// A product and an addition apart, as the baseline of the target may lack an instruction for both.
fn portable(rounds: u64) {
    let (a, b) = black_box(([0.5f32; 4], [0.25f32; 4]));
    let mut sums = [[0.0f32; 4]; SUMS];
    for _ in 0..rounds {
        // Kept apart from the round before, or the compiler would do all rounds at once.
        let a = black_box(a);
        for sum in &mut sums {
            for ((sum, a), b) in sum.iter_mut().zip(a).zip(b) {
                *sum += a * b;
            }
        }
    }
    black_box(sums);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::SUMS;

    /// The loop: the factors are unknown to the compiler, the sums in registers.
    macro_rules! rounds {
        ($rounds:ident, $zero:expr, $factor:expr, |$sum:ident, $a:ident, $b:ident| $multiply_add:expr) => {{
            let ($a, $b) = (black_box($factor), black_box($factor));
            let mut sums = [$zero; SUMS];
            for _ in 0..$rounds {
                for $sum in &mut sums {
                    *$sum = $multiply_add;
                }
            }
            black_box(sums);
        }};
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn f32_avx2(rounds: u64) {
        let (zero, factor) = (_mm256_setzero_ps(), _mm256_set1_ps(0.5));
        rounds!(rounds, zero, factor, |sum, a, b| _mm256_fmadd_ps(a, b, *sum));
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn f32_avx512(rounds: u64) {
        let (zero, factor) = (_mm512_setzero_ps(), _mm512_set1_ps(0.5));
        rounds!(rounds, zero, factor, |sum, a, b| _mm512_fmadd_ps(a, b, *sum));
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn bf16_avx512(rounds: u64) {
        let zero = _mm512_setzero_ps();
        let factor = _mm512_cvtne2ps_pbh(zero, _mm512_set1_ps(0.5));
        rounds!(rounds, zero, factor, |sum, a, b| _mm512_dpbf16_ps(*sum, a, b));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loop_counts_what_all_threads_do() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for peak in peaks() {
            let flops = pool.install(|| peak.run(10));
            assert_eq!(flops, 3 * 10 * peak.flops, "{}", peak.name);
        }
        assert_eq!(peaks()[0].flops, 2 * 12 * 4);
    }
}
