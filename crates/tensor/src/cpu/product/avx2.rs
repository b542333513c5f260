//! The micro-kernel for AVX2 with FMA: 6 rows by 16 columns, 12 of the 16 registers.

use std::arch::x86_64::*;

use super::micro_kernel::{MicroKernel, Operands, Tile, check};

/// Numbers in a register.
const LANES: usize = 8;
const ROWS: usize = 6;
const VECTORS: usize = 2;

/// The kernel for `f32`.
pub(crate) fn f32_kernel() -> MicroKernel<f32> {
    fn tile(o: Operands<'_, f32>, t: Tile<'_, f32>) {
        check(&o, &t, ROWS, VECTORS * LANES);
        // SAFETY: `check` holds; the kernel is handed out only where AVX2 and FMA were found.
        unsafe { f32_tile(&o, t) }
    }
    let (columns, short) = (VECTORS * LANES, Vec::new());
    // Most processors without AVX-512 have 512 KiB to a core.
    MicroKernel { rows: ROWS, columns, block_rows: 66, pairs: false, tile, short }
}

/// # Safety
/// `check` must hold for the arguments.
#[target_feature(enable = "avx2,fma")]
unsafe fn f32_tile(o: &Operands<'_, f32>, mut t: Tile<'_, f32>) {
    let mut sums = [[_mm256_setzero_ps(); VECTORS]; ROWS];
    let [over_rows, over_depth] = o.a_strides;
    let step = o.next.len().div_ceil(o.depth);
    for k in 0..o.depth {
        _mm_prefetch::<_MM_HINT_T1>(o.next.as_ptr().wrapping_add(k * step).cast());
        let mut b = [_mm256_setzero_ps(); VECTORS];
        for (j, b) in b.iter_mut().enumerate() {
            // SAFETY: `check` found word `depth − 1` of the last column in `b`.
            *b = unsafe { _mm256_loadu_ps(o.b.as_ptr().add(k * o.b_stride + j * LANES)) };
        }
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `check` found word `depth − 1` of the last row in `a`.
            let a = unsafe { *o.a.as_ptr().add(i * over_rows + k * over_depth) };
            let a = _mm256_set1_ps(a);
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum = _mm256_fmadd_ps(a, b, *sum);
            }
        }
    }
    let (rows, whole) = (t.to.rows(), t.to.columns() == VECTORS * LANES);
    for (i, sums) in sums.into_iter().enumerate() {
        if i >= rows {
            break;
        }
        if whole {
            let to = t.to.row(i).as_mut_ptr();
            for (j, sum) in sums.into_iter().enumerate() {
                // SAFETY: the row has all columns.
                unsafe {
                    let to = to.add(j * LANES);
                    let sum = if t.add { _mm256_add_ps(_mm256_loadu_ps(to), sum) } else { sum };
                    _mm256_storeu_ps(to, sum);
                }
            }
            continue;
        }
        let mut row = [0.0; VECTORS * LANES];
        for (row, sum) in row.chunks_exact_mut(LANES).zip(sums) {
            // SAFETY: `row` has room for a register.
            unsafe { _mm256_storeu_ps(row.as_mut_ptr(), sum) };
        }
        for (to, sum) in t.to.row(i).iter_mut().zip(row) {
            *to = if t.add { *to + sum } else { sum };
        }
    }
}
