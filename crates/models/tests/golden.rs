//! A small ViT against PyTorch and timm: logits, loss, every gradient and ten SGD losses
//! (`crates/testkit/golden/make.py` made the files).

use vitrine_autodiff::Var;
use vitrine_models::{Gelu, Pool, VisionTransformer, VitConfig};
use vitrine_nn::{Model, Optimizer, ParameterBuilder, Parameters, Pass, Sgd};
use vitrine_tensor::{DType, Device, Tensor};
use vitrine_testkit::golden::{GoldenFile, relative_error};

struct Golden(GoldenFile);

impl Golden {
    fn values(&self, name: &str) -> Vec<f64> {
        self.0.values(name)
    }

    fn number(&self, key: &str) -> usize {
        self.0.config[key].as_u64().unwrap() as usize
    }

    fn pair(&self, key: &str) -> (usize, usize) {
        (
            self.0.config[key][0].as_u64().unwrap() as usize,
            self.0.config[key][1].as_u64().unwrap() as usize,
        )
    }

    fn model_config(&self, last_block_saving: bool) -> VitConfig {
        VitConfig {
            image_size: self.pair("image_size"),
            patch_size: self.pair("patch_size"),
            channels: self.number("channels"),
            classes: self.number("classes"),
            width: self.number("width"),
            depth: self.number("depth"),
            heads: self.number("heads"),
            mlp_width: self.number("mlp_width"),
            dropout: 0.0,
            attention_dropout: 0.0,
            embedding_dropout: 0.0,
            qkv_bias: self.0.config["qkv_bias"].as_bool().unwrap(),
            projection_bias: self.0.config["proj_bias"].as_bool().unwrap(),
            pool: match self.0.config["pool"].as_str().unwrap() {
                "token" => Pool::ClassToken,
                "mean" => Pool::Mean,
                other => panic!("{other}"),
            },
            gelu: match self.0.config["gelu"].as_str().unwrap() {
                "erf" => Gelu::Erf,
                "tanh" => Gelu::Tanh,
                other => panic!("{other}"),
            },
            layer_norm_eps: self.0.config["layer_norm_eps"].as_f64().unwrap(),
            last_block_saving,
            ..VitConfig::preset("d2l").unwrap()
        }
    }

    fn tensor(&self, name: &str, dtype: DType) -> Tensor {
        self.0.tensor(name).to_dtype(dtype).unwrap()
    }
}

/// The per-op tolerance of f32; files hold 24-bit numbers, so f64 is held to their rounding.
fn assert_close(what: &str, found: &[f64], expected: &[f64], dtype: DType) {
    let (relative, absolute) = match dtype {
        DType::F64 => (1.2e-7, 1e-9),
        _ => (1.3e-6, 1e-5),
    };
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f - e).abs() <= absolute + relative * e.abs(),
            "{what}[{i}]: {f} but expected {e}"
        );
    }
}

fn load(golden: &Golden, config: &VitConfig, dtype: DType) -> (VisionTransformer, Parameters) {
    let mut builder = ParameterBuilder::new(0);
    let model = VisionTransformer::new(&mut builder.scope(""), config).unwrap();
    let parameters = builder.build(dtype, &Device::cpu()).unwrap();
    let mut names: Vec<&str> = parameters.names().collect();
    for (name, value) in parameters.named_values() {
        value.unwrap().copy_(&golden.tensor(&format!("param.{name}"), dtype)).unwrap();
    }
    let mut expected: Vec<&str> = golden.0.config["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_str().unwrap())
        .collect();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
    (model, parameters)
}

fn forward(
    golden: &Golden,
    model: &VisionTransformer,
    pass: &Pass<'_>,
    dtype: DType,
) -> (Var, Var) {
    let images = pass.constant(golden.tensor("input", dtype));
    let logits = model.forward(pass, &images).unwrap().logits;
    let loss = logits.cross_entropy(&golden.tensor("labels", DType::I64), 0.0).unwrap();
    (logits, loss)
}

fn check(file: &str, dtype: DType, last_block_saving: bool) {
    let golden = Golden(GoldenFile::open(file));
    let (model, parameters) = load(&golden, &golden.model_config(last_block_saving), dtype);
    let pass = Pass::training(&parameters, 0, 0);
    let (logits, loss) = forward(&golden, &model, &pass, dtype);
    assert_close("logits", &logits.value().to_f64_vec().unwrap(), &golden.values("logits"), dtype);
    assert_close("loss", &loss.value().to_f64_vec().unwrap(), &golden.values("loss"), dtype);
    pass.backward(&loss).unwrap();
    for name in parameters.names() {
        let grad = parameters.grad(parameters.find(name).unwrap()).unwrap();
        let expected = golden.values(&format!("grad.{name}"));
        assert_close(&format!("grad {name}"), &grad.to_f64_vec().unwrap(), &expected, dtype);
    }
    let mut optimizer = Sgd::new(0.0, false, 0.0).unwrap();
    let losses: Vec<f64> = (0..10)
        .map(|step| {
            let pass = Pass::training(&parameters, 0, step);
            let (_, loss) = forward(&golden, &model, &pass, dtype);
            parameters.zero_grads().unwrap();
            pass.backward(&loss).unwrap();
            optimizer
                .step(&parameters, golden.0.config["sgd_learning_rate"].as_f64().unwrap())
                .unwrap();
            loss.value().to_scalar().unwrap()
        })
        .collect();
    assert_close("losses", &losses, &golden.values("sgd.losses"), dtype);
}

#[test]
fn class_token_vit_equals_pytorch() {
    for saving in [false, true] {
        check("vit", DType::F32, saving);
        check("vit", DType::F64, saving);
    }
}

#[test]
fn mean_pooled_rectangular_vit_with_biases_equals_pytorch() {
    check("vit_bias_mean", DType::F32, true);
    check("vit_bias_mean", DType::F64, true);
}

/// In `bf16` each number is rounded to 8 bits (a relative error of 2⁻⁹ at the most). Over the dozen operations between
/// an image and a gradient such errors add up: the norm of all gradients is held to the per-op tolerance of 1.6e-2,
/// that of each parameter, some of which have but eight numbers, to twice as much. The weights stay `f32`.
#[test]
fn bf16_follows_pytorchs_f32() {
    for file in ["vit", "vit_bias_mean"] {
        let golden = Golden(GoldenFile::open(file));
        let (model, parameters) = load(&golden, &golden.model_config(true), DType::F32);
        let parameters = parameters.computing_in(DType::BF16).unwrap();
        let pass = Pass::training(&parameters, 0, 0);
        let (logits, loss) = forward(&golden, &model, &pass, DType::F32);
        assert_eq!(logits.value().dtype(), DType::F32);
        let error = |found: &Tensor, expected: &str| {
            relative_error(&found.to_f64_vec().unwrap(), &golden.values(expected))
        };
        assert!(error(logits.value(), "logits") < 1.6e-2);
        assert!(error(loss.value(), "loss") < 4e-3);
        pass.backward(&loss).unwrap();
        let (mut all, mut all_expected) = (Vec::new(), Vec::new());
        for name in parameters.names() {
            let grad = parameters.grad(parameters.find(name).unwrap()).unwrap();
            assert_eq!(grad.dtype(), DType::F32);
            let values = grad.to_f64_vec().unwrap();
            // Queries, keys and values each.
            let parts = if name.ends_with("qkv.weight") { 3 } else { 1 };
            for part in values.chunks(values.len() / parts) {
                let wide = part.iter().any(|&g| (g as f32).to_bits() << 16 != 0);
                assert!(wide, "{file}: the gradient of {name} was rounded to bf16 on its way");
            }
            all.extend(values);
            all_expected.extend(golden.values(&format!("grad.{name}")));
            let error = error(&grad, &format!("grad.{name}"));
            assert!(error < 3.2e-2, "{file}: the gradient of {name} is off by {error:.1e}");
            assert!(error > 1e-4, "{file}: {name} is not computed in bf16");
        }
        assert!(relative_error(&all, &all_expected) < 1.6e-2, "{file}");
    }
}
