//! Datasets of a stranger's: pictures of all sizes, soft targets, faults, and the fingerprint.

use std::sync::Arc;

use vitrine_data::{
    Batch, DataError, Dataset, Image, Labels, Loader, LoaderConfig, Preprocessing, SampleAddress,
    Samples, Scratch, Subset, Transform,
};

type Read = dyn Fn(usize, &mut Image) -> Result<(), DataError> + Send + Sync;
type Shares = dyn Fn(usize) -> Option<Vec<f32>> + Send + Sync;

/// Two classes, and whatever a test wants of the rest.
struct Own {
    labels: Labels,
    read: Box<Read>,
    shares: Box<Shares>,
}

impl Samples for Own {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn read(&self, index: usize, image: &mut Image) -> Result<(), DataError> {
        (self.read)(index, image)
    }

    fn shares(&self, index: usize, shares: &mut [f32]) -> bool {
        let given = (self.shares)(index);
        given.is_some_and(|given| {
            shares.copy_from_slice(&given);
            true
        })
    }
}

/// Pictures of 11 sizes in turn, more than stay prepared; every third in colour.
fn own(samples: usize) -> Own {
    let class_names = vec!["even".to_owned(), "odd".to_owned()];
    let labels = (0..samples).map(|index| index as i64 % 2).collect();
    Own {
        labels: Labels::new("own", class_names, labels).unwrap(),
        read: Box::new(|index, image| {
            let channels = if index.is_multiple_of(3) { 3 } else { 1 };
            let size = index % 11;
            image.shape = [channels, 3 + 2 * size, 20 - size];
            image.pixels.clear();
            let pixels = image.shape.iter().product();
            image.pixels.extend((0..pixels).map(|i| (i * (index + 3) % 251) as u8));
            Ok(())
        }),
        shares: Box::new(|_| None),
    }
}

fn config(channels: usize, workers: usize, prefetch: usize) -> LoaderConfig {
    let preprocessing = Preprocessing {
        mean: vec![0.25; channels],
        std: vec![0.5; channels],
        ..Preprocessing::new(channels, (9, 7))
    };
    LoaderConfig { shuffle: true, workers, prefetch, ..LoaderConfig::new(8, preprocessing) }
}

fn collect(samples: Arc<Own>, config: LoaderConfig, start: usize) -> Vec<Batch> {
    Loader::new(samples, config).unwrap().epoch(3, start).map(Result::unwrap).collect()
}

/// What a dataset's first batch of four fails with, which must name the dataset.
fn fault(samples: Own, channels: usize) -> DataError {
    let config = LoaderConfig::new(4, Preprocessing::new(channels, (4, 4)));
    let error = Loader::new(Arc::new(samples), config).unwrap().epoch(0, 0).next().unwrap();
    let error = error.unwrap_err();
    assert!(error.to_string().contains("own"), "{error}");
    error
}

#[track_caller]
fn assert_names(error: &DataError, sample: usize, part: &str) {
    assert!(matches!(error, DataError::Sample { index, .. } if *index == sample), "{error:?}");
    assert!(error.to_string().contains(part), "{part} is not in: {error}");
}

#[test]
fn pictures_of_many_sizes_are_what_they_are_alone() {
    let samples = Arc::new(own(40));
    for channels in [1, 3] {
        let config = config(channels, 2, 3);
        let preprocessing = config.preprocessing.clone();
        let mut seen = 0;
        for batch in collect(samples.clone(), config, 0) {
            for (&sample, image) in batch.samples.iter().zip(batch.images.chunks(channels * 63)) {
                let (mut picture, mut alone) = (Image::default(), vec![f32::NAN; channels * 63]);
                samples.read(sample, &mut picture).unwrap();
                let address = SampleAddress { seed: 0, epoch: 0, sample };
                let scratch = &mut Scratch::default();
                preprocessing.apply(address, &mut picture, scratch, &mut alone).unwrap();
                assert_eq!(image, alone, "sample {sample}, {channels} channels");
                seen += 1;
            }
        }
        assert_eq!(seen, 40);
    }
}

#[test]
fn threads_prefetch_and_a_later_start_do_not_matter() {
    let samples = Arc::new(own(60));
    let expected = collect(samples.clone(), config(3, 0, 0), 0);
    for (workers, prefetch, start) in [(1, 1, 0), (3, 2, 0), (2, 5, 3), (0, 0, 6)] {
        let batches = collect(samples.clone(), config(3, workers, prefetch), start);
        assert_eq!(batches, expected[start..], "{workers} workers, {prefetch} ahead, from {start}");
    }
}

#[test]
fn colour_becomes_grey_with_pillows_weights() {
    let read = |_, image: &mut Image| {
        *image = Image { pixels: vec![10, 255, 200, 255, 30, 255], shape: [3, 1, 2] };
        Ok(())
    };
    let samples = Arc::new(Own { read: Box::new(read), ..own(1) });
    let config = LoaderConfig::new(1, Preprocessing::new(1, (1, 2)));
    // 0.299 · 10 + 0.587 · 200 + 0.114 · 30 = 123.81
    assert_eq!(collect(samples, config, 0)[0].images, [124.0 / 255.0, 1.0]);
}

#[test]
fn mean_and_std_are_those_of_each_channel() {
    let read = |_, image: &mut Image| {
        *image = Image { pixels: vec![0, 255, 0, 255, 51, 255], shape: [3, 1, 2] };
        Ok(())
    };
    let samples = Arc::new(Own { read: Box::new(read), ..own(1) });
    let preprocessing = Preprocessing {
        mean: vec![0.5, 0.25, 0.406],
        std: vec![0.5, 0.25, 0.225],
        ..Preprocessing::new(3, (1, 2))
    };
    let images = collect(samples, LoaderConfig::new(1, preprocessing), 0).remove(0).images;
    assert_eq!(images[..4], [-1.0, 1.0, -1.0, 3.0]);
    // (0.2 - 0.406) / 0.225 and (1 - 0.406) / 0.225
    for (actual, expected) in images[4..].iter().zip([-0.915_555_6, 2.64]) {
        assert!((actual - expected).abs() < 1e-6, "{actual} and {expected}");
    }
}

#[test]
fn soft_targets_come_with_the_labels() {
    let shares = |index: usize| Some(vec![index as f32 / 64.0, 1.0 - index as f32 / 64.0]);
    let samples = Arc::new(Own { shares: Box::new(shares), ..own(20) });
    let loader = Loader::new(samples.clone(), config(1, 1, 1)).unwrap();
    for epoch in [0, 1] {
        for batch in loader.epoch(epoch, 0) {
            let batch = batch.unwrap();
            let expected: Vec<f32> =
                batch.samples.iter().flat_map(|&index| shares(index).unwrap()).collect();
            assert_eq!(batch.shares, expected);
            assert_eq!(batch.labels.len(), batch.samples.len());
            loader.recycle(batch);
        }
    }
    assert!(collect(Arc::new(own(20)), config(1, 1, 1), 0).iter().all(|b| b.shares.is_empty()));
}

#[test]
fn soft_targets_that_are_none_are_refused() {
    let some = |index: usize, shares: Vec<f32>| {
        move |i: usize| Some(if i == index { shares.clone() } else { vec![0.5, 0.5] })
    };
    for shares in [vec![0.5, 0.6], vec![1.5, -0.5], vec![f32::NAN, 1.0], vec![0.0, 0.0]] {
        let error = fault(Own { shares: Box::new(some(2, shares)), ..own(5) }, 1);
        assert_names(&error, 2, "soft target");
    }
    for all_but_one in [true, false] {
        let shares = move |index| ((index == 1) != all_but_one).then(|| vec![0.5, 0.5]);
        let error = fault(Own { shares: Box::new(shares), ..own(5) }, 1);
        assert_names(&error, 1, "for all samples or for none");
    }
}

#[test]
fn labels_that_are_no_class_are_refused() {
    let names = || vec!["even".to_owned(), "odd".to_owned()];
    assert!(Labels::new("own", names(), vec![0, 1, 0, 1, 0]).is_ok());
    for label in [2, -1] {
        let error = Labels::new("own", names(), vec![0, 1, 0, label, 0]).unwrap_err();
        assert!(
            matches!(error, DataError::LabelOutOfRange { sample: 3, classes: 2, label: l, .. } if l == label),
            "{error:?}"
        );
        assert!(error.to_string().contains("own"), "{error}");
    }
    let error = Labels::new("own", Vec::new(), vec![0, 1]).unwrap_err().to_string();
    assert!(error.contains("own: sample 0 has label 0, but there are 0 classes"), "{error}");
}

#[test]
fn pictures_that_do_not_fit_their_shape_are_refused() {
    let picture = |bytes: usize, shape: [usize; 3]| {
        move |index: usize, image: &mut Image| {
            image.shape = if index == 2 { shape } else { [1, 2, 2] };
            image.pixels.clear();
            image.pixels.resize(if index == 2 { bytes } else { 4 }, 7);
            Ok(())
        }
    };
    for (bytes, shape) in [
        (11, [3, 2, 2]),
        (13, [3, 2, 2]),
        (0, [3, 0, 2]),
        (0, [0, 0, 0]),
        (0, [1 << 40, 1 << 40, 1]),
    ] {
        let error = fault(Own { read: Box::new(picture(bytes, shape)), ..own(5) }, 3);
        assert_names(&error, 2, &format!("{shape:?} does not have {bytes} bytes"));
    }
    for (from, to) in [(2, 3), (2, 1), (4, 3), (3, 2)] {
        let read = picture(from * 4, [from, 2, 2]);
        let samples = Own { read: Box::new(move |_, image| read(2, image)), ..own(5) };
        assert_names(&fault(samples, to), 0, "channels");
    }
    // A picture that is forgotten is not the one before.
    let read = move |index, image: &mut Image| match index {
        0 => picture(4, [1, 2, 2])(index, image),
        _ => Ok(()),
    };
    assert_names(&fault(Own { read: Box::new(read), ..own(5) }, 1), 1, "does not have 0 bytes");
    // A side that no resize takes.
    let read = picture(65_536, [1, 1, 65_536]);
    assert_names(&fault(Own { read: Box::new(read), ..own(5) }, 1), 2, "65536");
}

#[test]
fn errors_and_panics_of_a_dataset_reach_the_caller() {
    let fails = |index: usize| {
        move |i: usize, image: &mut Image| {
            if i == index {
                let (dataset, reason) = ("own".to_owned(), "the disk is wet".to_owned());
                return Err(DataError::Sample { dataset, index, reason });
            }
            (own(9).read)(i, image)
        }
    };
    for workers in [0, 2] {
        let samples = Arc::new(Own { read: Box::new(fails(11)), ..own(40) });
        let loader =
            Loader::new(samples, LoaderConfig { shuffle: false, ..config(1, workers, 2) }).unwrap();
        let items: Vec<_> = loader.epoch(0, 0).collect();
        assert_eq!(items.len(), 2);
        let error = items[1].as_ref().unwrap_err().to_string();
        assert!(
            error.ends_with("data.max_broken allows 0:\n  own: sample 11: the disk is wet"),
            "{error}"
        );
    }
    let read = |index: usize, _: &mut Image| panic!("own sample {index} is cursed");
    let error = fault(Own { read: Box::new(read), ..own(5) }, 1);
    assert!(matches!(error, DataError::WorkerPanicked { epoch: 0, batch: 0, .. }), "{error:?}");
    // A picture that cannot be read is nothing to know the data again by.
    assert_ne!(Own { read: Box::new(fails(4)), ..own(5) }.fingerprint(), own(5).fingerprint());
}

/// Parts of a small dataset that a test changes.
#[derive(Clone)]
struct Parts {
    name: &'static str,
    pixels: Vec<u8>,
    labels: Vec<i64>,
    shape: [usize; 3],
    class_names: Vec<&'static str>,
}

/// 40 pictures.
fn base() -> Parts {
    Parts {
        name: "mine",
        pixels: (0..40 * 6).map(|i| i as u8).collect(),
        labels: (0..40).map(|i| i % 2).collect(),
        shape: [1, 2, 3],
        class_names: vec!["ab", "c"],
    }
}

impl Parts {
    fn fingerprint(&self) -> String {
        let Self { name, pixels, labels, shape, class_names } = self.clone();
        let class_names = class_names.into_iter().map(str::to_owned).collect();
        let dataset = Dataset::from_parts(name, pixels, labels, shape, class_names).unwrap();
        dataset.fingerprint()
    }
}

#[test]
fn a_fingerprint_tells_datasets_apart() {
    let base = base();
    let expected = base.fingerprint();
    assert_eq!(expected, base.clone().fingerprint());
    let with = |change: fn(&mut Parts)| {
        let mut parts = base.clone();
        change(&mut parts);
        parts.fingerprint()
    };
    let others = [
        with(|p| p.name = "thine"),
        with(|p| p.class_names = vec!["a", "bc"]),
        with(|p| p.class_names = vec!["c", "ab"]),
        with(|p| p.class_names.push("d")),
        // The labels of all samples count, of 40 pictures the first, the last and 30 between.
        with(|p| p.labels.swap(1, 2)),
        with(|p| p.labels[20] = 1),
        with(|p| p.pixels[0] = 9),
        with(|p| p.pixels[239] = 9),
        with(|p| p.pixels[20 * 6..21 * 6].fill(9)),
        with(|p| p.shape = [1, 3, 2]),
        with(|p| {
            p.pixels.truncate(39 * 6);
            p.labels.truncate(39);
        }),
    ];
    for (i, other) in others.iter().enumerate() {
        assert_ne!(*other, expected, "change {i}");
        assert!(!others[..i].contains(other), "change {i}");
    }
}

/// The number is that of Python's hashlib over the same bytes.
#[test]
fn a_fingerprint_is_the_same_everywhere() {
    let mut parts = base();
    parts.pixels.truncate(12);
    parts.labels.truncate(2);
    assert_eq!(parts.fingerprint(), "c127d85afdc300c95768ff3ceb846715");
    let whole = Dataset::synthetic(9, [1, 4, 4], 2, 0).unwrap();
    let short = Dataset::synthetic(5, [1, 4, 4], 2, 0).unwrap();
    let limited = Subset::limit(Arc::new(whole), 5);
    assert_eq!(limited.fingerprint(), short.fingerprint());
    // Soft targets count, and an empty dataset has a fingerprint too.
    let soft = Own { shares: Box::new(|_| Some(vec![0.5, 0.5])), ..own(5) };
    assert_ne!(soft.fingerprint(), own(5).fingerprint());
    assert_ne!(own(0).fingerprint(), own(1).fingerprint());
}
