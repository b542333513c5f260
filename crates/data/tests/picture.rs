//! Single pictures become what torchvision makes of them. `golden/make.py` made the reference.

use std::path::Path;

use vitrine_data::{
    CropMode, DataError, Image, MAX_PIXELS, Preprocessing, decode_image, load_image,
};

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
        let actual = decode_image("picture", PNG, &to(channels), MAX_PIXELS).unwrap();
        let expected: Vec<f32> = expected.iter().map(|&v| f32::from(v) / 255.0).collect();
        assert_eq!(actual, expected, "{channels} channels");
    }
}

#[test]
fn mean_and_std_are_applied() {
    let (mean, std) = ([0.485f32, 0.456, 0.406], [0.229f32, 0.224, 0.225]);
    let [mean_64, std_64] = [mean, std].map(|values| values.map(f64::from).to_vec());
    let normalized = Preprocessing { mean: mean_64, std: std_64, ..to(3) };
    let actual = decode_image("picture", PNG, &normalized, MAX_PIXELS).unwrap();
    let plain = decode_image("picture", PNG, &to(3), MAX_PIXELS).unwrap();
    for (i, (actual, plain)) in actual.iter().zip(plain).enumerate() {
        let channel = i / (SIZE.0 * SIZE.1);
        assert_eq!(*actual, (plain - mean[channel]) / std[channel], "value {i}");
    }
}

/// Decoders of JPEG may round differently, so this one is only near.
#[test]
fn a_jpeg_is_near_the_png() {
    let png = decode_image("picture", PNG, &to(3), MAX_PIXELS).unwrap();
    let jpeg = decode_image("picture", JPEG, &to(3), MAX_PIXELS).unwrap();
    let mean = png.iter().zip(&jpeg).map(|(a, b)| (a - b).abs()).sum::<f32>() / png.len() as f32;
    assert!(mean < 2.0 / 255.0, "mean difference {mean}");
}

#[test]
fn a_picture_takes_the_place_of_another() {
    let mut fresh = Image::default();
    fresh.decode("picture", PNG, 1 << 20).unwrap();
    let mut used = Image { pixels: vec![9; 7], shape: [1, 1, 7] };
    used.decode("picture", PNG, 1 << 20).unwrap();
    assert_eq!(used, fresh);
    assert_eq!(fresh.shape[0], 3);
    assert_eq!(fresh.pixels.len(), fresh.shape.iter().product::<usize>());
}

#[test]
fn a_file_equals_its_bytes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/picture.png");
    let from_file = load_image(&path, &to(1), MAX_PIXELS).unwrap();
    assert_eq!(from_file, decode_image("bytes", PNG, &to(1), MAX_PIXELS).unwrap());
}

#[test]
fn bad_pictures_have_clear_errors() {
    let missing = load_image(Path::new("/no/such/cat.png"), &to(1), MAX_PIXELS).unwrap_err();
    assert!(matches!(missing, DataError::Io { .. }));
    assert!(missing.to_string().contains("/no/such/cat.png"), "{missing}");

    let truncated = decode_image("cat.png", &PNG[..PNG.len() / 2], &to(1), MAX_PIXELS).unwrap_err();
    assert!(matches!(truncated, DataError::Decode { .. }), "{truncated:?}");
    assert!(truncated.to_string().contains("cat.png"), "{truncated}");

    for bytes in [b"".as_slice(), b"hello, this is text"] {
        let error = decode_image("-", bytes, &to(1), MAX_PIXELS).unwrap_err();
        assert!(matches!(error, DataError::Decode { .. }), "{error:?}");
    }
    for (channels, size) in [(2, SIZE), (0, SIZE), (1, (0, 5))] {
        let error =
            decode_image("-", PNG, &Preprocessing::new(channels, size), MAX_PIXELS).unwrap_err();
        assert!(matches!(error, DataError::BadSetting { .. }), "{error:?}");
    }
}

/// A JPEG with EXIF data that say how it is to be turned, put behind its first marker.
fn marked(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let exif = *b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0?\0\0\0\0\0\0";
    let mut segment = [&[0xff, 0xe1, 0, exif.len() as u8 + 2], &exif[..]].concat();
    *segment.iter_mut().find(|byte| **byte == b'?').unwrap() = orientation;
    [&jpeg[..2], &segment, &jpeg[2..]].concat()
}

/// Where each pixel of an upright picture comes from (row, column), as the EXIF standard's table of orientations says.
#[test]
fn a_picture_is_turned_upright() {
    let mut plain = Image::default();
    plain.decode("plain", JPEG, 1 << 20).unwrap();
    let [_, height, width] = plain.shape;
    let (h, w) = (height - 1, width - 1);
    type From = fn(usize, usize, usize, usize) -> (usize, usize);
    let from: [From; 8] = [
        |y, x, _, _| (y, x),
        |y, x, _, w| (y, w - x),
        |y, x, h, w| (h - y, w - x),
        |y, x, h, _| (h - y, x),
        |y, x, _, _| (x, y),
        |y, x, h, _| (h - x, y),
        |y, x, h, w| (h - x, w - y),
        |y, x, _, w| (x, w - y),
    ];
    for (orientation, from) in (1..).zip(from) {
        let mut turned = Image::default();
        turned.decode("turned", &marked(JPEG, orientation), 1 << 20).unwrap();
        let shape = if orientation < 5 { [3, height, width] } else { [3, width, height] };
        assert_eq!(turned.shape, shape, "{orientation}");
        for (i, &pixel) in turned.pixels.iter().enumerate() {
            let (plane, place) = (i / (height * width), i % (height * width));
            let (y, x) = from(place / shape[2], place % shape[2], h, w);
            assert_eq!(pixel, plain.pixels[(plane * height + y) * width + x], "{orientation}, {i}");
        }
    }
}

#[test]
fn a_jpeg_that_is_cut_short_is_an_error() {
    let thumbnail = marked(JPEG, 1);
    let progressive = include_bytes!("golden/progressive.jpg").as_slice();
    for whole in [JPEG, &thumbnail, progressive] {
        decode_image("whole.jpg", whole, &to(3), MAX_PIXELS).unwrap();
        for length in [whole.len() / 2, whole.len() - 100, whole.len() - 2] {
            let error = decode_image("cut.jpg", &whole[..length], &to(3), MAX_PIXELS).unwrap_err();
            assert!(matches!(error, DataError::Decode { .. }), "{length}: {error:?}");
            assert!(error.to_string().contains("cut.jpg"), "{error}");
        }
    }
}

#[test]
fn a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() {
    let mut image = Image::default();
    image.decode("-", PNG, 1 << 20).unwrap();
    let pixels = (image.shape[1] * image.shape[2]) as u64;
    image.decode("-", PNG, pixels).unwrap();
    let error = image.decode("cat.png", PNG, pixels - 1).unwrap_err();
    let DataError::TooManyPixels { max_pixels, .. } = error else { panic!("{error:?}") };
    assert_eq!(max_pixels, pixels - 1);
    assert!(error.to_string().starts_with("cat.png: the picture has "), "{error}");
    assert!(error.to_string().contains("raise data.max_pixels"), "{error}");

    // A head that promises 400 million pixels, and nothing behind it.
    let mut large = PNG.to_vec();
    large[16..24].copy_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20]);
    let sum = crc32(&large[12..29]);
    large[29..33].copy_from_slice(&sum.to_be_bytes());
    let error = decode_image("large.png", &large, &to(1), MAX_PIXELS).unwrap_err();
    assert!(matches!(error, DataError::TooManyPixels { width: 20_000, .. }), "{error:?}");
}

#[test]
fn a_picture_may_be_long_and_thin_but_not_too_long() {
    let png = |width, height| {
        let mut bytes = Vec::new();
        let image = image::GrayImage::from_fn(width, height, |x, _| image::Luma([(x % 256) as u8]));
        let format = image::ImageFormat::Png;
        image.write_to(&mut std::io::Cursor::new(&mut bytes), format).unwrap();
        bytes
    };
    // The shorter side becomes 40 pixels, the longer one 24,000 and more, of which the middle is cut out.
    let center = Preprocessing { crop_mode: CropMode::Center, ..Preprocessing::new(1, (40, 40)) };
    for (width, height) in [(600, 1), (1, 65_535)] {
        let pixels = decode_image("thin", &png(width, height), &center, MAX_PIXELS).unwrap();
        assert!(pixels.iter().all(|value| (0.0..=1.0).contains(value)));
    }
    let error =
        decode_image("thin.png", &png(65_536, 1), &center, MAX_PIXELS).unwrap_err().to_string();
    assert!(error.contains("thin.png") && error.contains("65536 x 1 pixels"), "{error}");
}

/// The sum of a PNG's chunk.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}
