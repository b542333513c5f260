//! The matrix products of the textbook model at batch 128: each linear layer of a block with its two gradients, and
//! the batched products of attention. An "element" of the throughput is one floating-point operation.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vitrine_benches::{BATCH, Product, flops, normal, textbook};
use vitrine_tensor::{DType, Device, Epilogue, Result, Tensor};

fn linear(criterion: &mut Criterion) -> Result<()> {
    let config = textbook();
    let tokens = config.tokens();
    let mut group = criterion.benchmark_group("products");
    for product in Product::of_block(&config) {
        let Product { name, inputs, outputs } = product;
        let x = normal(0, &[BATCH, tokens, inputs])?;
        let dy = normal(1, &[BATCH, tokens, outputs])?;
        let weight = normal(2, &[outputs, inputs])?;
        let dw = Tensor::zeros(&[outputs, inputs], DType::F32, &Device::cpu())?;
        group.throughput(Throughput::Elements(product.flops(BATCH * tokens)));
        group.bench_function(BenchmarkId::new(name, "forward"), |bencher| {
            bencher.iter(|| black_box(&x).linear(&weight, &Epilogue::default()).unwrap());
        });
        group.bench_function(BenchmarkId::new(name, "grad_input"), |bencher| {
            bencher.iter(|| black_box(&dy).linear_grad_input(&weight).unwrap());
        });
        group.bench_function(BenchmarkId::new(name, "grad_weight"), |bencher| {
            bencher.iter(|| black_box(&dy).linear_grad_weight_(&x, &dw, None).unwrap());
        });
    }
    group.finish();
    Ok(())
}

/// Attention's products as batched products over all heads of all images: scores `q·kᵀ`, and weights times values.
fn batched(criterion: &mut Criterion) -> Result<()> {
    let config = textbook();
    let (tokens, width) = (config.tokens(), config.width / config.heads);
    let heads = BATCH * config.heads;
    let query = normal(0, &[heads, tokens, width])?;
    let key = normal(1, &[heads, tokens, width])?.transpose(1, 2)?;
    let value = normal(2, &[heads, tokens, width])?;
    let weights = normal(3, &[heads, tokens, tokens])?.softmax()?;
    let mut group = criterion.benchmark_group("products");
    group.throughput(Throughput::Elements(heads as u64 * flops(tokens, width, tokens)));
    group.bench_function(BenchmarkId::new("batched", "scores"), |bencher| {
        bencher.iter(|| black_box(&query).matmul(&key).unwrap());
    });
    group.bench_function(BenchmarkId::new("batched", "mix"), |bencher| {
        bencher.iter(|| black_box(&weights).matmul(&value).unwrap());
    });
    group.finish();
    Ok(())
}

fn products(criterion: &mut Criterion) {
    linear(criterion).unwrap();
    batched(criterion).unwrap();
}

criterion_group!(benches, products);
criterion_main!(benches);
