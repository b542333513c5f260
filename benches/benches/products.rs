//! The matrix products of the textbook model at batch 128: each linear layer with its two gradients, in `f32` and
//! `bf16`, and the batched products of attention; beside them the machine's peak, which none can exceed. An "element"
//! of the throughput is one floating-point operation.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vitrine_benches::{BATCH, ProductShape, flops, normal, peaks, textbook};
use vitrine_tensor::{DType, Device, Epilogue, Result, Tensor};

/// Multiply-adds in registers, for each instruction that does them.
fn peak(criterion: &mut Criterion) {
    const ROUNDS: u64 = 1_000_000;
    let mut group = criterion.benchmark_group("peak");
    for peak in peaks() {
        group.throughput(Throughput::Elements(peak.run(ROUNDS)));
        group.bench_function(peak.name, |bencher| bencher.iter(|| peak.run(ROUNDS)));
    }
    group.finish();
}

fn linear(criterion: &mut Criterion, dtype: DType) -> Result<()> {
    let config = textbook();
    let mut products = vec![(ProductShape::of_patches(&config), config.patches())];
    products.extend(ProductShape::of_block(&config).map(|product| (product, config.tokens())));
    let mut group = criterion.benchmark_group(format!("products_{dtype}"));
    for (product, tokens) in products {
        let ProductShape { name, inputs, outputs } = product;
        let x = normal(0, &[BATCH, tokens, inputs])?.to_dtype(dtype)?;
        let dy = normal(1, &[BATCH, tokens, outputs])?.to_dtype(dtype)?;
        let weight = normal(2, &[outputs, inputs])?.to_dtype(dtype)?;
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
    let mut group = criterion.benchmark_group("products_batched");
    group.throughput(Throughput::Elements(heads as u64 * flops(tokens, width, tokens)));
    group.bench_function("scores", |bencher| {
        bencher.iter(|| black_box(&query).matmul(&key).unwrap());
    });
    group.bench_function("mix", |bencher| {
        bencher.iter(|| black_box(&weights).matmul(&value).unwrap());
    });
    group.finish();
    Ok(())
}

fn products(criterion: &mut Criterion) {
    peak(criterion);
    linear(criterion, DType::F32).unwrap();
    linear(criterion, DType::BF16).unwrap();
    batched(criterion).unwrap();
}

criterion_group!(benches, products);
criterion_main!(benches);
