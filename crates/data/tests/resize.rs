//! The resize gives the bytes of torchvision's `Resize` on PIL images. `golden/make.py` made the
//! reference.

use proptest::prelude::*;
use vitrine_data::{DataError, Interpolation, Rect, Resizer};

fn whole(from: (usize, usize), to: (usize, usize)) -> Result<Resizer, DataError> {
    Resizer::new(from, to, Rect::whole(to), Interpolation::Bilinear)
}

fn resize(from: (usize, usize), to: (usize, usize), source: &[u8]) -> Vec<u8> {
    let mut target = vec![0xAA; to.0 * to.1];
    let resizer = whole(from, to).unwrap();
    resizer.resize(source, from.1, &mut target, &mut Vec::new());
    target
}

#[test]
fn equals_torchvision() {
    let mut golden = include_bytes!("golden/resize.bin").as_slice();
    let mut cases = 0;
    while let Some((head, rest)) = golden.split_first_chunk::<8>() {
        let (sides, _) = head.as_chunks::<2>();
        let [h, w, to_h, to_w] = [0, 1, 2, 3].map(|i| usize::from(u16::from_le_bytes(sides[i])));
        let (source, rest) = rest.split_at(h * w);
        let (expected, rest) = rest.split_at(to_h * to_w);
        golden = rest;
        let actual = resize((h, w), (to_h, to_w), source);
        assert_eq!(actual, expected, "{h} x {w} to {to_h} x {to_w}");
        cases += 1;
    }
    assert!(golden.is_empty());
    assert_eq!(cases, 12);
}

#[test]
fn scratch_with_old_contents_does_not_matter() {
    let source: Vec<u8> = (0..28 * 28).map(|i| (i * 7 % 256) as u8).collect();
    let resizer = whole((28, 28), (40, 13)).unwrap();
    let mut target = vec![0; 40 * 13];
    resizer.resize(&source, 28, &mut target, &mut vec![0xFF; 5000]);
    assert_eq!(target, resize((28, 28), (40, 13), &source));
}

#[test]
fn a_size_without_pixels_is_refused() {
    for (from, to) in [((0, 5), (5, 5)), ((5, 5), (5, 0)), ((5, 5), (5, 65_536))] {
        let error = whole(from, to).unwrap_err();
        assert!(matches!(error, DataError::BadSetting { .. }), "{error}");
    }
}

proptest! {
    /// Whatever the sizes: nothing panics, a flat image stays flat, and no value leaves the
    /// source's range.
    #[test]
    fn stays_within_the_range_of_the_source(
        from in (1usize..40, 1usize..40),
        to in (1usize..80, 1usize..80),
        low in 0u8..=255,
        seed in 0usize..1000,
    ) {
        let span = 256 - usize::from(low);
        let source: Vec<u8> =
            (0..from.0 * from.1).map(|i| low + ((i + seed) * 7919 % 101 % span) as u8).collect();
        let target = resize(from, to, &source);
        let (min, max) = (source.iter().min().unwrap(), source.iter().max().unwrap());
        prop_assert!(target.iter().all(|v| (min..=max).contains(&v)));
    }
}
