//! Transposes of small squares, in registers where the machine has them. What squares are cut of is the callers'.

#[cfg(target_arch = "x86_64")]
use crate::simd::{Simd, level};
use crate::{DType, Element};

/// Numbers along a side of a square: those of the widest register in `f32`.
pub(crate) const SIDE: usize = 16;

/// Rows of numbers.
pub(crate) type Square<A> = [[A; SIDE]; SIDE];

/// Exchanges rows and columns.
pub(crate) fn transpose<A: Element>(square: &mut Square<A>) {
    match A::DTYPE {
        DType::F32 => transpose_f32(bytemuck::cast_mut(square)),
        _ => one_by_one(square),
    }
}

fn one_by_one<A: Copy>(square: &mut Square<A>) {
    let old = *square;
    for (i, row) in square.iter_mut().enumerate() {
        for (to, from) in row.iter_mut().zip(&old) {
            *to = from[i];
        }
    }
}

fn transpose_f32(square: &mut Square<f32>) {
    #[cfg(target_arch = "x86_64")]
    match level() {
        // SAFETY: `level` gives this only where the machine has these instructions.
        Simd::Avx512 | Simd::Avx512Bf16 => return unsafe { avx512(square) },
        // SAFETY: as above.
        Simd::Avx2 => return unsafe { avx2(square) },
        Simd::Portable => {}
    }
    one_by_one(square);
}

/// Numbers are exchanged within lanes of four, then whole lanes. Written without closures, which may be compiled apart,
/// for the baseline.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(square: &mut Square<f32>) {
    use std::arch::x86_64::*;
    let mut rows = [_mm512_setzero_ps(); SIDE];
    for (row, from) in rows.iter_mut().zip(square.iter()) {
        // SAFETY: a row is one register.
        *row = unsafe { _mm512_loadu_ps(from.as_ptr()) };
    }
    // Lane l of `lanes[4·g + j]` then holds column 4·l + j of the rows from 4·g on.
    let mut lanes = rows;
    for g in (0..SIDE).step_by(4) {
        let low = _mm512_castps_pd(_mm512_unpacklo_ps(rows[g], rows[g + 1]));
        let next_low = _mm512_castps_pd(_mm512_unpacklo_ps(rows[g + 2], rows[g + 3]));
        let high = _mm512_castps_pd(_mm512_unpackhi_ps(rows[g], rows[g + 1]));
        let next_high = _mm512_castps_pd(_mm512_unpackhi_ps(rows[g + 2], rows[g + 3]));
        lanes[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, next_low));
        lanes[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, next_low));
        lanes[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high, next_high));
        lanes[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high, next_high));
    }
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    for j in 0..4 {
        let upper_even = _mm512_shuffle_f32x4::<EVEN>(lanes[j], lanes[4 + j]);
        let upper_odd = _mm512_shuffle_f32x4::<ODD>(lanes[j], lanes[4 + j]);
        let lower_even = _mm512_shuffle_f32x4::<EVEN>(lanes[8 + j], lanes[12 + j]);
        let lower_odd = _mm512_shuffle_f32x4::<ODD>(lanes[8 + j], lanes[12 + j]);
        let columns = [
            _mm512_shuffle_f32x4::<EVEN>(upper_even, lower_even),
            _mm512_shuffle_f32x4::<EVEN>(upper_odd, lower_odd),
            _mm512_shuffle_f32x4::<ODD>(upper_even, lower_even),
            _mm512_shuffle_f32x4::<ODD>(upper_odd, lower_odd),
        ];
        for (lane, column) in columns.into_iter().enumerate() {
            // SAFETY: a row is one register.
            unsafe { _mm512_storeu_ps(square[4 * lane + j].as_mut_ptr(), column) };
        }
    }
}

/// As for AVX-512, in quarters: the two off the diagonal change places.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(square: &mut Square<f32>) {
    use std::arch::x86_64::*;
    const HALF: usize = SIDE / 2;
    let old = *square;
    for [row, column] in [[0, 0], [0, HALF], [HALF, 0], [HALF, HALF]] {
        let mut rows = [_mm256_setzero_ps(); HALF];
        for (row, from) in rows.iter_mut().zip(&old[row..]) {
            // SAFETY: half a row is one register.
            *row = unsafe { _mm256_loadu_ps(from[column..column + HALF].as_ptr()) };
        }
        let mut lanes = rows;
        for g in (0..HALF).step_by(4) {
            let low = _mm256_castps_pd(_mm256_unpacklo_ps(rows[g], rows[g + 1]));
            let next_low = _mm256_castps_pd(_mm256_unpacklo_ps(rows[g + 2], rows[g + 3]));
            let high = _mm256_castps_pd(_mm256_unpackhi_ps(rows[g], rows[g + 1]));
            let next_high = _mm256_castps_pd(_mm256_unpackhi_ps(rows[g + 2], rows[g + 3]));
            lanes[g] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, next_low));
            lanes[g + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, next_low));
            lanes[g + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high, next_high));
            lanes[g + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high, next_high));
        }
        for j in 0..4 {
            let columns = [
                _mm256_permute2f128_ps::<0x20>(lanes[j], lanes[4 + j]),
                _mm256_permute2f128_ps::<0x31>(lanes[j], lanes[4 + j]),
            ];
            for (lane, turned) in columns.into_iter().enumerate() {
                let to = &mut square[column + 4 * lane + j][row..row + HALF];
                // SAFETY: half a row is one register.
                unsafe { _mm256_storeu_ps(to.as_mut_ptr(), turned) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_exchanges_rows_and_columns() {
        let square: Square<f32> =
            std::array::from_fn(|i| std::array::from_fn(|j| (i * SIDE + j) as f32));
        let expected: Square<f32> = std::array::from_fn(|i| std::array::from_fn(|j| square[j][i]));
        let mut ways: Vec<fn(&mut Square<f32>)> = vec![one_by_one, transpose];
        #[cfg(target_arch = "x86_64")]
        {
            // SAFETY: either is called only where the machine has its instructions.
            let (wide, half) = (|s: &mut _| unsafe { avx512(s) }, |s: &mut _| unsafe { avx2(s) });
            if level() >= Simd::Avx512 {
                ways.push(wide);
            }
            if level() >= Simd::Avx2 {
                ways.push(half);
            }
        }
        for way in ways {
            let mut turned = square;
            way(&mut turned);
            assert_eq!(turned, expected);
        }
    }
}
