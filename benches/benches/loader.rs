//! The loader: an epoch of batches of 128, resized from 28×28 to 96×96, made by the caller's thread or by workers
//! ahead of it. The throughput counts images.
//!
//! With `VITRINE_PICTURES=DIR`, class folders with pictures, also an epoch of these: decoded, cut, resized to 224×224
//! and augmented, none kept, as `benches/peers/timm_loader.py` has timm do it.

use std::env;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use vitrine_benches::{BATCH, SEED, textbook};
use vitrine_data::augment::{Augmentation, RandomCrop};
use vitrine_data::{
    DataError, Dataset, Interpolation, Loader, LoaderConfig, MAX_PIXELS, Pictures, Preprocessing,
    Samples,
};

/// Enough that starting the workers does not count.
const BATCHES: usize = 16;

/// Takes the batches of one epoch and gives each back, as the training loop does.
fn drain(loader: &Loader, epoch: u64) -> Result<(), DataError> {
    for batch in loader.epoch(epoch, 0) {
        loader.recycle(black_box(batch?));
    }
    Ok(())
}

fn epochs(group: &mut BenchmarkGroup<'_, WallTime>, workers: usize, loader: &Loader) {
    let mut epoch = 0;
    group.bench_function(BenchmarkId::new("workers", workers), |bencher| {
        bencher.iter(|| {
            drain(loader, epoch).unwrap();
            epoch += 1;
        });
    });
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
        epochs(&mut group, workers, &loader);
    }
    group.finish();
}

fn pictures(criterion: &mut Criterion) {
    let Ok(folder) = env::var("VITRINE_PICTURES") else { return };
    let folder =
        Arc::new(Pictures::in_folder(Path::new(&folder), "pictures", None, MAX_PIXELS).unwrap());
    let preprocessing = Preprocessing {
        interpolation: Interpolation::Bicubic,
        ..Preprocessing::new(3, (224, 224))
    };
    let augmentation = Arc::new(Augmentation {
        crop: RandomCrop::Resized,
        scale: [0.08, 1.0],
        ratio: [3.0 / 4.0, 4.0 / 3.0],
        hflip: 0.5,
        policy: Some("rand-m9-mstd0.5-inc1".parse().unwrap()),
        ..Augmentation::none(preprocessing.clone())
    });
    let mut group = criterion.benchmark_group("pictures");
    group.sample_size(10).throughput(Throughput::Elements(folder.len() as u64));
    for workers in [1, 2] {
        let config = LoaderConfig {
            shuffle: true,
            seed: SEED,
            workers,
            prefetch: 2 * workers,
            ..LoaderConfig::new(32, preprocessing.clone())
        };
        let loader = Loader::with_transform(folder.clone(), config, augmentation.clone()).unwrap();
        epochs(&mut group, workers, &loader);
    }
    group.finish();
}

criterion_group!(benches, loader, pictures);
criterion_main!(benches);
