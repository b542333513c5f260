//! The forward pass and the whole train step of the textbook model, with the last block computed for the class token
//! alone and for all rows, at the recipe's batch and at a small one. The throughput counts images.

use std::hint::black_box;
use std::time::Duration;

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use vitrine_benches::{BATCH, SEED, SMALL_BATCH, labels, textbook, uniform};
use vitrine_models::{VisionTransformer, VitConfig};
use vitrine_nn::{Model, Optimizer, ParameterBuilder, Parameters, Pass, Result, Sgd};
use vitrine_tensor::{DType, Device, Tensor};

/// The `d2l` recipe's.
const LEARNING_RATE: f64 = 0.1;

/// A model, a batch that it is trained on again and again, and what a step needs.
struct Training {
    model: VisionTransformer,
    parameters: Parameters,
    optimizer: Sgd,
    images: Tensor,
    labels: Tensor,
    steps: u64,
}

impl Training {
    fn new(config: &VitConfig, batch: usize) -> Result<Self> {
        let mut builder = ParameterBuilder::new(SEED);
        let model = VisionTransformer::new(&mut builder.scope(""), config)?;
        let (height, width) = config.image_size;
        Ok(Self {
            model,
            parameters: builder.build(DType::F32, &Device::cpu())?,
            optimizer: Sgd::new(0.0, false, 0.0)?,
            images: uniform(0, &[batch, config.channels, height, width])?,
            labels: labels(batch, config.classes)?,
            steps: 0,
        })
    }

    /// Logits without dropout and without a record.
    fn forward(&self) -> Result<Tensor> {
        let pass = Pass::inference(&self.parameters);
        Ok(self.model.forward(&pass, &pass.constant(self.images.clone()))?.logits.into_value())
    }

    /// Forward, cross-entropy, backward, plain SGD; gives the loss.
    fn train(&mut self) -> Result<Tensor> {
        self.parameters.zero_grads()?;
        let pass = Pass::training(&self.parameters, SEED, self.steps);
        let logits = self.model.forward(&pass, &pass.constant(self.images.clone()))?.logits;
        let loss = logits.cross_entropy(&self.labels, 0.0)?;
        pass.backward(&loss)?;
        self.optimizer.step(&self.parameters, LEARNING_RATE)?;
        self.steps += 1;
        Ok(loss.into_value())
    }
}

fn step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step");
    // A step takes long: as many iterations for each sample, not more from sample to sample.
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.measurement_time(Duration::from_secs(10));
    for (suffix, last_block_saving) in [("", true), ("_saving_off", false)] {
        let config = VitConfig { last_block_saving, ..textbook() };
        for batch in [BATCH, SMALL_BATCH] {
            let mut training = Training::new(&config, batch).unwrap();
            group.throughput(Throughput::Elements(batch as u64));
            group.bench_function(BenchmarkId::new(format!("forward{suffix}"), batch), |bencher| {
                bencher.iter(|| black_box(training.forward().unwrap()));
            });
            group.bench_function(BenchmarkId::new(format!("train{suffix}"), batch), |bencher| {
                bencher.iter(|| black_box(training.train().unwrap()));
            });
            // Arithmetic on NaN is no measure of the step.
            let logits = training.forward().unwrap().to_f64_vec().unwrap();
            assert!(logits.iter().all(|logit| logit.is_finite()), "the training diverged");
        }
    }
    group.finish();
}

criterion_group!(benches, step);
criterion_main!(benches);
