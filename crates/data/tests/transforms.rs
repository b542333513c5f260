//! Transforms give what Pillow, torchvision and timm give, to one grey level. `golden/make_transforms.py` made the
//! reference.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::Value;
use vitrine_data::augment::{Augmentation, Operation, Policy};
use vitrine_data::{
    CropMode, Image, Interpolation, MAX_PIXELS, Preprocessing, Rect, SampleAddress, Scratch,
    Transform,
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
            *image =
                Image { pixels: bytes.collect(), shape: [channels, size(case).0, size(case).1] };
            return;
        }
        "pad_crop" => {
            Operation::PadCrop { padding: whole("padding"), top: whole("top"), left: whole("left") }
        }
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
            Some(tolerance) => {
                assert!(u64::from(off) <= tolerance, "{file}: {off} grey levels off")
            }
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

const SIZE: (usize, usize) = (40, 60);

/// timm's name of an operation, and the numbers that timm gives it.
fn in_timm(operation: Operation, increasing: bool) -> (String, Vec<f64>) {
    let more = if increasing { "Increasing" } else { "" };
    let (name, number) = match operation {
        Operation::AutoContrast => return ("AutoContrast".into(), vec![]),
        Operation::Equalize => return ("Equalize".into(), vec![]),
        Operation::Invert => return ("Invert".into(), vec![]),
        Operation::Rotate(degrees) => ("Rotate".into(), degrees),
        Operation::Posterize(bits) => (format!("Posterize{more}"), f64::from(bits)),
        Operation::Solarize(threshold) => (format!("Solarize{more}"), f64::from(threshold)),
        Operation::SolarizeAdd(add) => ("SolarizeAdd".into(), f64::from(add)),
        Operation::Color(factor) => (format!("Color{more}"), factor),
        Operation::Contrast(factor) => (format!("Contrast{more}"), factor),
        Operation::Brightness(factor) => (format!("Brightness{more}"), factor),
        Operation::Sharpness(factor) => (format!("Sharpness{more}"), factor),
        Operation::ShearX(factor) => ("ShearX".into(), factor),
        Operation::ShearY(factor) => ("ShearY".into(), factor),
        Operation::TranslateX(pixels) => ("TranslateXRel".into(), pixels / SIZE.1 as f64),
        Operation::TranslateY(pixels) => ("TranslateYRel".into(), pixels / SIZE.0 as f64),
        other => panic!("{other:?} is none of RandAugment's"),
    };
    (name, vec![number])
}

#[test]
fn strings_mean_what_they_mean_in_timm() {
    let cases = list("rand_augment");
    assert!(cases.len() >= 3);
    for case in cases {
        let config = case["config"].as_str().unwrap();
        let Ok(Policy::Rand(rand)) = config.parse() else { panic!("{config}") };
        assert_eq!(rand.layers as u64, case["num_layers"].as_u64().unwrap(), "{config}");
        assert_eq!(Some(rand.probability), case["prob"].as_f64(), "{config}");
        assert_eq!(Some(rand.magnitude), case["magnitude"].as_f64(), "{config}");
        assert_eq!(Some(rand.magnitude_std), case["magnitude_std"].as_f64(), "{config}");
        assert_eq!(rand.magnitude_max, case["magnitude_max"].as_f64().unwrap_or(10.0), "{config}");
        let operations = case["ops"].as_array().unwrap();
        assert_eq!(operations.len() as u64, 15);
        for (which, expected) in (0..).zip(operations) {
            for (sign, key) in [(1.0, "args"), (-1.0, "args_negative")] {
                for (magnitude, arguments) in expected[key].as_object().into_iter().flatten() {
                    let level = magnitude.parse::<f64>().unwrap() / 10.0;
                    let operation = rand.operation(which, level, sign, SIZE);
                    let (name, numbers) = in_timm(operation, rand.increasing);
                    assert_eq!(name, expected["name"].as_str().unwrap(), "{config}");
                    let wanted: Vec<f64> = serde_json::from_value(arguments.clone()).unwrap();
                    let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12;
                    let equal =
                        numbers.len() == wanted.len() && numbers.iter().zip(&wanted).all(near);
                    assert!(equal, "{config}, {name} at {magnitude}: {numbers:?}, timm {wanted:?}");
                }
            }
        }
    }
}

#[test]
fn a_policy_that_is_none_is_refused() {
    assert_eq!("3a".parse::<Policy>().unwrap(), Policy::ThreeAugment);
    for text in
        ["", "rand-", "rand-x3", "rand-m", "rand-m9.5", "rand-p2", "3b", "random-m9", "rand-n-3"]
    {
        let error = text.parse::<Policy>().unwrap_err().to_string();
        assert!(error.contains(&format!("{text:?}")), "{error}");
    }
}

/// Each operation is drawn as often as any other, half of the draws are applied, and magnitudes are normal.
#[test]
fn draws_follow_their_laws() {
    let preprocessing = Preprocessing::new(3, SIZE);
    let policy = Some("rand-m5-mstd2-mmax10".parse().unwrap());
    let augmentation = Augmentation { policy, ..Augmentation::none(preprocessing) };
    let visit = |sample| SampleAddress { seed: 1, epoch: 0, sample };
    let operations: Vec<_> = (0..15_000).flat_map(|i| augmentation.operations(visit(i))).collect();
    // 30,000 draws, each applied with probability 1/2: 15,000 with a standard deviation of 87.
    assert!(operations.len().abs_diff(15_000) < 450, "{}", operations.len());
    let mut counts = BTreeMap::<String, usize>::new();
    operations.iter().for_each(|o| *counts.entry(in_timm(*o, false).0).or_default() += 1);
    assert_eq!(counts.len(), 15);
    assert!(counts.values().all(|count| count.abs_diff(1000) < 160), "{counts:?}");
    let degrees: Vec<f64> = operations
        .iter()
        .filter_map(|o| if let Operation::Rotate(degrees) = o { Some(degrees / 3.0) } else { None })
        .collect();
    let count = degrees.len() as f64;
    let positive = degrees.iter().filter(|&&d| d > 0.0).count() as f64 / count;
    let mean = degrees.iter().map(|d| d.abs()).sum::<f64>() / count;
    let std = (degrees.iter().map(|d| (d.abs() - mean).powi(2)).sum::<f64>() / count).sqrt();
    assert!((positive - 0.5).abs() < 0.06, "{positive}");
    // Clipped to 0 and 10, 2.5 standard deviations away.
    assert!((mean - 5.0).abs() < 0.25 && (std - 2.0).abs() < 0.2, "{mean} {std}");
}
