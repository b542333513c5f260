//! How many images a second one thread brings from 28×28 bytes to 96×96 floats.

use std::sync::Arc;
use std::time::Instant;

use vitrine_data::{DataError, Dataset, Loader, LoaderConfig, Preprocessing, Samples};

fn main() -> Result<(), DataError> {
    let dataset = Arc::new(Dataset::synthetic(20_000, [1, 28, 28], 10, 0)?);
    for workers in [0, 1, 2] {
        let preprocessing = Preprocessing::new(1, (96, 96));
        let config =
            LoaderConfig { shuffle: true, workers, ..LoaderConfig::new(128, preprocessing) };
        let loader = Loader::new(dataset.clone(), config)?;
        for recycle in [false, true] {
            let start = Instant::now();
            for batch in loader.epoch(0, 0) {
                let batch = batch?;
                if recycle {
                    loader.recycle(batch);
                }
            }
            let rate = dataset.len() as f64 / start.elapsed().as_secs_f64();
            println!("workers {workers}, batches recycled: {recycle}: {rate:.0} images/s");
        }
    }
    Ok(())
}
