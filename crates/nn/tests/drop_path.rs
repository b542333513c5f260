//! Drop path: whole images, the right share, in training alone; its rates are timm's.

use vitrine_nn::{DropPath, Dropout, ParameterBuilder, Pass};
use vitrine_tensor::{DType, Device, Tensor};

const P: f64 = 0.25;
const IMAGES: usize = 20_000;

/// What becomes of ones, of three rows of two numbers an image.
fn dropped(layer: usize, training: Option<u64>) -> Vec<f64> {
    let mut builder = ParameterBuilder::new(0);
    let layers = [(); 2].map(|()| DropPath::new(&mut builder.scope("drop"), P, 3).unwrap());
    let parameters = builder.build(DType::F64, &Device::cpu()).unwrap();
    let pass = match training {
        Some(step) => Pass::training(&parameters, 7, step),
        None => Pass::inference(&parameters),
    };
    assert_eq!(layers[layer].drops(&pass), training.is_some());
    let ones = Tensor::full(&[3 * IMAGES, 2], 1.0, DType::F64, &Device::cpu()).unwrap();
    let y = layers[layer].forward(&pass, &pass.constant(ones)).unwrap();
    assert_eq!(y.shape(), [3 * IMAGES, 2]);
    y.value().to_f64_vec().unwrap()
}

#[test]
fn whole_images_are_dropped_and_the_others_scaled() {
    let values = dropped(0, Some(0));
    let mut kept = 0;
    for image in values.chunks(6) {
        assert!(image.iter().all(|value| *value == image[0]), "{image:?}");
        assert!(image[0] == 0.0 || image[0] == 1.0 / (1.0 - P), "{image:?}");
        kept += usize::from(image[0] > 0.0);
    }
    // Five standard deviations.
    let expected = (1.0 - P) * IMAGES as f64;
    assert!((kept as f64 - expected).abs() < 5.0 * (IMAGES as f64 * P * (1.0 - P)).sqrt());
    assert_eq!(values, dropped(0, Some(0)));
    assert_ne!(values, dropped(0, Some(1)), "each step draws anew");
    assert_ne!(values, dropped(1, Some(0)), "each layer draws its own");
}

#[test]
fn nothing_is_dropped_in_inference() {
    assert!(dropped(0, None).iter().all(|value| *value == 1.0));
}

#[test]
fn a_probability_of_0_takes_no_stream() {
    let mut builder = ParameterBuilder::new(0);
    let mut scope = builder.scope("block");
    DropPath::new(&mut scope, 0.0, 1).unwrap();
    assert_eq!(Dropout::new(&mut scope, P).unwrap().stream(), 0);
    assert!(DropPath::new(&mut scope, 1.0, 1).is_err());
}

#[test]
fn rates_are_timms() {
    // calculate_drop_path_rates(0.3, 4), and of one block.
    let rates: Vec<f64> = DropPath::rates(0.3, 4).collect();
    assert!(rates.iter().zip([0.0, 0.1, 0.2, 0.3]).all(|(a, b)| (a - b).abs() < 1e-7), "{rates:?}");
    assert!(DropPath::rates(0.3, 1).eq([0.0]));
}
