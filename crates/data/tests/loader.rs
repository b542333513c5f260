//! The loader: what is in the batches, that threads do not matter, and that failures reach the
//! caller.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use vitrine_data::{
    Batch, DataError, Dataset, Image, Loader, LoaderConfig, Preprocessing, SampleAddress, Samples,
    Scratch, Transform,
};

fn dataset(samples: usize) -> Arc<Dataset> {
    Arc::new(Dataset::synthetic(samples, [1, 8, 6], 4, 3).unwrap())
}

/// Batches of `batch_size` images of `channels` × 8 × 6, the size of the pictures.
fn plain(batch_size: usize, channels: usize) -> LoaderConfig {
    LoaderConfig::new(batch_size, Preprocessing::new(channels, (8, 6)))
}

fn config(workers: usize, prefetch: usize) -> LoaderConfig {
    let preprocessing = Preprocessing::new(1, (12, 10));
    LoaderConfig {
        shuffle: true,
        seed: 9,
        workers,
        prefetch,
        ..LoaderConfig::new(8, preprocessing)
    }
}

/// A sample's picture.
fn picture(samples: &dyn Samples, index: usize) -> Image {
    let mut image = Image::default();
    samples.read(index, &mut image).unwrap();
    image
}

fn collect(loader: &Loader, epoch: u64, start: usize) -> Vec<Batch> {
    loader.epoch(epoch, start).map(Result::unwrap).collect()
}

/// Fails the test if `work` takes longer than ten seconds, in place of hanging.
fn within_ten_seconds<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    wait.recv_timeout(Duration::from_secs(10)).expect("the work hangs or panicked")
}

/// A transform that copies bytes, and calls a function first.
struct Hook<F>(F);

impl<F: Fn(SampleAddress) -> Result<(), DataError> + Send + Sync> Transform for Hook<F> {
    fn output_shape(&self) -> [usize; 3] {
        [1, 8, 6]
    }

    fn apply(
        &self,
        address: SampleAddress,
        image: &mut Image,
        _: &mut Scratch,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        (self.0)(address)?;
        for (value, &byte) in out.iter_mut().zip(&image.pixels) {
            *value = byte.into();
        }
        Ok(())
    }
}

fn hooked(
    workers: usize,
    hook: impl Fn(SampleAddress) -> Result<(), DataError> + Send + Sync + 'static,
) -> Loader {
    let config = LoaderConfig { workers, prefetch: 3, ..plain(8, 1) };
    Loader::with_transform(dataset(100), config, Arc::new(Hook(hook))).unwrap()
}

#[test]
fn batches_hold_the_samples_they_name() {
    let dataset = dataset(43);
    let config = LoaderConfig { preprocessing: plain(8, 1).preprocessing, ..config(2, 3) };
    let loader = Loader::new(dataset.clone(), config).unwrap();
    assert_eq!(loader.batches_per_epoch(), 6);
    let batches = collect(&loader, 4, 0);
    let sizes: Vec<_> = batches.iter().map(|batch| batch.shape).collect();
    assert_eq!(sizes[..5], [[8, 1, 8, 6]; 5]);
    assert_eq!(sizes[5], [3, 1, 8, 6]);
    for (index, batch) in batches.iter().enumerate() {
        assert_eq!((batch.index, batch.epoch), (index, 4));
        assert_eq!(batch.images.len(), batch.shape.iter().product::<usize>());
        for (i, &sample) in batch.samples.iter().enumerate() {
            assert_eq!(batch.labels[i], dataset.label(sample));
            let image = picture(&*dataset, sample);
            let expected: Vec<f32> = image.pixels.iter().map(|&v| f32::from(v) / 255.0).collect();
            assert_eq!(batch.images[i * 48..(i + 1) * 48], expected);
        }
    }
    let order: Vec<_> = batches.iter().flat_map(|batch| batch.samples.clone()).collect();
    assert_eq!(order, loader.order(4));
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..43).collect::<Vec<_>>());
    assert_ne!(order, sorted);
    assert_ne!(order, loader.order(5));
}

/// Every one of the 24 orders of four samples comes equally often, over the epochs.
#[test]
fn all_orders_are_equally_likely() {
    let loader = Loader::new(dataset(4), config(0, 0)).unwrap();
    let mut counts = BTreeMap::new();
    for epoch in 0..24_000 {
        *counts.entry(loader.order(epoch)).or_insert(0u32) += 1;
    }
    assert_eq!(counts.len(), 24);
    // The standard deviation of each count is 31.
    assert!(counts.values().all(|&c| c.abs_diff(1000) < 180), "{counts:?}");
}

#[test]
fn the_order_depends_on_the_seed() {
    let order =
        |seed| Loader::new(dataset(100), LoaderConfig { seed, ..config(0, 0) }).unwrap().order(1);
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}

#[test]
fn without_shuffle_the_order_is_the_datasets() {
    let loader = Loader::new(dataset(20), plain(6, 1)).unwrap();
    let samples: Vec<_> = collect(&loader, 3, 0).into_iter().flat_map(|b| b.samples).collect();
    assert_eq!(samples, (0..20).collect::<Vec<_>>());
}

#[test]
fn threads_prefetch_and_recycling_do_not_matter() {
    let dataset = dataset(203);
    let reference = Loader::new(dataset.clone(), config(0, 0)).unwrap();
    for epoch in [0, 1] {
        let expected = collect(&reference, epoch, 0);
        for (workers, prefetch) in [(1, 1), (1, 4), (2, 1), (2, 3), (4, 2), (4, 40)] {
            let loader = Loader::new(dataset.clone(), config(workers, prefetch)).unwrap();
            assert_eq!(collect(&loader, epoch, 0), expected, "{workers} workers, {prefetch} ahead");
            for (batch, expected) in loader.epoch(epoch, 0).zip(&expected) {
                let batch = batch.unwrap();
                assert_eq!(&batch, expected, "recycled, {workers} workers, {prefetch} ahead");
                loader.recycle(batch);
            }
        }
    }
}

#[test]
fn an_epoch_can_begin_at_any_batch() {
    let dataset = dataset(43);
    for workers in [0, 2] {
        let loader = Loader::new(dataset.clone(), config(workers, 2)).unwrap();
        let whole = collect(&loader, 7, 0);
        for start in 0..=6 {
            assert_eq!(collect(&loader, 7, start), whole[start..], "from batch {start}");
        }
        let mut past = loader.epoch(7, 7);
        let error = past.next().unwrap().unwrap_err();
        assert!(matches!(error, DataError::BadSetting { setting: "start_batch", .. }), "{error:?}");
        assert!(past.next().is_none());
    }
}

#[test]
fn gray_becomes_as_many_equal_channels() {
    let gray = Loader::new(dataset(10), config(0, 0)).unwrap();
    for channels in [2, 3, 5] {
        let preprocessing = Preprocessing::new(channels, (12, 10));
        let many =
            Loader::new(dataset(10), LoaderConfig { preprocessing, ..config(1, 1) }).unwrap();
        assert_eq!(many.image_shape(), [channels, 12, 10]);
        for (gray, many) in collect(&gray, 0, 0).iter().zip(collect(&many, 0, 0)) {
            for (gray, many) in gray.images.chunks(120).zip(many.images.chunks(channels * 120)) {
                assert_eq!(gray.repeat(channels), many);
            }
        }
    }
}

#[test]
fn colour_planes_are_resized_each() {
    let rgb = Arc::new(Dataset::synthetic(3, [3, 8, 6], 2, 1).unwrap());
    let loader =
        Loader::new(rgb.clone(), LoaderConfig::new(3, Preprocessing::new(3, (12, 10)))).unwrap();
    let batch = collect(&loader, 0, 0).remove(0);
    assert_eq!(batch.shape, [3, 3, 12, 10]);
    for plane in 0..9 {
        let pixels = picture(&*rgb, plane / 3).pixels[plane % 3 * 48..][..48].to_vec();
        let names = vec!["only".to_owned()];
        let one = Dataset::from_parts("plane", pixels, vec![0], [1, 8, 6], names).unwrap();
        let alone = Loader::new(Arc::new(one), config(0, 0)).unwrap();
        let alone = collect(&alone, 0, 0).remove(0).images;
        assert_eq!(batch.images[plane * 120..][..120], alone, "plane {plane}");
    }
}

#[test]
fn a_transform_is_told_the_address() {
    let (sender, receiver) = mpsc::channel();
    let hook = move |address| {
        sender.send(address).unwrap();
        Ok(())
    };
    let config = LoaderConfig { preprocessing: plain(8, 1).preprocessing, ..config(2, 2) };
    let loader = Loader::with_transform(dataset(20), config, Arc::new(Hook(hook))).unwrap();
    collect(&loader, 5, 0);
    drop(loader);
    let mut addresses: Vec<SampleAddress> = receiver.iter().collect();
    addresses.sort_by_key(|address| address.sample);
    let expected = (0..20).map(|sample| SampleAddress { seed: 9, epoch: 5, sample });
    assert_eq!(addresses, expected.collect::<Vec<_>>());
}

#[test]
fn a_panic_reaches_the_caller_as_an_error() {
    for workers in [0, 1, 2, 4] {
        let items = within_ten_seconds(move || {
            let loader = hooked(workers, |address| {
                assert!(address.sample != 27, "sample {} is cursed", address.sample);
                Ok(())
            });
            loader.epoch(2, 0).collect::<Vec<_>>()
        });
        // Batches 0 to 2 are whole; sample 27 is in batch 3; then it ends.
        assert_eq!(items.len(), 4, "{workers} workers");
        assert!(items[..3].iter().all(Result::is_ok));
        let error = items[3].as_ref().unwrap_err();
        assert!(matches!(error, DataError::WorkerPanicked { epoch: 2, batch: 3, .. }), "{error:?}");
        assert!(error.to_string().contains("sample 27 is cursed"), "{error}");
    }
}

#[test]
fn an_error_of_a_transform_reaches_the_caller() {
    for workers in [0, 3] {
        let items = within_ten_seconds(move || {
            let loader = hooked(workers, |address| match address.sample {
                16 => {
                    Err(DataError::BadSetting { setting: "sample", reason: "sixteen".to_owned() })
                }
                _ => Ok(()),
            });
            loader.epoch(0, 0).collect::<Vec<_>>()
        });
        assert_eq!(items.len(), 3);
        let error = items[2].as_ref().unwrap_err();
        assert!(error.to_string().contains("sixteen"), "{error}");
    }
}

#[test]
fn dropping_the_iterator_stops_the_workers() {
    // With the workers in the middle of a batch, and with all of them waiting for the caller.
    for (taken, pause) in [(0, 0), (1, 0), (5, 0), (0, 200), (2, 200)] {
        within_ten_seconds(move || {
            let loader = hooked(3, |_| {
                thread::sleep(Duration::from_millis(2));
                Ok(())
            });
            let mut batches = loader.epoch(0, 0);
            for _ in 0..taken {
                batches.next().unwrap().unwrap();
            }
            thread::sleep(Duration::from_millis(pause));
            drop(batches);
            // No thread is left that holds the dataset: the loader is its only owner.
            assert_eq!(Arc::strong_count(loader.dataset()), 1);
        });
    }
}

#[test]
fn workers_are_no_further_ahead_than_prefetch() {
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let loader = hooked(4, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let mut batches = loader.epoch(0, 0);
    for given in 1..=4 {
        batches.next().unwrap().unwrap();
        // Prefetch is 3 batches of 8: the workers get there, and no further.
        let expected = (given + 3) * 8;
        let deadline = Instant::now() + Duration::from_secs(10);
        while begun.load(Ordering::SeqCst) < expected && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(30));
        assert_eq!(begun.load(Ordering::SeqCst), expected, "after {given} batches");
    }
}

#[test]
fn recycled_memory_is_used_again() {
    let loader = Loader::new(dataset(40), config(0, 0)).unwrap();
    let first = loader.epoch(0, 0).next().unwrap().unwrap();
    let address = first.images.as_ptr();
    loader.recycle(first);
    // Also by another epoch, where the last batch was shorter.
    assert_eq!(loader.epoch(1, 0).next().unwrap().unwrap().images.as_ptr(), address);
}

#[test]
fn senseless_settings_are_refused() {
    let refuse = |samples: usize, config: LoaderConfig, setting: &str| {
        let error = Loader::new(dataset(samples), config).err().expect(setting);
        assert!(error.to_string().contains(setting), "{error}");
    };
    let good = || config(1, 1);
    refuse(5, LoaderConfig { batch_size: 0, ..good() }, "batch_size");
    refuse(5, LoaderConfig { prefetch: 0, ..good() }, "prefetch");
    refuse(0, good(), "no samples");
    let whole = Preprocessing::new(1, (9, 9));
    for (preprocessing, setting) in [
        (Preprocessing::new(1, (0, 9)), "image size"),
        (Preprocessing::new(1, (9, 1 << 40)), "image size"),
        (Preprocessing::new(0, (9, 9)), "preprocessing"),
        (Preprocessing { mean: vec![0.5; 3], ..whole.clone() }, "preprocessing"),
        (Preprocessing { mean: vec![f64::NAN], ..whole.clone() }, "preprocessing"),
        (Preprocessing { std: vec![], ..whole.clone() }, "preprocessing"),
        (Preprocessing { std: vec![0.0], ..whole.clone() }, "preprocessing"),
        (Preprocessing { std: vec![f64::INFINITY], ..whole }, "preprocessing"),
    ] {
        refuse(5, LoaderConfig { preprocessing, ..good() }, &format!("setting {setting}"));
    }
    let other_shape = Loader::with_transform(dataset(5), good(), Arc::new(Hook(|_| Ok(()))));
    let error = other_shape.err().expect("shapes differ");
    assert!(error.to_string().contains("[1, 8, 6]"), "{error}");
}
