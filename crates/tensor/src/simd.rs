//! Which vector instructions to use, chosen at run time, and the macro [`simd!`](crate::simd!) that compiles a loop
//! once for each choice, here and in other crates.

use std::sync::OnceLock;

/// A set of vector instructions that loops are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Simd {
    /// What every machine of the target has.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 with products of `bf16` pairs.
    Avx512Bf16,
}

/// The best set that this machine has; `VITRINE_SIMD=portable`, `avx2`, `avx512` or `avx512bf16` sets an upper limit.
///
/// Without a limit, pairs of `bf16` are multiplied on AMD's processors only: on Intel's (measured on model 207) that
/// instruction gives half the products a second of plain `f32`, which `bf16` values can be multiplied in exactly.
pub fn level() -> Simd {
    static LEVEL: OnceLock<Simd> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let [detected, fast] = detected();
        detected.min(match std::env::var("VITRINE_SIMD").as_deref() {
            Ok("portable") => Simd::Portable,
            Ok("avx2") => Simd::Avx2,
            Ok("avx512") => Simd::Avx512,
            Ok("avx512bf16") => Simd::Avx512Bf16,
            _ => fast,
        })
    })
}

/// The best set that this machine has, and the best that its maker's machines are quick with.
#[cfg(target_arch = "x86_64")]
fn detected() -> [Simd; 2] {
    use std::arch::is_x86_feature_detected as has;
    let detected = if !(has!("avx2") && has!("fma")) {
        Simd::Portable
    } else if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
        if has!("avx512bf16") { Simd::Avx512Bf16 } else { Simd::Avx512 }
    } else {
        Simd::Avx2
    };
    // The three registers hold the maker's name, here "AuthenticAMD".
    let maker = std::arch::x86_64::__cpuid(0);
    let maker = [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes);
    [
        detected,
        if maker.as_flattened() == b"AuthenticAMD" { Simd::Avx512Bf16 } else { Simd::Avx512 },
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn detected() -> [Simd; 2] {
    [Simd::Portable; 2]
}

/// How near values are brought.
#[derive(Clone, Copy)]
pub(crate) enum Near {
    /// Into the first-level cache: they are read next.
    First,
    /// Into the second-level cache: they are read soon.
    Second,
}

/// Asks for values to be brought near.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T], near: Near) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        // From the start of a cache line, so that the line that holds the last value is asked for too.
        let before = values.as_ptr().addr() % 64;
        let start = values.as_ptr().cast::<i8>().wrapping_sub(before);
        for line in (0..size_of_val(values) + before).step_by(64) {
            let line = start.wrapping_add(line);
            // SAFETY: a prefetch changes no value and may be given any address.
            unsafe {
                match near {
                    Near::First => _mm_prefetch::<_MM_HINT_T0>(line),
                    Near::Second => _mm_prefetch::<_MM_HINT_T1>(line),
                }
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, near);
}

/// Defines functions whose bodies are compiled for each [`Simd`](crate::simd::Simd) set; the call chooses. A body is
/// plain Rust that the compiler vectorises: every set gives the same bits, as nothing is fused or reordered.
#[macro_export]
macro_rules! simd {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident $(<$T:ident: $bound:ident>)? (
        $($arg:ident: $type:ty),* $(,)?
    ) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$meta])*
        $vis fn $name $(<$T: $bound>)? ($($arg: $type),*) $(-> $ret)? {
            #[inline(always)]
            fn plain $(<$T: $bound>)? ($($arg: $type),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2 $(<$T: $bound>)? ($($arg: $type),*) $(-> $ret)? {
                plain $(::<$T>)? ($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512 $(<$T: $bound>)? ($($arg: $type),*) $(-> $ret)? {
                plain $(::<$T>)? ($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            use $crate::simd::Simd;
            match $crate::simd::level() {
                // SAFETY: `level` gives this only where the machine has these instructions.
                #[cfg(target_arch = "x86_64")]
                Simd::Avx512 | Simd::Avx512Bf16 => unsafe { avx512 $(::<$T>)? ($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Simd::Avx2 => unsafe { avx2 $(::<$T>)? ($($arg),*) },
                _ => plain $(::<$T>)? ($($arg),*),
            }
        }
    )*};
}
