//! Which micro-kernels this machine uses, for each element type.

use super::super::number::Real;
use super::micro_kernel::{self, MicroKernel};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Simd, level};

/// The micro-kernels for one element type.
pub(crate) struct MicroKernels<A> {
    /// For packed operands.
    pub(super) large: MicroKernel<A>,
    /// For operands that are not packed, narrow ones first.
    small: Vec<MicroKernel<A>>,
}

impl<A> MicroKernels<A> {
    /// Whether a word of the operands is two `bf16`.
    pub(crate) fn pairs(&self) -> bool {
        self.large.pairs
    }

    /// The kernel for that many columns: the narrowest that takes all, else the widest.
    pub(super) fn small(&self, columns: usize) -> &MicroKernel<A> {
        let fits = self.small.iter().find(|kernel| columns <= kernel.columns);
        fits.or(self.small.last()).unwrap_or(&self.large)
    }
}

/// For machines without kernels of their own.
pub(crate) fn portable<A: Real>() -> MicroKernels<A> {
    MicroKernels { large: micro_kernel::portable(), small: Vec::new() }
}

/// For `f32`.
pub(crate) fn for_f32() -> MicroKernels<f32> {
    #[cfg(target_arch = "x86_64")]
    match level() {
        Simd::Portable => {}
        Simd::Avx2 => return MicroKernels { large: avx2::f32_kernel(), small: Vec::new() },
        Simd::Avx512 | Simd::Avx512Bf16 => return for_avx512::<false>(),
    }
    portable()
}

/// For `bf16`, with sums in `f32`: pairs where that is fast, else values widened to `f32`.
pub(crate) fn for_bf16() -> MicroKernels<f32> {
    #[cfg(target_arch = "x86_64")]
    if level() == Simd::Avx512Bf16 {
        return for_avx512::<true>();
    }
    for_f32()
}

#[cfg(target_arch = "x86_64")]
fn for_avx512<const PAIRS: bool>() -> MicroKernels<f32> {
    MicroKernels {
        large: avx512::kernel::<14, 2, PAIRS>(),
        small: vec![
            avx512::kernel::<14, 1, PAIRS>(),
            avx512::kernel::<14, 2, PAIRS>(),
            avx512::kernel::<8, 3, PAIRS>(),
            avx512::kernel::<6, 4, PAIRS>(),
        ],
    }
}
