//! Which vector instructions to use, chosen at run time, and the macro that compiles a loop once for each choice.

use std::sync::OnceLock;

/// A set of vector instructions that loops are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Simd {
    /// What every machine of the target has.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
}

/// The best set that this machine has; `VITRINE_SIMD=portable`, `avx2` or `avx512` sets an upper limit.
pub(crate) fn level() -> Simd {
    static LEVEL: OnceLock<Simd> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let limit = match std::env::var("VITRINE_SIMD").as_deref() {
            Ok("portable") => Simd::Portable,
            Ok("avx2") => Simd::Avx2,
            _ => Simd::Avx512,
        };
        detected().min(limit)
    })
}

#[cfg(target_arch = "x86_64")]
fn detected() -> Simd {
    use std::arch::is_x86_feature_detected as has;
    if !(has!("avx2") && has!("fma")) {
        Simd::Portable
    } else if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
        Simd::Avx512
    } else {
        Simd::Avx2
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detected() -> Simd {
    Simd::Portable
}

/// Defines a function whose body is compiled for each [`Simd`] set; the call chooses. The body is plain Rust that the
/// compiler vectorises: every set gives the same bits, as nothing is fused or reordered.
macro_rules! simd {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$T:ident: $bound:ident>(
        $($arg:ident: $type:ty),* $(,)?
    ) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name<$T: $bound>($($arg: $type),*) $(-> $ret)? {
            #[inline(always)]
            fn plain<$T: $bound>($($arg: $type),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2<$T: $bound>($($arg: $type),*) $(-> $ret)? {
                plain::<$T>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512<$T: $bound>($($arg: $type),*) $(-> $ret)? {
                plain::<$T>($($arg),*)
            }

            match $crate::cpu::simd::level() {
                // SAFETY: `level` gives this only where the machine has these instructions.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd::Simd::Avx512 => unsafe { avx512::<$T>($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::cpu::simd::Simd::Avx2 => unsafe { avx2::<$T>($($arg),*) },
                _ => plain::<$T>($($arg),*),
            }
        }
    };
}
pub(crate) use simd;
