//! The micro-kernels for AVX-512: `f32`, and `bf16` with two products to a lane.

use std::arch::x86_64::*;

use super::micro_kernel::{MicroKernel, Operands, Tile, TileFunction, check};

/// Numbers in a register.
const LANES: usize = 16;

/// A tile of `ROWS` rows by `VECTORS` registers of `f32`: 14 by 2, 8 by 3 and 6 by 4 fill the 32 registers. With
/// `PAIRS` a word is two `bf16`, whose products are exact.
pub(crate) fn kernel<const ROWS: usize, const VECTORS: usize, const PAIRS: bool>()
-> MicroKernel<f32> {
    let short =
        [(4, tile::<4, VECTORS, PAIRS> as TileFunction<f32>), (10, tile::<10, VECTORS, PAIRS>)];
    let short = short.into_iter().filter(|&(rows, _)| rows < ROWS).collect();
    let (columns, tile) = (VECTORS * LANES, tile::<ROWS, VECTORS, PAIRS>);
    MicroKernel { rows: ROWS, columns, block_rows: 126, pairs: PAIRS, tile, short }
}

fn tile<const ROWS: usize, const VECTORS: usize, const PAIRS: bool>(
    o: Operands<'_, f32>,
    t: Tile<'_, f32>,
) {
    check(&o, &t, ROWS, VECTORS * LANES);
    match PAIRS {
        // SAFETY: `check` holds; the kernel is handed out only where AVX512-BF16 was found.
        true => unsafe { bf16_tile::<ROWS, VECTORS>(&o, t) },
        // SAFETY: the same with AVX-512.
        false => unsafe { f32_tile::<ROWS, VECTORS>(&o, t) },
    }
}

/// The body of both tiles, in one function each: were it a function of its own, the sums would live in memory.
macro_rules! tile {
    ($o:ident, $t:ident, |$sum:ident, $a:ident, $b:ident| $multiply_add:expr) => {{
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
        let [over_rows, over_depth] = $o.a_strides;
        let (start, stride, rows) = ($t.to.start(), $t.to.row_stride(), $t.to.rows());
        for i in 0..rows {
            for j in 0..VECTORS {
                let to = start.wrapping_add(i * stride + j * LANES);
                _mm_prefetch::<_MM_HINT_T0>(to.cast());
            }
        }
        let step = $o.next.len() / $o.depth;
        for k in 0..$o.depth {
            for j in 0..VECTORS {
                let next = $o.next.as_ptr().wrapping_add(k * step + j * LANES);
                _mm_prefetch::<_MM_HINT_T1>(next.cast());
            }
            let mut b = [_mm512_setzero_ps(); VECTORS];
            for (j, b) in b.iter_mut().enumerate() {
                // SAFETY: `check` found word `depth − 1` of the last column in `b`.
                *b = unsafe { _mm512_loadu_ps($o.b.as_ptr().add(k * $o.b_stride + j * LANES)) };
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: `check` found word `depth − 1` of the last row in `a`.
                let $a = unsafe { *$o.a.as_ptr().add(i * over_rows + k * over_depth) };
                let $a = _mm512_set1_ps($a);
                for ($sum, $b) in sums.iter_mut().zip(b) {
                    *$sum = $multiply_add;
                }
            }
        }
        let masks: [u16; VECTORS] = std::array::from_fn(|j| {
            let columns = $t.to.columns().saturating_sub(j * LANES).min(LANES);
            ((1u32 << columns) - 1) as u16
        });
        for (i, sums) in sums.into_iter().enumerate() {
            if i < rows {
                for (j, (sum, mask)) in sums.into_iter().zip(masks).enumerate() {
                    let to = start.wrapping_add(i * stride + j * LANES);
                    // SAFETY: row i is one of the destination's; the mask ends at its last column.
                    unsafe {
                        let sum = match $t.add {
                            true => _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), sum),
                            false => sum,
                        };
                        _mm512_mask_storeu_ps(to, mask, sum);
                    }
                }
            }
        }
    }};
}

/// # Safety
/// `check` must hold for the arguments.
#[target_feature(enable = "avx512f")]
unsafe fn f32_tile<const ROWS: usize, const VECTORS: usize>(
    o: &Operands<'_, f32>,
    mut t: Tile<'_, f32>,
) {
    tile!(o, t, |sum, a, b| _mm512_fmadd_ps(a, b, *sum));
}

/// # Safety
/// `check` must hold for the arguments.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bf16_tile<const ROWS: usize, const VECTORS: usize>(
    o: &Operands<'_, f32>,
    mut t: Tile<'_, f32>,
) {
    // SAFETY: each type is 512 bits that may have any content.
    let pairs = |words: __m512| unsafe { std::mem::transmute::<__m512, __m512bh>(words) };
    tile!(o, t, |sum, a, b| _mm512_dpbf16_ps(*sum, pairs(a), pairs(b)));
}
