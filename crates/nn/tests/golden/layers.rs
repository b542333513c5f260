//! Each layer alone: output, gradient of the input, gradients of the parameters.

use serde_json::Value;
use vitrine_autodiff::Var;
use vitrine_nn::{
    Activation, AttentionConfig, Init, LayerNorm, Mlp, MlpConfig, MultiHeadAttention,
    ParameterBuilder, Parameters, Pass, PatchEmbedding, Places, Result,
};
use vitrine_tensor::{DType, Device};

use crate::file::Golden;

/// Builds a layer, loads its parameters, and compares forward and backward with `CASE.*`. A pass for inference must
/// give the bits of a pass for training.
fn check<L>(
    golden: &Golden,
    case: &str,
    layer: impl Fn(&mut ParameterBuilder) -> L,
    scope: &str,
    forward: impl Fn(&L, &Pass<'_>, &Var) -> Result<Var>,
) {
    let mut builder = ParameterBuilder::new(0);
    let layer = layer(&mut builder);
    let parameters: Parameters = builder.build(golden.dtype, &Device::cpu()).unwrap();
    golden.load(&parameters, scope, &format!("{case}.param"));
    let input = golden.tensor(&format!("{case}.input"));

    let pass = Pass::training(&parameters, 0, 0);
    let x = pass.tape().variable(input.clone());
    let y = forward(&layer, &pass, &x).unwrap();
    golden.compare(&format!("{case}.output"), y.value());
    let upstream = golden.tensor(&format!("{case}.upstream"));
    let gradients = pass.tape().backward_from(&y, upstream).unwrap();
    golden.compare(&format!("{case}.grad.input"), gradients.get(&x).unwrap());
    golden.compare_grads(&parameters, scope, &format!("{case}.grad"));

    let pass = Pass::inference(&parameters);
    let without = forward(&layer, &pass, &pass.constant(input)).unwrap();
    assert_eq!(without.value().to_f64_vec().unwrap(), y.value().to_f64_vec().unwrap());
}

fn last(golden: &Golden, key: &str) -> usize {
    *golden.tensor(key).shape().last().unwrap()
}

fn mlp(dtype: DType) {
    let golden = Golden::open("mlp", dtype);
    for (case, description) in golden.cases() {
        let activation = match description["gelu"].as_str() {
            Some("erf") => Activation::GeluErf,
            Some("tanh") => Activation::GeluTanh,
            other => panic!("GELU {other:?}"),
        };
        let width = last(&golden, &format!("{case}.input"));
        let hidden = last(&golden, &format!("{case}.param.fc1.bias"));
        let config = MlpConfig { activation, ..MlpConfig::new(width, hidden) };
        let layer = |b: &mut ParameterBuilder| Mlp::new(&mut b.scope("mlp"), &config).unwrap();
        check(&golden, case, layer, "mlp.", |mlp, pass, x| mlp.forward(pass, x, None));
    }
}

fn attention(dtype: DType) {
    let golden = Golden::open("attention", dtype);
    let mut with_lens = 0;
    for (case, description) in golden.cases() {
        let flag = |key: &str| description[key].as_bool().unwrap();
        let bias = flag("bias").then_some(Init::TORCH);
        let width = last(&golden, &format!("{case}.input"));
        let config = AttentionConfig {
            qkv_bias: bias.clone(),
            projection_bias: bias,
            ..AttentionConfig::new(width, number(description, "heads"))
        };
        let lens = flag("valid_lens").then(|| golden.tensor(&format!("{case}.valid_lens")));
        with_lens += usize::from(lens.is_some());
        let layer = |b: &mut ParameterBuilder| {
            MultiHeadAttention::new(&mut b.scope("attn"), &config).unwrap()
        };
        check(&golden, case, layer, "attn.", |attention, pass, x| {
            attention.forward(
                pass,
                x,
                &Places { valid_lens: lens.clone(), ..Places::default() },
                None,
            )
        });
    }
    assert_eq!(with_lens, 2);
}

fn layer_norm(dtype: DType) {
    let golden = Golden::open("layer_norm", dtype);
    for (case, description) in golden.cases() {
        let width = last(&golden, &format!("{case}.input"));
        let epsilon = description["layer_norm_eps"].as_f64().unwrap();
        let layer = |b: &mut ParameterBuilder| LayerNorm::new(&mut b.scope("norm"), width, epsilon);
        check(&golden, case, layer, "norm.", |norm, pass, x| norm.forward(pass, x));
    }
}

fn patch_embedding(dtype: DType) {
    let golden = Golden::open("patch_embed", dtype);
    for (case, description) in golden.cases() {
        let pair = |key: &str| {
            let pair = description[key].as_array().unwrap();
            (pair[0].as_u64().unwrap() as usize, pair[1].as_u64().unwrap() as usize)
        };
        let (image, patch) = (pair("image_size"), pair("patch_size"));
        let channels = golden.tensor(&format!("{case}.input")).shape()[1];
        let width = last(&golden, &format!("{case}.param.bias"));
        let layer = |b: &mut ParameterBuilder| {
            let (mut scope, init) = (b.scope("patch_embed"), Init::TORCH);
            PatchEmbedding::new(&mut scope, image, patch, channels, width, &init, &init).unwrap()
        };
        check(&golden, case, layer, "patch_embed.proj.", |embedding, pass, images| {
            let patches = embedding.forward(pass, images)?;
            assert_eq!(patches.shape()[1], embedding.patches());
            Ok(patches)
        });
    }
}

fn cross_entropy(dtype: DType) {
    let golden = Golden::open("cross_entropy", dtype);
    for (case, description) in golden.cases() {
        let smoothing = description["label_smoothing"].as_f64().unwrap();
        let parameters = ParameterBuilder::new(0).build(dtype, &Device::cpu()).unwrap();
        let pass = Pass::training(&parameters, 0, 0);
        let logits = pass.tape().variable(golden.tensor(&format!("{case}.logits")));
        let labels = golden.tensor(&format!("{case}.labels"));
        let loss = logits.cross_entropy(&labels, smoothing).unwrap();
        golden.compare(&format!("{case}.loss"), loss.value());
        let gradients = pass.backward(&loss).unwrap();
        golden.compare(&format!("{case}.grad.logits"), gradients.get(&logits).unwrap());
    }
}

fn number(description: &Value, key: &str) -> usize {
    description[key].as_u64().unwrap() as usize
}

macro_rules! in_both_types {
    ($($layer:ident),*) => {
        mod f32 {
            $(#[test] fn $layer() { super::$layer(vitrine_tensor::DType::F32) })*
        }
        mod f64 {
            $(#[test] fn $layer() { super::$layer(vitrine_tensor::DType::F64) })*
        }
    };
}

in_both_types!(mlp, attention, layer_norm, patch_embedding, cross_entropy);
