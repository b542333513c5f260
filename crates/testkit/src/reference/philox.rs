//! Philox 4x32-10 and dropout masks, written from the paper and from the addressing that `vitrine_tensor::random`
//! documents, not from its code.

use vitrine_tensor::{Dropout, StreamKey};

use super::Array;

/// Ten rounds of Philox 4x32 (Salmon et al. 2011, figure 2), in 64-bit integers.
fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut l1, mut r1, mut l2, mut r2] = counter.map(u64::from);
    let low = |x: u64| x & 0xffff_ffff;
    for round in 0..10 {
        let k1 = low(u64::from(key[0]) + round * 0x9E37_79B9);
        let k2 = low(u64::from(key[1]) + round * 0xBB67_AE85);
        let (p1, p2) = (0xD251_1F53 * l1, 0xCD9E_8D57 * l2);
        (l1, r1, l2, r2) = ((p2 >> 32) ^ r1 ^ k1, low(p2), (p1 >> 32) ^ r2 ^ k2, low(p1));
    }
    [l1, r1, l2, r2].map(|x| x as u32)
}

/// The random word of element `index`: word `(index/16) mod 4` of the counter `16·(index/64) + index mod 16`.
pub fn word(key: StreamKey, index: u64) -> u32 {
    let counter = 16 * (index / 64) + index % 16;
    let lane = index / 16 % 4;
    let low_and_high = |x: u64| [x as u32, (x >> 32) as u32];
    let [counter_low, counter_high] = low_and_high(counter);
    philox([counter_low, counter_high, key.stream, key.step as u32], low_and_high(key.seed))
        [lane as usize]
}

/// The factor of element `index`: 0 where it is dropped, else 1/(1−p).
pub fn factor(dropout: &Dropout, index: u64) -> f64 {
    let p = dropout.probability;
    if f64::from(word(dropout.key, index)) < (p * 4_294_967_296.0).round() {
        0.0
    } else {
        1.0 / (1.0 - p)
    }
}

/// The factor of each element of a tensor whose first axis counts samples. A tensor of one axis is one sample.
pub fn mask(dropout: Option<&Dropout>, shape: &[usize]) -> Array {
    let sample: usize = if shape.len() < 2 { shape } else { &shape[1..] }.iter().product();
    let stride = dropout.and_then(|d| d.sample_stride).unwrap_or(sample);
    let mut mask = Array::ones(shape);
    if let Some(dropout) = dropout {
        for (i, value) in mask.iter_mut().enumerate() {
            *value = factor(dropout, (i / sample * stride + i % sample) as u64);
        }
    }
    mask
}

/// What dropout leaves of values: a dropped one is 0, whatever it was.
pub fn dropped(values: &Array, mask: &Array) -> Array {
    let mut left = values * mask;
    left.iter_mut().zip(mask).filter(|(_, factor)| **factor == 0.0).for_each(|(v, _)| *v = 0.0);
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_published_answers() {
        // Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let pi = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let answer = [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1];
        assert_eq!(philox(pi, [0xa409_3822, 0x299f_31d0]), answer);
    }

    #[test]
    fn masks_are_those_of_the_tensor_crate() {
        for (seed, step, stream, p) in
            [(0, 0, 0, 0.1), (u64::MAX, 77, 9, 0.5), (1 << 40, 1 << 31, u32::MAX, 0.999)]
        {
            let dropout = Dropout::new(p, StreamKey { seed, step, stream });
            for first in [0, 1, 63, 64, 1000, (1 << 38) - 5] {
                let mut seen = 0;
                dropout.for_each(first, 200, |i, kept| {
                    assert_eq!(kept, factor(&dropout, first + i as u64) != 0.0, "{first} + {i}");
                    seen += 1;
                });
                assert_eq!(seen, 200);
            }
        }
    }
}
