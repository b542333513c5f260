//! Files of records: the good ones are read, and every bad one has an error that names it.

mod idx_files;

use std::fs;
use std::path::Path;

use idx_files::{file, gzip, leak, md5, part};
use tempfile::{TempDir, tempdir};
use vitrine_data::{
    DataError, Dataset, DatasetSpec, Form, Image, Locator, Origin, PublishedMd5, Samples, Split,
};

/// 2 × 2 records in the training files, 3 in the test file, of images 3 × 1 × 2 in 3 classes.
fn spec(label_at: usize) -> DatasetSpec {
    let files = |names: &[&'static str]| {
        names.iter().map(|name| file(name, PublishedMd5::Unknown)).collect()
    };
    DatasetSpec {
        name: "tiny",
        title: "Tiny",
        class_names: &["zero", "one", "two"],
        image_shape: [3, 1, 2],
        form: Form::Cifar { label_at },
        train: part(4, files(&["batch_1.bin", "batch_2.bin"])),
        test: part(3, files(&["test.bin"])),
        debian_package: None,
        origin: Origin::Archive { addresses: &[], md5: "", folder: "tiny-bin" },
    }
}

/// A record: label bytes, then six bytes that begin with `first`.
fn record(labels: &[u8], first: u8) -> Vec<u8> {
    labels.iter().copied().chain(first..first + 6).collect()
}

fn write(labels: [&[u8]; 7]) -> TempDir {
    let dir = tempdir().unwrap();
    let records: Vec<_> = labels.iter().zip(0..).map(|(label, i)| record(label, 10 * i)).collect();
    for (name, records) in [
        ("batch_1.bin", &records[..2]),
        ("batch_2.bin", &records[2..4]),
        ("test.bin", &records[4..]),
    ] {
        fs::write(dir.path().join(name), records.concat()).unwrap();
    }
    dir
}

fn load(dir: &Path, spec: &DatasetSpec, split: Split) -> Result<Dataset, DataError> {
    Locator { explicit: Some(dir.to_owned()), ..Locator::empty() }.load(spec, split)
}

fn labels(samples: &Dataset) -> Vec<i64> {
    (0..samples.len()).map(|index| samples.label(index)).collect()
}

#[test]
fn one_label_byte_and_two() {
    let one = write([&[2], &[0], &[1], &[2], &[0], &[0], &[1]]);
    let two = write([&[9, 2], &[9, 0], &[9, 1], &[9, 2], &[9, 0], &[9, 0], &[9, 1]]);
    for (dir, spec) in [(one, spec(0)), (two, spec(1))] {
        let train = load(dir.path(), &spec, Split::Train).unwrap();
        assert_eq!(labels(&train), [2, 0, 1, 2]);
        let mut image = Image::default();
        train.read(2, &mut image).unwrap();
        assert_eq!(image, Image { pixels: (20..26).collect(), shape: [3, 1, 2] });
        assert_eq!(labels(&load(dir.path(), &spec, Split::Test).unwrap()), [0, 0, 1]);
    }
}

#[test]
fn compressed_files_and_sums_work_as_for_other_forms() {
    let dir = write([&[2], &[0], &[1], &[2], &[0], &[0], &[1]]);
    let path = dir.path().join("test.bin");
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(dir.path().join("test.bin.gz"), gzip(&bytes)).unwrap();
    let with = |md5| DatasetSpec { test: part(3, vec![file("test.bin", md5)]), ..spec(0) };
    let good = with(PublishedMd5::OfContents(leak(md5(&bytes))));
    assert_eq!(load(dir.path(), &good, Split::Test).unwrap().len(), 3);
    let error = load(dir.path(), &with(PublishedMd5::OfContents("0")), Split::Test).unwrap_err();
    assert!(matches!(error, DataError::Checksum { .. }), "{error:?}");
}

#[test]
fn wrong_lengths_labels_and_missing_files_are_named() {
    let dir = write([&[2], &[0], &[1], &[2], &[0], &[0], &[1]]);
    let path = dir.path().join("batch_2.bin");
    let whole = fs::read(&path).unwrap();
    let fails = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = load(dir.path(), &spec(0), Split::Train).unwrap_err();
        assert!(error.to_string().contains("batch_2.bin"), "{error}");
        error
    };
    let longer = [&whole[..], &[0]].concat();
    for bytes in (0..whole.len()).map(|length| &whole[..length]).chain([&longer[..]]) {
        let error = fails(bytes);
        assert!(matches!(error, DataError::BadFile { .. }), "{error:?}");
        assert!(error.to_string().contains("2 records of 7 bytes"), "{error}");
    }
    let error = fails(&gzip(&longer));
    assert!(matches!(error, DataError::BadFile { .. }), "{error:?}");
    let error = fails(&[record(&[1], 0), record(&[3], 0)].concat());
    assert!(matches!(error, DataError::LabelOutOfRange { sample: 1, label: 3, .. }), "{error:?}");
    fs::remove_file(&path).unwrap();
    let error = load(dir.path(), &spec(0), Split::Train).unwrap_err();
    assert!(matches!(error, DataError::MissingFile { .. }), "{error:?}");
    assert!(error.to_string().contains("batch_2.bin"), "{error}");
}
