//! Transforms give what Pillow, torchvision and timm give, to one grey level. `golden/make_transforms.py` made the
//! reference.

use std::path::Path;

use safetensors::SafeTensors;
use serde_json::Value;
use vitrine_data::augment::Operation;
use vitrine_data::{
    CropMode, Image, Interpolation, MAX_PIXELS, Preprocessing, Rect, SampleAddress, Scratch, Transform,
};

const GOLDEN: &[u8] = include_bytes!("golden/transforms.safetensors");
const FORMATS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/formats");

fn list(name: &str) -> Vec<Value> {
    let (_, metadata) = SafeTensors::read_metadata(GOLDEN).unwrap();
    serde_json::from_str(&metadata.metadata().as_ref().unwrap()[name]).unwrap()
}

fn golden(name: &str) -> Image {
    let file = SafeTensors::deserialize(GOLDEN).unwrap();
    let view = file.tensor(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    Image { pixels: view.data().to_vec(), shape: view.shape().try_into().unwrap() }
}

/// The largest difference in grey levels.
fn difference(actual: &Image, expected: &Image) -> u8 {
    assert_eq!(actual.shape, expected.shape);
    actual.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

fn choice<T: serde::de::DeserializeOwned>(case: &Value, key: &str) -> T {
    serde_json::from_value(case[key].clone()).unwrap()
}

fn size(case: &Value) -> (usize, usize) {
    choice(case, "size")
}

fn apply(case: &Value, image: &mut Image) {
    let number = |key: &str| case[key].as_f64().unwrap_or_else(|| panic!("{key} of {case}"));
    let whole = |key: &str| number(key) as usize;
    let filter = || choice::<Interpolation>(case, "interpolation");
    let mut scratch = Scratch::default();
    let all = Rect::whole((image.shape[1], image.shape[2]));
    let operation = match case["op"].as_str().unwrap() {
        "resize" => {
            scratch.resize(image, all, size(case), Rect::whole(size(case)), filter()).unwrap();
            return;
        }
        "resized_crop" => {
            let [top, left, height, width] = ["top", "left", "height", "width"].map(whole);
            let part = Rect { top, left, height, width };
            scratch.resize(image, part, size(case), Rect::whole(size(case)), filter()).unwrap();
            return;
        }
        "eval" => {
            let channels = image.shape[0];
            let preprocessing = Preprocessing {
                interpolation: filter(),
                crop_pct: number("crop_pct"),
                crop_mode: choice::<CropMode>(case, "crop_mode"),
                ..Preprocessing::new(channels, size(case))
            };
            let mut out = vec![0.0; channels * size(case).0 * size(case).1];
            let address = SampleAddress { seed: 0, epoch: 0, sample: 0 };
            preprocessing.apply(address, image, &mut scratch, &mut out).unwrap();
            let bytes = out.iter().map(|value| (value * 255.0).round() as u8);
            *image = Image { pixels: bytes.collect(), shape: [channels, size(case).0, size(case).1] };
            return;
        }
        "pad_crop" => Operation::PadCrop {
            padding: whole("padding"),
            top: whole("top"),
            left: whole("left"),
        },
        "hflip" => Operation::HorizontalFlip,
        "vflip" => Operation::VerticalFlip,
        "auto_contrast" => Operation::AutoContrast,
        "equalize" => Operation::Equalize,
        "invert" => Operation::Invert,
        "grayscale" => Operation::Color(0.0),
        "posterize" => Operation::Posterize(whole("bits") as i32),
        "solarize" => Operation::Solarize(whole("threshold") as i32),
        "solarize_add" => Operation::SolarizeAdd(whole("add") as i32),
        "color" => Operation::Color(number("factor")),
        "contrast" => Operation::Contrast(number("factor")),
        "brightness" => Operation::Brightness(number("factor")),
        "sharpness" => Operation::Sharpness(number("factor")),
        "hue" => Operation::Hue(number("factor")),
        "gaussian_blur" => Operation::GaussianBlur(number("radius")),
        "rotate" => Operation::Rotate(number("degrees")),
        "shear_x" => Operation::ShearX(number("factor")),
        "shear_y" => Operation::ShearY(number("factor")),
        "translate_x" => Operation::TranslateX(number("pixels")),
        "translate_y" => Operation::TranslateY(number("pixels")),
        other => panic!("no operation is called {other}"),
    };
    let fill: Vec<u8> = if case["fill"].is_array() { choice(case, "fill") } else { vec![0] };
    let filter = if case["interpolation"].is_string() { filter() } else { Interpolation::Bilinear };
    operation.apply(image, filter, &fill, &mut scratch);
}

#[test]
fn operations_equal_those_of_timm() {
    let cases = list("cases");
    assert!(cases.len() > 150);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let mut image = golden(&format!("input.{}", case["input"].as_str().unwrap()));
        apply(&case, &mut image);
        let off = difference(&image, &golden(name));
        // What is computed in floats may be rounded down elsewhere; resizes are whole numbers.
        let allowed = u8::from(case["interpolation"].is_string() && case["fill"].is_array());
        assert!(off <= allowed, "{name}: {off} grey levels off");
    }
}

/// Each format of picture file is decoded to what it holds: to the byte where it is lossless.
#[test]
fn formats_are_decoded() {
    for case in list("formats") {
        let file = case["file"].as_str().unwrap();
        let bytes = std::fs::read(Path::new(FORMATS).join(file)).unwrap();
        let mut image = Image::default();
        image.decode(file, &bytes, MAX_PIXELS).unwrap();
        let expected = golden(&format!("format.{file}"));
        let off = difference(&image, &expected);
        match case["tolerance"].as_u64() {
            Some(tolerance) => assert!(u64::from(off) <= tolerance, "{file}: {off} grey levels off"),
            // Decoders of lossy formats round differently, and widen colours differently.
            None => {
                let pixels = image.pixels.iter().zip(&expected.pixels);
                let sum: u32 = pixels.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
                let mean = f64::from(sum) / image.pixels.len() as f64;
                assert!(mean < 2.0, "{file}: {mean} grey levels off on average, {off} at most");
            }
        }
    }
}
