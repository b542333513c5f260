//! The operations beside the products, forward and gradient, at the sizes of the textbook model at batch 128. The
//! throughput counts each operand and each result once: the least that must move.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use vitrine_benches::{BATCH, bytes, labels, mask, normal, textbook, uniform};
use vitrine_models::VitConfig;
use vitrine_tensor::{
    Activation, Attention, AttentionInputs, DType, Device, Result, Tensor, Windows,
};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// Measures one operation; `moved` are the tensors that it reads and writes.
fn measure<T>(
    group: &mut Group<'_>,
    name: &str,
    way: &str,
    moved: &[&Tensor],
    mut operation: impl FnMut() -> Result<T>,
) {
    group.throughput(Throughput::Bytes(bytes(moved)));
    group.bench_function(BenchmarkId::new(name, way), |bencher| {
        bencher.iter(|| black_box(operation().unwrap()));
    });
}

fn layer_norm(group: &mut Group<'_>, config: &VitConfig) -> Result<()> {
    let epsilon = config.layer_norm_eps;
    let x = normal(0, &[BATCH, config.tokens(), config.width])?;
    let dy = normal(1, x.shape())?;
    let [scale, shift] = [normal(2, &[config.width])?, normal(3, &[config.width])?];
    let zeros = || Tensor::zeros(&[config.width], DType::F32, &Device::cpu());
    let [dscale, dshift] = [zeros()?, zeros()?];
    let (y, statistics) = x.layer_norm(&scale, &shift, epsilon)?;
    let moved = [&x, &scale, &shift, &y, &statistics];
    measure(group, "layer_norm", "forward", &moved, || x.layer_norm(&scale, &shift, epsilon));
    // The gradient of x has x's size; it stands for it in the count.
    let moved = [&x, &scale, &statistics, &dy, &dscale, &dshift, &x];
    measure(group, "layer_norm", "gradient", &moved, || {
        x.layer_norm_grad(&scale, &statistics, &dy, &dscale, &dshift)
    });
    Ok(())
}

fn gelu(group: &mut Group<'_>, config: &VitConfig) -> Result<()> {
    let x = normal(0, &[BATCH, config.tokens(), config.mlp_width])?;
    let dy = normal(1, x.shape())?;
    let forms = [("gelu_erf", Activation::GeluErf), ("gelu_tanh", Activation::GeluTanh)];
    for (name, form) in forms {
        measure(group, name, "forward", &[&x, &x], || x.activate(form));
        measure(group, name, "gradient", &[&x, &dy, &x], || x.activate_grad(form, &dy));
    }
    Ok(())
}

/// The gradient is the same operation, under the same mask.
fn dropout(group: &mut Group<'_>, config: &VitConfig) -> Result<()> {
    let x = normal(0, &[BATCH, config.tokens(), config.mlp_width])?;
    let mask = mask(1, config.dropout);
    measure(group, "dropout", "forward", &[&x, &x], || x.dropout(mask));
    Ok(())
}

fn softmax(group: &mut Group<'_>, config: &VitConfig) -> Result<()> {
    let x = normal(0, &[BATCH, config.heads, config.tokens(), config.tokens()])?;
    let (y, dy) = (x.softmax()?, normal(1, x.shape())?);
    measure(group, "softmax", "forward", &[&x, &y], || x.softmax());
    measure(group, "softmax", "gradient", &[&y, &dy, &x], || y.softmax_grad(&dy));
    Ok(())
}

/// Self-attention on packed queries, keys and values, with dropout on the weights, as a training step runs it.
fn attention(group: &mut Group<'_>, config: &VitConfig) -> Result<()> {
    let qkv = normal(0, &[BATCH, config.tokens(), 3 * config.width])?;
    let [query, key, value] = AttentionInputs::packed(&qkv)?;
    let inputs = AttentionInputs { query: &query, key: &key, value: &value };
    let dropout = Some(mask(1, config.attention_dropout));
    let options = Attention { heads: config.heads, valid_lens: None, bias: None, dropout };
    let output = inputs.attend(&options)?;
    let dy = normal(2, output.y.shape())?;
    let moved = [&qkv, &output.y, &output.log_sums];
    measure(group, "attention", "forward", &moved, || inputs.attend(&options));
    let moved = [&qkv, &output.y, &output.log_sums, &dy, &qkv];
    measure(group, "attention", "gradient", &moved, || {
        inputs.attend_grad(&options, &output, &dy, true)
    });
    Ok(())
}

fn cross_entropy(group: &mut Group<'_>, config: &VitConfig) -> Result<()> {
    let logits = normal(0, &[BATCH, config.classes])?;
    let labels = labels(BATCH, config.classes)?;
    let dloss = Tensor::full(&[], 1.0, DType::F32, &Device::cpu())?;
    let moved = [&logits, &labels, &dloss];
    measure(group, "cross_entropy", "forward", &moved, || logits.cross_entropy(&labels, 0.0));
    let moved = [&logits, &labels, &dloss, &logits];
    measure(group, "cross_entropy", "gradient", &moved, || {
        logits.cross_entropy_grad(&labels, 0.0, &dloss)
    });
    Ok(())
}

fn patches(group: &mut Group<'_>, config: &VitConfig) -> Result<()> {
    let (height, width) = config.image_size;
    let images = uniform(0, &[BATCH, config.channels, height, width])?;
    let windows = Windows::patches(config.patch_size);
    let patches = images.unfold(&windows)?;
    let moved = [&images, &patches];
    measure(group, "patches", "unfold", &moved, || images.unfold(&windows));
    measure(group, "patches", "fold", &moved, || patches.fold(&windows, images.shape()));
    Ok(())
}

fn layers(criterion: &mut Criterion) {
    let config = textbook();
    let mut group = criterion.benchmark_group("layers");
    let all = [layer_norm, gelu, dropout, softmax, attention, cross_entropy, patches];
    for operation in all {
        operation(&mut group, &config).unwrap();
    }
    group.finish();
}

criterion_group!(benches, layers);
criterion_main!(benches);
