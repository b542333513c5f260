//! Computing the last block for the class token alone changes no result: logits, loss and every gradient, with all
//! dropouts on.

use vitrine_models::{Pool, VisionTransformer, VitConfig};
use vitrine_nn::{Model, ParameterBuilder, Pass};
use vitrine_tensor::{DType, Device, StreamKey, Tensor};

const BATCH: usize = 3;
const SEED: u64 = 11;
const STEP: u64 = 4;

fn config(depth: usize, biases: bool) -> VitConfig {
    VitConfig {
        image_size: (8, 12),
        patch_size: (4, 4),
        channels: 2,
        classes: 5,
        width: 12,
        depth,
        heads: 3,
        mlp_width: 20,
        // Different, so that one mask cannot stand for another.
        dropout: 0.3,
        attention_dropout: 0.2,
        embedding_dropout: 0.1,
        drop_path: 0.5,
        qkv_bias: biases,
        projection_bias: biases,
        pool: Pool::ClassToken,
        ..VitConfig::preset("d2l").unwrap()
    }
}

/// What one training step computes.
struct Step {
    logits: Vec<f64>,
    loss: Vec<f64>,
    /// By parameter.
    gradients: Vec<(String, Vec<f64>)>,
    recorded: usize,
}

fn step(config: &VitConfig, dtype: DType, step: u64) -> Step {
    let cpu = Device::cpu();
    let mut builder = ParameterBuilder::new(1);
    let model = VisionTransformer::new(&mut builder.scope(""), config).unwrap();
    let parameters = builder.build(dtype, &cpu).unwrap();
    let pass = Pass::training(&parameters, SEED, step);
    let shape = [BATCH, config.channels, config.image_size.0, config.image_size.1];
    let normal = StreamKey { seed: 5, step: 0, stream: 0 }.normal();
    let images: Vec<f64> = normal.take(shape.iter().product()).collect();
    let images = Tensor::from_slice(&images, &shape, &cpu).unwrap();
    let images = pass.constant(images.to_dtype(dtype).unwrap());
    let logits = model.forward(&pass, &images).unwrap().logits;
    let labels = Tensor::from_slice(&[4i64, 0, 2], &[BATCH], &cpu).unwrap();
    let loss = logits.cross_entropy(&labels, 0.1).unwrap();
    let recorded = pass.tape().len();
    pass.backward(&loss).unwrap();
    let gradient = |name: &str| {
        let grad = parameters.grad(parameters.find(name).unwrap()).unwrap();
        (name.to_owned(), grad.to_f64_vec().unwrap())
    };
    Step {
        logits: logits.value().to_f64_vec().unwrap(),
        loss: loss.value().to_f64_vec().unwrap(),
        gradients: parameters.names().map(gradient).collect(),
        recorded,
    }
}

/// The largest difference, relative to the largest value.
fn difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let largest = a.iter().fold(f64::MIN_POSITIVE, |top, v| top.max(v.abs()));
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    // `max` passes over a NaN.
    assert!(a.iter().chain(b).all(|v| v.is_finite()));
    worst / largest
}

/// Runs both ways; every array must agree within `tolerance` of its own largest value.
fn compare(depth: usize, biases: bool, dtype: DType, tolerance: f64) {
    let saved = config(depth, biases);
    let full = VitConfig { last_block_saving: false, ..saved.clone() };
    let (saved, full) = (step(&saved, dtype, STEP), step(&full, dtype, STEP));
    assert_ne!(saved.recorded, full.recorded, "both went the same way");
    let what = format!("depth {depth}, biases {biases}, {dtype}");
    let close = |name: &str, a: &[f64], b: &[f64], tolerance: f64| {
        let found = difference(a, b);
        assert!(found <= tolerance, "{what}: {name} differs by {found:.1e}");
    };
    close("the logits", &saved.logits, &full.logits, tolerance);
    close("the loss", &saved.loss, &full.loss, tolerance);
    assert_eq!(saved.gradients.len(), full.gradients.len());
    for ((name, a), (_, b)) in saved.gradients.iter().zip(&full.gradients) {
        if name.ends_with("qkv.bias") {
            // The key's third is zero in theory, so it is judged beside the other two.
            assert!(b[..12].iter().chain(&b[24..]).any(|&g| g != 0.0));
        }
        close(name, a, b, tolerance);
    }
}

#[test]
fn in_f64_all_is_the_same() {
    for (depth, biases) in [(1, false), (1, true), (2, false), (3, true)] {
        compare(depth, biases, DType::F64, 1e-10);
    }
}

#[test]
fn in_f32_all_is_the_same_within_rounding() {
    // Sums over tokens run in another order: some tens of roundings of 6e-8, relative to an array's largest value.
    for (depth, biases) in [(1, false), (2, true)] {
        compare(depth, biases, DType::F32, 5e-6);
    }
}

#[test]
fn the_masks_matter_to_the_comparison() {
    // The control of the tests above: another step, so other masks, is far from agreement.
    let config = config(2, true);
    let (a, b) = (step(&config, DType::F64, STEP), step(&config, DType::F64, STEP + 1));
    assert!(difference(&a.logits, &b.logits) > 0.01);
    let far = a.gradients.iter().zip(&b.gradients).filter(|(a, b)| difference(&a.1, &b.1) > 0.01);
    assert_eq!(far.count(), a.gradients.len());
}

#[test]
fn in_inference_all_is_the_same_too() {
    let cpu = Device::cpu();
    let run = |saving: bool| {
        let config = VitConfig { last_block_saving: saving, ..config(2, true) };
        let mut builder = ParameterBuilder::new(1);
        let model = VisionTransformer::new(&mut builder.scope(""), &config).unwrap();
        let parameters = builder.build(DType::F64, &cpu).unwrap();
        let pass = Pass::inference(&parameters);
        let normal = StreamKey { seed: 5, step: 0, stream: 0 }.normal();
        let images: Vec<f64> = normal.take(BATCH * 2 * 8 * 12).collect();
        let images = Tensor::from_slice(&images, &[BATCH, 2, 8, 12], &cpu).unwrap();
        let logits = model.forward(&pass, &pass.constant(images)).unwrap().logits;
        logits.value().to_vec::<f64>().unwrap()
    };
    assert!(difference(&run(true), &run(false)) < 1e-12);
}

#[test]
fn with_mean_pooling_nothing_is_left_out() {
    // The mean reads every token, so the switch has no effect at all.
    let saved = VitConfig { pool: Pool::Mean, ..config(2, true) };
    let full = VitConfig { last_block_saving: false, ..saved.clone() };
    let (saved, full) = (step(&saved, DType::F32, STEP), step(&full, DType::F32, STEP));
    assert_eq!((saved.recorded, saved.logits), (full.recorded, full.logits));
    assert_eq!(saved.gradients, full.gradients);
}

#[test]
fn blocks_that_are_run_again_give_the_same_bits() {
    for (pool, saving) in [(Pool::ClassToken, true), (Pool::ClassToken, false), (Pool::Mean, true)]
    {
        for dtype in [DType::F32, DType::F64] {
            let kept = VitConfig { pool, last_block_saving: saving, ..config(3, true) };
            let again = VitConfig { recompute: true, ..kept.clone() };
            let (kept, again) = (step(&kept, dtype, STEP), step(&again, dtype, STEP));
            assert!(again.recorded < kept.recorded, "the blocks were recorded");
            assert_eq!((kept.logits, kept.loss), (again.logits, again.loss));
            assert_eq!(kept.gradients, again.gradients);
        }
    }
}
