//! Random numbers: known answers, where a mask is cut, and the distributions.

use vitrine_tensor::random::*;

#[test]
fn philox_gives_the_published_answers() {
    // Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
    assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    assert_eq!(
        philox([u32::MAX; 4], [u32::MAX; 2]),
        [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
    );
    assert_eq!(
        philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
    );
}

#[test]
fn a_block_is_sixteen_counters_of_four_words() {
    let key = StreamKey { seed: 0x1234_5678_9abc_def0, step: 77, stream: 5 };
    for block in [0, 1, u64::from(u32::MAX) / 16] {
        let words = key.block(block);
        for (element, &word) in words.iter().enumerate() {
            let counter = block * 16 + (element % 16) as u64;
            let counter = [counter as u32, (counter >> 32) as u32, key.stream, key.step as u32];
            let whole = philox(counter, [key.seed as u32, (key.seed >> 32) as u32]);
            assert_eq!(word, whole[element / 16]);
        }
    }
}

const KEY: StreamKey = StreamKey { seed: 7, step: 3, stream: 1 };

fn mask(dropout: &Dropout, index: u64, len: usize) -> Vec<Option<bool>> {
    let mut out = vec![None; len];
    dropout.for_each(index, len, |i, kept| out[i] = Some(kept));
    out
}

#[test]
fn a_mask_does_not_depend_on_where_it_is_cut() {
    let dropout = Dropout::new(0.3, KEY);
    let whole = mask(&dropout, 0, 1000);
    for (start, len) in [(0, 1), (1, 63), (63, 2), (37, 500), (64, 64), (999, 1)] {
        assert_eq!(mask(&dropout, start as u64, len), whole[start..start + len]);
    }
}

#[test]
fn the_share_of_dropped_elements_is_the_probability() {
    let n = 200_000;
    let dropped =
        mask(&Dropout::new(0.1, KEY), 0, n).iter().filter(|&&kept| kept == Some(false)).count()
            as f64;
    // Five standard deviations of a binomial count.
    assert!((dropped - 0.1 * n as f64).abs() < 5.0 * (0.09 * n as f64).sqrt(), "{dropped}");
}

#[test]
fn streams_steps_and_seeds_differ() {
    let words = KEY.block(0);
    for other in
        [StreamKey { seed: 8, ..KEY }, StreamKey { step: 4, ..KEY }, StreamKey { stream: 2, ..KEY }]
    {
        assert_ne!(words, other.block(0));
    }
}

#[test]
fn normal_numbers_have_mean_0_and_variance_1() {
    let n = 100_000;
    let x: Vec<f64> = KEY.normal().take(n).collect();
    let mean = x.iter().sum::<f64>() / n as f64;
    let variance = x.iter().map(|v| v * v).sum::<f64>() / n as f64;
    assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    assert!(KEY.normal().take(3).eq(x[..3].iter().copied()));
}
