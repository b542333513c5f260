//! Transposes of small squares, in registers where the machine has them. What squares are cut of is the callers'.

#[cfg(target_arch = "x86_64")]
use super::simd::{Simd, level};

/// Numbers along a side of a square: those of the widest register in `f32`.
pub(crate) const SIDE: usize = 16;

/// Rows of numbers.
pub(crate) type Square<A> = [[A; SIDE]; SIDE];

/// Transposes a square of any type.
pub(crate) fn transpose<A: Copy>(square: &mut Square<A>) {
    let old = *square;
    for (i, row) in square.iter_mut().enumerate() {
        for (to, from) in row.iter_mut().zip(&old) {
            *to = from[i];
        }
    }
}

/// Transposes a square of `f32`.
#[cfg(target_arch = "x86_64")]
pub(crate) fn transpose_f32(square: &mut Square<f32>) {
    match level() {
        // SAFETY: `level` gives this only where the machine has these instructions.
        Simd::Avx512 | Simd::Avx512Bf16 => unsafe { avx512(square) },
        // SAFETY: as above.
        Simd::Avx2 => unsafe { avx2(square) },
        Simd::Portable => transpose(square),
    }
}

/// Transposes a square of `f32`.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn transpose_f32(square: &mut Square<f32>) {
    transpose(square);
}

/// Numbers are exchanged in registers of four lanes: within lanes of four numbers, then whole lanes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(square: &mut Square<f32>) {
    use std::arch::x86_64::*;
    // SAFETY: a row is one register.
    let rows = square.each_ref().map(|row| unsafe { _mm512_loadu_ps(row.as_ptr()) });
    // Lane l of `lanes[4·g + j]` holds column 4·l + j of the rows from 4·g on.
    let mut lanes = rows;
    for g in (0..SIDE).step_by(4) {
        let [a, b, c, d] = [rows[g], rows[g + 1], rows[g + 2], rows[g + 3]];
        let low = [_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d)].map(|r| _mm512_castps_pd(r));
        let high =
            [_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d)].map(|r| _mm512_castps_pd(r));
        lanes[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(low[0], low[1]));
        lanes[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low[0], low[1]));
        lanes[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high[0], high[1]));
        lanes[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high[0], high[1]));
    }
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    for j in 0..4 {
        let [a, b, c, d] = [lanes[j], lanes[4 + j], lanes[8 + j], lanes[12 + j]];
        let upper_even = _mm512_shuffle_f32x4::<EVEN>(a, b);
        let upper_odd = _mm512_shuffle_f32x4::<ODD>(a, b);
        let lower_even = _mm512_shuffle_f32x4::<EVEN>(c, d);
        let lower_odd = _mm512_shuffle_f32x4::<ODD>(c, d);
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

/// As for AVX-512, in four quarters.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(square: &mut Square<f32>) {
    use std::arch::x86_64::*;
    const HALF: usize = SIDE / 2;
    let quarter = |square: &Square<f32>, row: usize, column: usize| -> [__m256; HALF] {
        let rows: [__m256; HALF] = std::array::from_fn(|i| {
            // SAFETY: half a row is one register.
            unsafe { _mm256_loadu_ps(square[row + i][column..column + HALF].as_ptr()) }
        });
        let mut lanes = rows;
        for g in (0..HALF).step_by(4) {
            let [a, b, c, d] = [rows[g], rows[g + 1], rows[g + 2], rows[g + 3]];
            let low =
                [_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d)].map(|r| _mm256_castps_pd(r));
            let high =
                [_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d)].map(|r| _mm256_castps_pd(r));
            lanes[g] = _mm256_castpd_ps(_mm256_unpacklo_pd(low[0], low[1]));
            lanes[g + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low[0], low[1]));
            lanes[g + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high[0], high[1]));
            lanes[g + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high[0], high[1]));
        }
        let mut columns = lanes;
        for j in 0..4 {
            columns[j] = _mm256_permute2f128_ps::<0x20>(lanes[j], lanes[4 + j]);
            columns[4 + j] = _mm256_permute2f128_ps::<0x31>(lanes[j], lanes[4 + j]);
        }
        columns
    };
    let quarters = [[0, 0], [0, HALF], [HALF, 0], [HALF, HALF]];
    let turned = quarters.map(|[row, column]| quarter(square, row, column));
    for ([row, column], turned) in quarters.into_iter().zip(turned) {
        for (i, turned) in turned.into_iter().enumerate() {
            let to = &mut square[column + i][row..row + HALF];
            // SAFETY: half a row is one register.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), turned) };
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
        let mut ways: Vec<fn(&mut Square<f32>)> = vec![transpose, transpose_f32];
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
