//! Which micro-kernels this machine uses, for each element type.

use std::sync::OnceLock;

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

fn portable<A: Real>() -> MicroKernels<A> {
    MicroKernels { large: micro_kernel::portable(), small: Vec::new() }
}

#[cfg(target_arch = "x86_64")]
fn for_f32() -> MicroKernels<f32> {
    match level() {
        Simd::Portable => portable(),
        Simd::Avx2 => MicroKernels { large: avx2::f32_kernel(), small: Vec::new() },
        Simd::Avx512 | Simd::Avx512Bf16 => MicroKernels {
            large: avx512::f32_kernel::<14, 2>(),
            small: vec![
                avx512::f32_kernel::<14, 1>(),
                avx512::f32_kernel::<14, 2>(),
                avx512::f32_kernel::<8, 3>(),
                avx512::f32_kernel::<6, 4>(),
            ],
        },
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn for_f32() -> MicroKernels<f32> {
    portable()
}

#[cfg(target_arch = "x86_64")]
fn for_bf16() -> MicroKernels<f32> {
    match level() {
        Simd::Avx512Bf16 => MicroKernels {
            large: avx512::bf16_kernel::<14, 2>(),
            small: vec![
                avx512::bf16_kernel::<14, 1>(),
                avx512::bf16_kernel::<14, 2>(),
                avx512::bf16_kernel::<8, 3>(),
                avx512::bf16_kernel::<6, 4>(),
            ],
        },
        _ => for_f32(),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn for_bf16() -> MicroKernels<f32> {
    portable()
}

/// For `f32`.
pub(crate) fn f32_kernels() -> &'static MicroKernels<f32> {
    static KERNELS: OnceLock<MicroKernels<f32>> = OnceLock::new();
    KERNELS.get_or_init(for_f32)
}

/// For `bf16`, with sums in `f32`: pairs where that is fast, else values widened to `f32`.
pub(crate) fn bf16_kernels() -> &'static MicroKernels<f32> {
    static KERNELS: OnceLock<MicroKernels<f32>> = OnceLock::new();
    KERNELS.get_or_init(for_bf16)
}

/// For `f64`.
pub(crate) fn f64_kernels() -> &'static MicroKernels<f64> {
    static KERNELS: OnceLock<MicroKernels<f64>> = OnceLock::new();
    KERNELS.get_or_init(portable)
}
