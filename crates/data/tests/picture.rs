//! Single pictures become what torchvision makes of them. `golden/make.py` made the reference.

use std::path::Path;

use vitrine_data::{DataError, Image, Preprocessing, decode_image, load_image};

const PNG: &[u8] = include_bytes!("golden/picture.png");
const JPEG: &[u8] = include_bytes!("golden/picture.jpg");
const EXPECTED: &[u8] = include_bytes!("golden/picture.bin");
const SIZE: (usize, usize) = (20, 31);

fn to(channels: usize) -> Preprocessing {
    Preprocessing::new(channels, SIZE)
}

#[test]
fn a_png_equals_torchvision() {
    let (gray, rgb) = EXPECTED.split_at(SIZE.0 * SIZE.1);
    for (channels, expected) in [(1, gray), (3, rgb)] {
        let actual = decode_image("picture", PNG, &to(channels)).unwrap();
        let expected: Vec<f32> = expected.iter().map(|&v| f32::from(v) / 255.0).collect();
        assert_eq!(actual, expected, "{channels} channels");
    }
}

#[test]
fn mean_and_std_are_applied() {
    let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let normalized = Preprocessing { mean: mean.to_vec(), std: std.to_vec(), ..to(3) };
    let actual = decode_image("picture", PNG, &normalized).unwrap();
    let plain = decode_image("picture", PNG, &to(3)).unwrap();
    for (i, (actual, plain)) in actual.iter().zip(plain).enumerate() {
        let channel = i / (SIZE.0 * SIZE.1);
        assert_eq!(*actual, (plain - mean[channel]) / std[channel], "value {i}");
    }
}

/// Decoders of JPEG may round differently, so this one is only near.
#[test]
fn a_jpeg_is_near_the_png() {
    let png = decode_image("picture", PNG, &to(3)).unwrap();
    let jpeg = decode_image("picture", JPEG, &to(3)).unwrap();
    let mean = png.iter().zip(&jpeg).map(|(a, b)| (a - b).abs()).sum::<f32>() / png.len() as f32;
    assert!(mean < 2.0 / 255.0, "mean difference {mean}");
}

#[test]
fn a_picture_takes_the_place_of_another() {
    let mut fresh = Image::default();
    fresh.decode("picture", PNG).unwrap();
    let mut used = Image { pixels: vec![9; 7], shape: [1, 1, 7] };
    used.decode("picture", PNG).unwrap();
    assert_eq!(used, fresh);
    assert_eq!(fresh.shape[0], 3);
    assert_eq!(fresh.pixels.len(), fresh.shape.iter().product::<usize>());
}

#[test]
fn a_file_equals_its_bytes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/picture.png");
    let from_file = load_image(&path, &to(1)).unwrap();
    assert_eq!(from_file, decode_image("bytes", PNG, &to(1)).unwrap());
}

#[test]
fn bad_pictures_have_clear_errors() {
    let missing = load_image(Path::new("/no/such/cat.png"), &to(1)).unwrap_err();
    assert!(matches!(missing, DataError::Io { .. }));
    assert!(missing.to_string().contains("/no/such/cat.png"), "{missing}");

    let truncated = decode_image("cat.png", &PNG[..PNG.len() / 2], &to(1)).unwrap_err();
    assert!(matches!(truncated, DataError::Decode { .. }), "{truncated:?}");
    assert!(truncated.to_string().contains("cat.png"), "{truncated}");

    for bytes in [b"".as_slice(), b"hello, this is text"] {
        let error = decode_image("-", bytes, &to(1)).unwrap_err();
        assert!(matches!(error, DataError::Decode { .. }), "{error:?}");
    }
    for (channels, size) in [(2, SIZE), (0, SIZE), (1, (0, 5))] {
        let error = decode_image("-", PNG, &Preprocessing::new(channels, size)).unwrap_err();
        assert!(matches!(error, DataError::BadSetting { .. }), "{error:?}");
    }
}
