//! A dataset's files: the good ones are read, and every bad one has an error that names the file
//! and its fault.

mod idx_files;

use std::fs;
use std::path::Path;

use idx_files::{
    TEST_IMAGES, TRAIN_IMAGES, TRAIN_LABELS, contents, file, gzip, idx, leak, md5, part, spec,
    write_all,
};
use proptest::prelude::*;
use tempfile::tempdir;
use vitrine_data::{
    DataError, Dataset, DatasetName, DatasetSpec, Form, Image, Locator, PublishedMd5, Samples,
    Split,
};

fn explicit(dir: &Path) -> Locator {
    Locator { explicit: Some(dir.to_owned()), ..Locator::empty() }
}

/// Loads the training part from a folder in which one file is replaced.
fn load_with(file: &str, bytes: &[u8]) -> Result<Dataset, DataError> {
    let dir = tempdir().unwrap();
    write_all(dir.path(), false);
    fs::write(dir.path().join(file), bytes).unwrap();
    explicit(dir.path()).load(&spec(), Split::Train)
}

/// The error of [`load_with`], which must name the file.
fn error_with(file: &str, bytes: &[u8]) -> DataError {
    let error = load_with(file, bytes).unwrap_err();
    assert!(error.to_string().contains(file), "{error}");
    error
}

#[track_caller]
fn assert_bad(error: &DataError, words: &str) {
    assert!(matches!(error, DataError::BadFile { .. }), "{error:?}");
    assert!(error.to_string().contains(words), "{words} is not in: {error}");
}

fn right(file: &str) -> Vec<u8> {
    contents().into_iter().find(|(name, _)| *name == file).unwrap().1
}

#[test]
fn good_files_are_read_plain_and_compressed() {
    for compressed in [false, true] {
        let dir = tempdir().unwrap();
        write_all(dir.path(), compressed);
        let train = explicit(dir.path()).load(&spec(), Split::Train).unwrap();
        assert_eq!(
            (0..train.len()).map(|i| train.label(i)).collect::<Vec<_>>(),
            [0, 1, 2, 0, 1, 2]
        );
        assert_eq!(train.class_names(), ["zero", "one", "two"]);
        let mut image = Image::default();
        train.read(1, &mut image).unwrap();
        assert_eq!(image, Image { pixels: vec![24, 28, 32, 36, 40, 44], shape: [1, 3, 2] });
        assert_eq!(explicit(dir.path()).load(&spec(), Split::Test).unwrap().len(), 4);
        assert_eq!(explicit(dir.path()).locate(&spec()).unwrap(), dir.path());
    }
}

#[test]
fn a_gzip_file_without_its_suffix_is_read() {
    assert_eq!(load_with(TRAIN_IMAGES, &gzip(&right(TRAIN_IMAGES))).unwrap().len(), 6);
}

#[test]
fn missing_file_and_folder() {
    let dir = tempdir().unwrap();
    write_all(dir.path(), true);
    fs::remove_file(dir.path().join(format!("{TRAIN_LABELS}.gz"))).unwrap();
    let error = explicit(dir.path()).load(&spec(), Split::Train).unwrap_err();
    assert!(matches!(error, DataError::MissingFile { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(TRAIN_LABELS) && text.contains(dir.path().to_str().unwrap()), "{text}");
    // The other part is whole.
    assert!(explicit(dir.path()).load(&spec(), Split::Test).is_ok());
    assert!(explicit(dir.path()).locate(&spec()).is_err());

    let error = explicit(Path::new("/no/such/dir")).load(&spec(), Split::Train).unwrap_err();
    assert!(matches!(error, DataError::MissingFolder { .. }), "{error:?}");
    assert!(error.to_string().contains("/no/such/dir"), "{error}");
}

#[test]
fn truncated_plain_file_at_every_length() {
    let whole = right(TRAIN_IMAGES);
    for length in 0..whole.len() {
        assert_bad(&error_with(TRAIN_IMAGES, &whole[..length]), "truncated IDX");
    }
}

#[test]
fn truncated_gzip_file_at_every_length() {
    let whole = gzip(&right(TRAIN_IMAGES));
    for length in 2..whole.len() {
        let error = error_with(TRAIN_IMAGES, &whole[..length]);
        assert!(matches!(error, DataError::Gzip { .. }), "{length} bytes: {error:?}");
    }
}

#[test]
fn every_corrupted_byte_is_noticed() {
    for file in [TRAIN_IMAGES, TRAIN_LABELS] {
        let whole = right(file);
        for position in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[position] ^= 0x10;
            error_with(file, &bytes);
        }
    }
}

/// The gzip header holds bytes without meaning (such as the time), so a flipped one may do no harm.
/// It never gives other data.
#[test]
fn a_corrupted_gzip_byte_never_gives_other_data() {
    let good = load_with(TRAIN_IMAGES, &right(TRAIN_IMAGES)).unwrap();
    let whole = gzip(&right(TRAIN_IMAGES));
    let mut refused = 0;
    for position in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[position] ^= 0x10;
        match load_with(TRAIN_IMAGES, &bytes) {
            Ok(dataset) => assert_eq!(dataset, good),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > whole.len() / 2, "{refused} of {}", whole.len());
}

#[test]
fn wrong_magic_type_shape_and_length() {
    let error = error_with(TRAIN_IMAGES, b"<html>404 Not Found</html>");
    assert_bad(&error, "not an IDX file: it starts with [3c, 68, 74, 6d]");

    let mut floats = right(TRAIN_IMAGES);
    floats[2] = 0x0D;
    let error = error_with(TRAIN_IMAGES, &floats);
    assert_bad(&error, "element type 0x0d is not supported");

    // One image too few, labels in the place of images, images of another size, the test file.
    for (shape, bytes) in
        [(vec![5, 3, 2], 30), (vec![6], 6), (vec![6, 2, 3], 36), (vec![4, 3, 2], 24)]
    {
        let error = error_with(TRAIN_IMAGES, &idx(&shape, vec![0; bytes]));
        assert_bad(&error, &format!("shape {shape:?}, but this file of the dataset has [6, 3, 2]"));
    }

    for bytes in [
        [right(TRAIN_IMAGES), vec![0]].concat(),
        gzip(&[right(TRAIN_IMAGES), vec![0; 100_000]].concat()),
    ] {
        let error = error_with(TRAIN_IMAGES, &bytes);
        assert_bad(&error, "goes on after the 36 bytes of data");
    }
}

#[test]
fn right_form_but_other_contents() {
    let error = error_with(TRAIN_IMAGES, &idx(&[6, 3, 2], vec![7; 36]));
    assert!(matches!(error, DataError::Checksum { .. }), "{error:?}");
    assert!(error.to_string().contains("MD5"), "{error}");
}

/// The real dataset's description holds the real sums: zeros of the right shape are refused.
#[test]
fn zeros_are_not_fashion_mnist() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join(TEST_IMAGES), idx(&[10_000, 28, 28], vec![0; 7_840_000])).unwrap();
    let spec = DatasetName::FashionMnist.spec();
    let error = explicit(dir.path()).load(spec, Split::Test).unwrap_err();
    assert!(matches!(error, DataError::Checksum { .. }), "{error:?}");
}

#[test]
fn label_out_of_range_names_the_sample() {
    let bytes = idx(&[6], vec![0, 1, 2, 0, 3, 2]);
    let sum = |bytes: &[u8]| PublishedMd5::OfContents(leak(md5(bytes)));
    let images = file(TRAIN_IMAGES, sum(&right(TRAIN_IMAGES)));
    let labels = file(TRAIN_LABELS, sum(&bytes));
    let spec = DatasetSpec { train: part(6, vec![images, labels]), ..spec() };
    let dir = tempdir().unwrap();
    write_all(dir.path(), false);
    fs::write(dir.path().join(TRAIN_LABELS), bytes).unwrap();
    let error = explicit(dir.path()).load(&spec, Split::Train).unwrap_err();
    assert!(
        matches!(error, DataError::LabelOutOfRange { sample: 4, label: 3, classes: 3, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("sample 4 has label 3"), "{error}");
}

/// The spec with other sums for the training part.
fn with_sums(sum: impl Fn(&[u8]) -> PublishedMd5) -> DatasetSpec {
    let files = [TRAIN_IMAGES, TRAIN_LABELS].map(|name| file(name, sum(&right(name))));
    DatasetSpec { train: part(6, files.into()), ..spec() }
}

#[test]
fn a_sum_of_gzip_files_holds_for_them_alone() {
    let of_gzip = with_sums(|bytes| PublishedMd5::OfGzip(leak(md5(&gzip(bytes)))));
    let other = with_sums(|_| PublishedMd5::OfGzip("0123"));
    let dir = tempdir().unwrap();
    let load = |spec: &DatasetSpec| explicit(dir.path()).load(spec, Split::Train);
    write_all(dir.path(), true);
    assert_eq!(load(&of_gzip).unwrap().len(), 6);
    let error = load(&other).unwrap_err();
    assert!(matches!(error, DataError::Checksum { of: "gzip file", .. }), "{error:?}");
    assert!(error.to_string().contains(&format!("{TRAIN_IMAGES}.gz")), "{error}");
    write_all(dir.path(), false);
    assert_eq!(load(&other).unwrap().len(), 6);
}

#[test]
fn without_a_sum_the_form_is_checked() {
    let spec = with_sums(|_| PublishedMd5::Unknown);
    let load = |name: &str, bytes: Vec<u8>| {
        let dir = tempdir().unwrap();
        write_all(dir.path(), false);
        fs::write(dir.path().join(name), bytes).unwrap();
        explicit(dir.path()).load(&spec, Split::Train)
    };
    assert_eq!(load(TRAIN_IMAGES, idx(&[6, 3, 2], vec![9; 36])).unwrap().len(), 6);
    let error = load(TRAIN_IMAGES, idx(&[5, 3, 2], vec![9; 30])).unwrap_err();
    assert_bad(&error, "shape [5, 3, 2]");
    let error = load(TRAIN_LABELS, idx(&[6], vec![0, 1, 2, 3, 0, 1])).unwrap_err();
    assert!(matches!(error, DataError::LabelOutOfRange { sample: 3, .. }), "{error:?}");
}

/// As EMNIST has it: columns where the rows should be, labels from 1.
#[test]
fn pictures_on_their_side_are_turned_upright_and_labels_start_at_zero() {
    let files = || {
        vec![file(TRAIN_IMAGES, PublishedMd5::Unknown), file(TRAIN_LABELS, PublishedMd5::Unknown)]
    };
    let form = Form::Idx { first_label: 1, transposed: true };
    let spec = DatasetSpec { form, train: part(2, files()), ..spec() };
    let dir = tempdir().unwrap();
    let load = |labels: Vec<u8>| {
        let images = vec![1, 3, 5, 2, 4, 6, 11, 13, 15, 12, 14, 16];
        fs::write(dir.path().join(TRAIN_IMAGES), idx(&[2, 2, 3], images)).unwrap();
        fs::write(dir.path().join(TRAIN_LABELS), idx(&[2], labels)).unwrap();
        explicit(dir.path()).load(&spec, Split::Train)
    };
    let samples = load(vec![3, 1]).unwrap();
    assert_eq!([samples.label(0), samples.label(1)], [2, 0]);
    let mut image = Image::default();
    for (index, pixels) in [[1, 2, 3, 4, 5, 6], [11, 12, 13, 14, 15, 16]].into_iter().enumerate() {
        samples.read(index, &mut image).unwrap();
        assert_eq!(image, Image { pixels: pixels.into(), shape: [1, 3, 2] });
    }
    for (labels, wrong) in [(vec![0, 1], -1), (vec![4, 1], 3)] {
        let error = load(labels).unwrap_err();
        let DataError::LabelOutOfRange { label, sample: 0, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(label, wrong);
    }
}

/// Sizes that the publishers give, and names that torchvision has.
#[test]
fn the_catalog_is_what_is_published() {
    let samples = |name: &str| {
        let mut specs = DatasetName::ALL.into_iter().map(DatasetName::spec);
        let spec = specs.find(|spec| spec.name == name).unwrap();
        (spec.train.samples, spec.test.samples, spec.class_names)
    };
    for (name, train, test, classes) in [
        ("kmnist", 60_000, 10_000, ["o", "ki", "wo"]),
        ("emnist-balanced", 112_800, 18_800, ["0", "1", "t"]),
        ("emnist-letters", 124_800, 20_800, ["a", "b", "z"]),
        ("emnist-digits", 240_000, 40_000, ["0", "1", "9"]),
        ("emnist-mnist", 60_000, 10_000, ["0", "1", "9"]),
        ("emnist-byclass", 697_932, 116_323, ["0", "1", "z"]),
        ("emnist-bymerge", 697_932, 116_323, ["0", "1", "t"]),
        ("cifar10", 50_000, 10_000, ["airplane", "automobile", "truck"]),
        ("cifar100", 50_000, 10_000, ["apple", "aquarium_fish", "worm"]),
    ] {
        let (in_train, in_test, names) = samples(name);
        assert_eq!((in_train, in_test), (train, test), "{name}");
        assert_eq!([names[0], names[1], names[names.len() - 1]], classes, "{name}");
        assert!(names.is_sorted() || name == "kmnist", "{name}");
    }
    let classes = DatasetName::ALL.map(|name| name.spec().class_names.len());
    assert_eq!(classes, [10, 10, 10, 47, 26, 10, 10, 62, 47, 10, 100]);
    let letters: Vec<_> = DatasetName::EmnistLetters.spec().files().map(|file| file.name).collect();
    assert_eq!(
        letters,
        ["train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1"]
            .map(|name| format!("emnist-letters-{name}-ubyte"))
    );
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let names = || vec!["a".to_owned(), "b".to_owned()];
    let make = |bytes: usize, labels: Vec<i64>, shape, names| {
        Dataset::from_parts("mine", vec![0; bytes], labels, shape, names)
    };
    assert!(make(12, vec![0, 1], [1, 2, 3], names()).is_ok());
    for (bytes, labels, shape, names) in [
        (11, vec![0, 1], [1, 2, 3], names()),
        (12, vec![0], [1, 2, 3], names()),
        (0, vec![0], [1, 0, 3], names()),
        (12, vec![0, 1], [usize::MAX, 2, 3], names()),
    ] {
        let error = make(bytes, labels, shape, names).unwrap_err();
        assert!(matches!(error, DataError::BadParts { .. }), "{error:?}");
        assert!(error.to_string().contains("mine"), "{error}");
    }
    let error = make(12, vec![0, 1], [1, 2, 3], vec![]).unwrap_err();
    assert!(matches!(error, DataError::LabelOutOfRange { classes: 0, .. }), "{error:?}");
    let error = make(12, vec![0, -1], [1, 2, 3], names()).unwrap_err();
    assert!(matches!(error, DataError::LabelOutOfRange { sample: 1, label: -1, .. }), "{error:?}");
}

/// Loads the training part of `samples` pictures of this shape from two files.
fn load_pictures(
    samples: usize,
    shape: [usize; 3],
    images: &[u8],
    labels: &[u8],
) -> Result<Dataset, DataError> {
    let files = [TRAIN_IMAGES, TRAIN_LABELS].map(|name| file(name, PublishedMd5::Unknown));
    let train = part(samples, files.into());
    let spec = DatasetSpec { image_shape: shape, train, ..spec() };
    let dir = tempdir().unwrap();
    fs::write(dir.path().join(TRAIN_IMAGES), images).unwrap();
    fs::write(dir.path().join(TRAIN_LABELS), labels).unwrap();
    explicit(dir.path()).load(&spec, Split::Train)
}

proptest! {
    /// Whatever the bytes: no panic, and an error that names the file.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let error = load_pictures(6, [1, 3, 2], &bytes, &idx(&[6], vec![0; 6])).unwrap_err();
        prop_assert!(error.to_string().contains(TRAIN_IMAGES), "{}", error);
    }

    /// The same for bytes that begin like an IDX file, with sizes small and huge; what is accepted fits its header.
    #[test]
    fn any_header_is_read_or_refused(
        dims in 0u8..6,
        sizes in prop::collection::vec(prop_oneof![Just(1u32), 0u32..5, any::<u32>()], 0..6),
        data in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut bytes = vec![0, 0, 8, dims];
        bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(&data);
        let right = bytes.len() == 4 + 3 * 4 + 1 && bytes[..16] == idx(&[1, 1, 1], vec![]);
        let read = load_pictures(1, [1, 1, 1], &bytes, &idx(&[1], vec![0]));
        prop_assert_eq!(read.is_ok(), right, "{:?}", read);
    }

    /// What is written is read back.
    #[test]
    fn what_was_written_is_read(samples in 1usize..6, height in 1usize..6, width in 1usize..6) {
        let size = height * width;
        let data: Vec<u8> = (0..samples * size).map(|i| i as u8).collect();
        let images = idx(&[samples, height, width], data.clone());
        let labels = idx(&[samples], vec![1; samples]);
        let read = load_pictures(samples, [1, height, width], &images, &labels).unwrap();
        let mut image = Image::default();
        for index in 0..samples {
            read.read(index, &mut image).unwrap();
            prop_assert_eq!(&image.pixels, &data[index * size..][..size]);
            prop_assert_eq!((image.shape, read.label(index)), ([1, height, width], 1));
        }
    }
}
