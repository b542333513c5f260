//! Single pictures become what torchvision makes of them. `golden/make.py` made the reference.

use std::path::Path;

use vitrine_data::{DataError, decode_image, load_image};

const PNG: &[u8] = include_bytes!("golden/picture.png");
const JPEG: &[u8] = include_bytes!("golden/picture.jpg");
const EXPECTED: &[u8] = include_bytes!("golden/picture.bin");
const SIZE: (usize, usize) = (20, 31);

#[test]
fn a_png_equals_torchvision() {
    let (gray, rgb) = EXPECTED.split_at(SIZE.0 * SIZE.1);
    for (channels, expected) in [(1, gray), (3, rgb)] {
        let actual = decode_image("picture", PNG, channels, SIZE).unwrap();
        let expected: Vec<f32> = expected.iter().map(|&v| f32::from(v) / 255.0).collect();
        assert_eq!(actual, expected, "{channels} channels");
    }
}

/// Decoders of JPEG may round differently, so this one is only near.
#[test]
fn a_jpeg_is_near_the_png() {
    let png = decode_image("picture", PNG, 3, SIZE).unwrap();
    let jpeg = decode_image("picture", JPEG, 3, SIZE).unwrap();
    let mean = png.iter().zip(&jpeg).map(|(a, b)| (a - b).abs()).sum::<f32>() / png.len() as f32;
    assert!(mean < 2.0 / 255.0, "mean difference {mean}");
}

#[test]
fn a_file_equals_its_bytes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/picture.png");
    let from_file = load_image(&path, 1, SIZE).unwrap();
    assert_eq!(from_file, decode_image("bytes", PNG, 1, SIZE).unwrap());
}

#[test]
fn bad_pictures_have_clear_errors() {
    let missing = load_image(Path::new("/no/such/cat.png"), 1, SIZE).unwrap_err();
    assert!(matches!(missing, DataError::Io { .. }));
    assert!(missing.to_string().contains("/no/such/cat.png"), "{missing}");

    let truncated = decode_image("cat.png", &PNG[..PNG.len() / 2], 1, SIZE).unwrap_err();
    assert!(matches!(truncated, DataError::Decode { .. }), "{truncated:?}");
    assert!(truncated.to_string().contains("cat.png"), "{truncated}");

    for bytes in [b"".as_slice(), b"hello, this is text"] {
        let error = decode_image("-", bytes, 1, SIZE).unwrap_err();
        assert!(matches!(error, DataError::Decode { .. }), "{error:?}");
    }
    for (channels, size) in [(2, SIZE), (0, SIZE), (1, (0, 5))] {
        let error = decode_image("-", PNG, channels, size).unwrap_err();
        assert!(matches!(error, DataError::BadSetting { .. }), "{error:?}");
    }
}
