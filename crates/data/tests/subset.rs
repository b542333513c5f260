//! Some samples of a dataset: the first, a held-out part, some classes; and pictures that are kept in memory.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use tempfile::tempdir;
use vitrine_data::{CacheSpace, Cached, DataError, Image, Labels, Pictures, Samples, Subset};

/// Pictures of four bytes, which tell their index.
struct Own {
    labels: Labels,
    reads: AtomicUsize,
    /// Where readers wait for each other.
    together: Option<Barrier>,
}

impl Samples for Own {
    fn labels(&self) -> &Labels {
        &self.labels
    }

    fn read(&self, index: usize, image: &mut Image) -> Result<(), DataError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.together.as_ref().map(Barrier::wait);
        *image = Image { pixels: (index as u32).to_le_bytes().to_vec(), shape: [1, 2, 2] };
        Ok(())
    }
}

/// Classes `a`, `b` and so on, with these labels.
fn own(labels: impl IntoIterator<Item = i64>) -> Own {
    let labels: Vec<i64> = labels.into_iter().collect();
    let classes = labels.iter().max().map_or(0, |&max| max as u8 + 1);
    let class_names =
        (b'a'..).take(classes.into()).map(|name| char::from(name).to_string()).collect();
    let labels = Labels::new("own", class_names, labels).unwrap();
    Own { labels, reads: AtomicUsize::new(0), together: None }
}

/// Classes of these sizes, whose samples are mixed.
fn mixed(sizes: &[usize]) -> Arc<dyn Samples> {
    let mut labels: Vec<i64> =
        (0..).zip(sizes).flat_map(|(label, &size)| std::iter::repeat_n(label, size)).collect();
    let len = labels.len();
    (0..len).for_each(|i| labels.swap(i, i * 7919 % len));
    Arc::new(own(labels))
}

/// What samples these are in the dataset that they come from.
fn indices(samples: &dyn Samples) -> Vec<u32> {
    let mut image = Image { pixels: vec![9; 99], shape: [9, 9, 9] };
    let mut index = |i| {
        samples.read(i, &mut image).unwrap();
        assert_eq!(image.shape, [1, 2, 2]);
        u32::from_le_bytes(image.pixels.as_slice().try_into().unwrap())
    };
    (0..samples.len()).map(&mut index).collect()
}

fn labels(samples: &dyn Samples) -> Vec<i64> {
    (0..samples.len()).map(|index| samples.label(index)).collect()
}

fn counts(samples: &dyn Samples) -> Vec<usize> {
    let mut counts = vec![0; samples.class_names().len()];
    labels(samples).into_iter().for_each(|label| counts[label as usize] += 1);
    counts
}

#[test]
fn a_limit_takes_the_first_or_some_of_each_class() {
    let (mixed, sorted) = ([1, 0, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]);
    for (all, limit, expected) in [
        (mixed.as_slice(), 3, [0, 1, 2].as_slice()),
        (&mixed, 5, &[0, 1, 2, 3, 4]),
        (&mixed, 6, &[0, 1, 2, 3, 4, 5]),
        (&mixed, usize::MAX, &[0, 1, 2, 3, 4, 5]),
        (&sorted, 3, &[0, 3, 6]),
        (&sorted, 5, &[0, 2, 4, 6, 8]),
        (&sorted, 9, &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (&sorted, 10, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ] {
        let limited = Subset::limit(Arc::new(own(all.iter().copied())), limit);
        assert_eq!(indices(&*limited), expected, "{limit} of {all:?}");
        let of_all = expected.iter().map(|&index| all[index as usize]);
        assert_eq!(labels(&*limited), of_all.collect::<Vec<_>>(), "{limit} of {all:?}");
    }
}

#[test]
fn classes_are_numbered_as_they_are_named() {
    let samples: Arc<dyn Samples> = Arc::new(own([2, 0, 1, 3, 2, 0]));
    let of = |classes: &[&str]| {
        let classes: Vec<String> = classes.iter().map(|&class| class.to_owned()).collect();
        Subset::classes(samples.clone(), &classes)
    };
    let some = of(&["c", "d", "a"]).unwrap();
    assert_eq!(some.class_names(), ["c", "d", "a"]);
    assert_eq!((indices(&*some), labels(&*some)), (vec![0, 1, 3, 4, 5], vec![0, 2, 1, 0, 2]));
    for (classes, words) in [
        (["a", "x"], ["no class \"x\"", "the classes are a, b, c, d"]),
        (["b", "b"], ["dataset own", "\"b\" is named twice"]),
    ] {
        let text = of(&classes).err().expect("an error").to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn a_held_out_part_has_of_each_class_its_share() {
    for (sizes, holdout, expected) in [
        ([10, 20, 70], 0.2, [2, 4, 14]),
        // Quotas of 0.7, 1.4 and 4.9: the largest remainders get what is over.
        ([10, 20, 70], 7.0, [1, 1, 5]),
        ([10, 20, 70], 0.07, [1, 1, 5]),
        ([10, 10, 10], 7.0, [3, 2, 2]),
        // 7.5 pictures are 8.
        ([10, 10, 10], 0.25, [3, 3, 2]),
    ] {
        let [rest, held] = Subset::holdout(&mixed(&sizes), holdout, 5).unwrap();
        assert_eq!(counts(&*held), expected, "{holdout} of {sizes:?}");
        let others = sizes.iter().zip(expected).map(|(size, held)| size - held);
        assert_eq!(counts(&*rest), others.collect::<Vec<_>>(), "{holdout} of {sizes:?}");
    }
    let sizes = [13, 29, 59];
    for total in 8..=93 {
        let [_, held] = Subset::holdout(&mixed(&sizes), f64::from(total), 0).unwrap();
        assert_eq!(held.len(), total as usize);
        for (count, size) in counts(&*held).into_iter().zip(sizes) {
            let quota = size as f64 * f64::from(total) / 101.0;
            assert!((count as f64 - quota).abs() < 1.0, "{count} of {size} for {total}");
        }
    }
}

#[test]
fn a_held_out_part_and_the_rest_are_the_dataset() {
    let samples = mixed(&[10, 20, 70]);
    let split = |seed| Subset::holdout(&samples, 0.2, seed).unwrap().map(|part| indices(&*part));
    let [rest, held] = split(1);
    assert!([&rest, &held].iter().all(|part| part.is_sorted()));
    let all: BTreeSet<_> = rest.iter().chain(&held).copied().collect();
    assert_eq!((rest.len(), held.len(), all), (80, 20, (0..100).collect()));
    assert_eq!(split(1), [rest, held.clone()]);
    assert_ne!(split(2)[1], held);
    // Each sample is as likely as any other: 200 of 1000 times, with a standard deviation of 12.6.
    let mut times = [0u32; 100];
    (0..1000).flat_map(|seed| split(seed)[1].clone()).for_each(|index| times[index as usize] += 1);
    assert!(times.iter().all(|&times| times.abs_diff(200) < 63), "{times:?}");
}

#[test]
fn each_class_is_on_both_sides_if_it_can_be() {
    for (sizes, holdout, expected) in [
        ([99, 1], 0.2, [20, 0]),
        ([3, 97], 5.0, [1, 5]),
        ([50, 50], 99.0, [49, 49]),
        ([20, 20], 0.001, [1, 1]),
    ] {
        let [_, held] = Subset::holdout(&mixed(&sizes), holdout, 0).unwrap();
        assert_eq!(counts(&*held), expected, "{holdout} of {sizes:?}");
    }
    let error = Subset::holdout(&mixed(&[20, 20]), 40.0, 0).err().expect("an error").to_string();
    assert!(error.contains("of its 40 pictures, 40 cannot be held out"), "{error}");
}

/// As `Samples::file` says: the picture of such a sample is a file's too.
#[test]
fn the_file_of_a_sample_is_that_of_the_dataset() {
    let dir = tempdir().unwrap();
    for file in ["a/1.png", "b/2.png"] {
        let path = dir.path().join(file);
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    let folder: Arc<dyn Samples> =
        Arc::new(Pictures::in_folder(dir.path(), "mine", None, 1000).unwrap());
    let some = Subset::classes(folder.clone(), &["b".to_owned()]).unwrap();
    assert!(folder.file(1).unwrap().is_some());
    assert_eq!(some.file(0).unwrap(), folder.file(1).unwrap());
}

#[test]
fn pictures_are_kept_while_there_is_space() {
    for (space, kept) in [(0, 0), (3, 0), (12, 3), (15, 3), (100, 5)] {
        let space = CacheSpace::new(AtomicU64::new(space));
        let samples = Arc::new(own([0, 1, 0, 1, 0]));
        let cached = Cached::new(Through(samples.clone()), space);
        for pass in 1..=3 {
            assert_eq!(indices(&cached), [0, 1, 2, 3, 4]);
            assert_eq!(samples.reads.load(Ordering::Relaxed), 5 + (pass - 1) * (5 - kept));
        }
        assert_eq!(labels(&cached), [0, 1, 0, 1, 0]);
    }
}

#[test]
fn datasets_share_a_space() {
    let space = CacheSpace::new(AtomicU64::new(13));
    let [first, second] = [own([0, 1]), own([0, 1, 0])].map(Arc::new);
    let cached =
        [&first, &second].map(|samples| Cached::new(Through(samples.clone()), space.clone()));
    for _ in 0..2 {
        assert_eq!(cached.each_ref().map(|samples| indices(samples)), [vec![0, 1], vec![0, 1, 2]]);
    }
    // Two of the one and one of the other take 12 bytes.
    let reads = [first, second].map(|samples| samples.reads.load(Ordering::Relaxed));
    assert_eq!((reads, space.load(Ordering::Relaxed)), ([2, 3 + 2], 1));
}

#[test]
fn a_picture_that_two_workers_read_takes_its_space_once() {
    let space = CacheSpace::new(AtomicU64::new(1000));
    let samples = Own { together: Some(Barrier::new(2)), ..own([0; 20]) };
    let cached = Cached::new(samples, space.clone());
    let read = || assert_eq!(indices(&cached), (0..20).collect::<Vec<_>>());
    thread::scope(|scope| [(); 2].map(|()| scope.spawn(read)).map(|thread| thread.join().unwrap()));
    assert_eq!(space.load(Ordering::Relaxed), 1000 - 20 * 4);
}

/// Samples that a test keeps a hand on.
struct Through(Arc<Own>);

impl Samples for Through {
    fn labels(&self) -> &Labels {
        self.0.labels()
    }

    fn read(&self, index: usize, image: &mut Image) -> Result<(), DataError> {
        self.0.read(index, image)
    }
}
