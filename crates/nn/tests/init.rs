//! Initialisers: their distributions, bounds and fan-in; that values are a function of seed and place; and orthogonal.

use vitrine_nn::{Init, LayerNorm, Linear, ParameterBuilder, PatchEmbedding};
use vitrine_tensor::{DType, Device};

/// Values of one weight.
fn draw(shape: &[usize], init: &Init) -> Vec<f64> {
    let mut builder = ParameterBuilder::new(17);
    builder.scope("").weight("w", shape, init);
    builder.build(DType::F64, &Device::cpu()).unwrap().values().to_vec().unwrap()
}

const OUT: usize = 300;
const IN: usize = 200;
const N: f64 = (OUT * IN) as f64;

struct Moments {
    mean: f64,
    std: f64,
    largest: f64,
    /// The share within one standard deviation.
    inner: f64,
}

fn moments(values: &[f64]) -> Moments {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    let largest = values.iter().fold(0.0, |top: f64, v| top.max(v.abs()));
    let inner = values.iter().filter(|v| (*v - mean).abs() < std).count() as f64 / n;
    Moments { mean, std, largest, inner }
}

/// `inner` tells the distributions apart: 0.577 for uniform, 0.683 for normal, 0.651 for normal cut at ±2.
fn assert_moments(what: &str, values: &[f64], std: f64, bound: f64, inner: f64) {
    let found = moments(values);
    assert_eq!(values.len() as f64, N);
    assert!(found.mean.abs() < 5.0 * std / N.sqrt(), "{what}: mean {}", found.mean);
    assert!((found.std / std - 1.0).abs() < 0.02, "{what}: deviation {}, not {std}", found.std);
    assert!((found.inner - inner).abs() < 0.01, "{what}: {} within one deviation", found.inner);
    assert!(found.largest <= bound, "{what}: {} is past {bound}", found.largest);
    if bound.is_finite() {
        assert!(found.largest > 0.99 * bound, "{what}: {} is far from {bound}", found.largest);
    }
}

#[test]
fn distributions() {
    let (uniform, normal, cut) = (0.5774, 0.6827, 0.6506);
    let root3 = 3.0f64.sqrt();
    let fan_in = IN as f64;

    let bound = 1.0 / fan_in.sqrt();
    assert_moments("torch", &draw(&[OUT, IN], &Init::TORCH), bound / root3, bound, uniform);
    let values = draw(&[OUT, IN], &Init::FanInUniform { scale: 2.5 });
    assert_moments("fan-in uniform", &values, 2.5 * bound / root3, 2.5 * bound, uniform);

    let bound = (6.0 / (OUT + IN) as f64).sqrt();
    assert_moments(
        "xavier",
        &draw(&[OUT, IN], &Init::XavierUniform),
        bound / root3,
        bound,
        uniform,
    );

    let values = draw(&[OUT, IN], &Init::Normal { std: 0.02 });
    assert_moments("normal", &values, 0.02, f64::INFINITY, normal);
    assert!(moments(&values).largest > 3.5 * 0.02, "the tails are there");

    let values = draw(&[OUT, IN], &Init::TruncatedNormal { std: 0.02 });
    assert_moments("truncated", &values, 0.8796 * 0.02, 0.04, cut);

    let std = 1.0 / fan_in.sqrt();
    let values = draw(&[OUT, IN], &Init::LecunNormal);
    assert_moments("lecun", &values, std, 2.0 * std / 0.8796, cut);

    assert!(draw(&[3, 4], &Init::ZEROS).iter().all(|&v| v == 0.0));
    assert!(draw(&[3, 4], &Init::ONES).iter().all(|&v| v == 1.0));
    assert!(draw(&[3, 4], &Init::Constant(-0.25)).iter().all(|&v| v == -0.25));
}

/// The largest absolute value of a parameter.
fn largest(builder: ParameterBuilder, name: &str) -> f64 {
    let parameters = builder.build(DType::F64, &Device::cpu()).unwrap();
    let value = parameters.value(parameters.find(name).unwrap()).unwrap();
    moments(&value.to_vec::<f64>().unwrap()).largest
}

#[test]
fn a_bias_has_its_layers_fan_in() {
    let linear = || {
        let mut builder = ParameterBuilder::new(5);
        Linear::new(&mut builder.scope("fc"), 16, 4000, &Init::TORCH, Some(&Init::TORCH)).unwrap();
        builder
    };
    for name in ["fc.weight", "fc.bias"] {
        let largest = largest(linear(), name);
        assert!((0.245..=0.25).contains(&largest), "{name}: {largest}, not 1/√16");
    }
    let patches = || {
        let mut builder = ParameterBuilder::new(5);
        let mut scope = builder.scope("patch_embed");
        let init = Init::TORCH;
        PatchEmbedding::new(&mut scope, (8, 10), (4, 5), 5, 4000, &init, &init).unwrap();
        builder
    };
    for name in ["patch_embed.proj.weight", "patch_embed.proj.bias"] {
        let largest = largest(patches(), name);
        assert!((0.098..=0.1).contains(&largest), "{name}: {largest}, not 1/√(5·4·5)");
    }
}

#[test]
fn layer_norm_begins_as_the_identity() {
    let mut builder = ParameterBuilder::new(0);
    LayerNorm::new(&mut builder.scope("norm"), 3, 1e-5);
    let parameters = builder.build(DType::F64, &Device::cpu()).unwrap();
    assert_eq!(parameters.names().collect::<Vec<_>>(), ["norm.weight", "norm.bias"]);
    assert_eq!(parameters.values().to_vec::<f64>().unwrap(), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
}

const RANDOM: [Init; 5] = [
    Init::TORCH,
    Init::Normal { std: 0.1 },
    Init::TruncatedNormal { std: 0.1 },
    Init::LecunNormal,
    Init::XavierUniform,
];

#[test]
fn values_are_a_function_of_seed_and_place() {
    for init in RANDOM {
        let build = |seed, first: &[usize]| {
            let mut builder = ParameterBuilder::new(seed);
            builder.scope("a").weight("w", first, &init);
            builder.scope("b").weight("w", &[7, 9], &init);
            let parameters = builder.build(DType::F64, &Device::cpu()).unwrap();
            assert_eq!(parameters.seed(), seed);
            ["a.w", "b.w"].map(|name| {
                let id = parameters.find(name).unwrap();
                parameters.value(id).unwrap().to_vec::<f64>().unwrap()
            })
        };
        let [a, b] = build(1, &[7, 9]);
        assert_eq!(build(1, &[7, 9]), [a.clone(), b.clone()], "{init:?}");
        assert_ne!(a, b, "{init:?}: two parameters have the same values");
        assert_ne!(build(2, &[7, 9])[0], a, "{init:?}: two seeds have the same values");
        assert_ne!(build(1 << 32 | 1, &[7, 9])[0], a, "{init:?}: the high half of a seed counts");
        assert_eq!(build(1, &[2, 2])[1], b, "{init:?}: another's size changes nothing");
    }
}

#[test]
fn values_do_not_depend_on_the_element_type() {
    for init in RANDOM {
        let build = |dtype| {
            let mut builder = ParameterBuilder::new(3);
            builder.scope("").weight("w", &[13, 11], &init);
            builder.build(dtype, &Device::cpu()).unwrap()
        };
        let exact = build(DType::F64);
        for dtype in [DType::F32, DType::BF16] {
            let rounded = exact.values().to_dtype(dtype).unwrap().to_f64_vec().unwrap();
            assert_eq!(build(dtype).values().to_f64_vec().unwrap(), rounded, "{init:?} {dtype}");
        }
    }
}

#[cfg(feature = "linalg")]
mod orthogonal {
    use super::*;

    /// The largest difference of `vᵢ·vⱼ` from `gain²·δᵢⱼ`, for rows or columns, the fewer.
    fn defect(values: &[f64], rows: usize, columns: usize, gain: f64) -> f64 {
        let at = |i: usize, k: usize| match rows <= columns {
            true => values[i * columns + k],
            false => values[k * columns + i],
        };
        let (few, many) = (rows.min(columns), rows.max(columns));
        let mut worst = 0.0f64;
        for i in 0..few {
            for j in 0..few {
                let dot: f64 = (0..many).map(|k| at(i, k) * at(j, k)).sum();
                let expected = if i == j { gain * gain } else { 0.0 };
                worst = worst.max((dot - expected).abs());
            }
        }
        worst
    }

    #[test]
    fn rows_or_columns_are_orthonormal() {
        for shape in [&[5, 5][..], &[9, 4], &[4, 9], &[1, 7], &[7, 1], &[1, 1], &[6, 2, 3, 2]] {
            for gain in [1.0, 0.5] {
                let values = draw(shape, &Init::Orthogonal { gain });
                let (rows, columns) = (shape[0], shape[1..].iter().product());
                let defect = defect(&values, rows, columns, gain);
                assert!(defect < 1e-14, "{shape:?}, gain {gain}: {defect:e}");
            }
        }
    }

    #[test]
    fn signs_are_random_and_values_a_function_of_the_seed() {
        // Without the correction by R's signs, LAPACK's Householder reflections give a diagonal of one sign.
        let mut negative = 0;
        let firsts: Vec<Vec<f64>> = (0..40)
            .map(|seed| {
                let mut builder = ParameterBuilder::new(seed);
                builder.scope("").weight("w", &[4, 4], &Init::Orthogonal { gain: 1.0 });
                let values = builder.build(DType::F64, &Device::cpu()).unwrap();
                values.values().to_vec::<f64>().unwrap()
            })
            .inspect(|values| negative += i32::from(values[0] < 0.0))
            .collect();
        assert!((8..=32).contains(&negative), "{negative} of 40 are negative");
        assert!(firsts.windows(2).all(|pair| pair[0] != pair[1]));
        let init = Init::Orthogonal { gain: 1.0 };
        assert_eq!(draw(&[5, 3], &init), draw(&[5, 3], &init));
    }
}

#[cfg(not(feature = "linalg"))]
#[test]
fn orthogonal_without_the_feature_is_an_error_that_names_it() {
    let mut builder = ParameterBuilder::new(0);
    builder.scope("").weight("w", &[3, 3], &Init::Orthogonal { gain: 1.0 });
    let Err(error) = builder.build(DType::F32, &Device::cpu()) else { panic!("no LAPACK here") };
    assert_eq!(error, vitrine_nn::Error::LinalgOff { what: "orthogonal initialisation" });
    assert!(
        error.to_string().contains("`linalg`") && error.to_string().contains("libopenblas-dev")
    );
}
