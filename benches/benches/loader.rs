//! The loader: an epoch of batches of 128, resized from 28×28 to 96×96, made by the caller's thread or by workers
//! ahead of it. The throughput counts images.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vitrine_benches::{BATCH, SEED, textbook};
use vitrine_data::{DataError, Dataset, Loader, LoaderConfig, Preprocessing};

/// Enough that starting the workers does not count.
const BATCHES: usize = 16;

/// Takes the batches of one epoch and gives each back, as the training loop does.
fn drain(loader: &Loader, epoch: u64) -> Result<(), DataError> {
    for batch in loader.epoch(epoch, 0) {
        loader.recycle(black_box(batch?));
    }
    Ok(())
}

fn loader(criterion: &mut Criterion) {
    let config = textbook();
    let samples = BATCH * BATCHES;
    let dataset = Dataset::synthetic(samples, [config.channels, 28, 28], config.classes, SEED);
    let dataset = Arc::new(dataset.unwrap());
    let mut group = criterion.benchmark_group("loader");
    group.sample_size(20).throughput(Throughput::Elements(samples as u64));
    for workers in [0, 1, 2] {
        let settings = LoaderConfig {
            shuffle: true,
            seed: SEED,
            workers,
            ..LoaderConfig::new(BATCH, Preprocessing::new(config.channels, config.image_size))
        };
        let loader = Loader::new(dataset.clone(), settings).unwrap();
        let mut epoch = 0;
        group.bench_function(BenchmarkId::new("workers", workers), |bencher| {
            bencher.iter(|| {
                drain(&loader, epoch).unwrap();
                epoch += 1;
            });
        });
    }
    group.finish();
}

criterion_group!(benches, loader);
criterion_main!(benches);
