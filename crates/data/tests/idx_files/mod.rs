//! A tiny dataset in IDX files, for tests of finding, fetching and checking.

#![allow(dead_code)] // Each test program uses a part.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};
use md5::{Digest, Md5};
use vitrine_data::PublishedMd5::OfContents;
use vitrine_data::{DatasetSpec, FileSpec, Form, Origin, PublishedMd5, SplitSpec};

pub const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
pub const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";
pub const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
pub const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";

/// The files of the dataset and their right contents: 6 and 4 images of 3 × 2 pixels in 3 classes.
pub fn contents() -> [(&'static str, Vec<u8>); 4] {
    let images = |n: usize| idx(&[n, 3, 2], (0..n * 6).map(|i| i as u8 * 4).collect());
    let labels = |n: usize| idx(&[n], (0..n).map(|i| (i % 3) as u8).collect());
    [
        (TRAIN_IMAGES, images(6)),
        (TRAIN_LABELS, labels(6)),
        (TEST_IMAGES, images(4)),
        (TEST_LABELS, labels(4)),
    ]
}

/// An IDX file.
pub fn idx(shape: &[usize], data: Vec<u8>) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, shape.len() as u8];
    for &size in shape {
        bytes.extend((size as u32).to_be_bytes());
    }
    bytes.extend(data);
    bytes
}

/// The dataset's description, with the sums of [`contents`].
pub fn spec() -> DatasetSpec {
    let [a, b, c, d] = contents().map(|(name, bytes)| file(name, OfContents(leak(md5(&bytes)))));
    DatasetSpec {
        name: "tiny",
        title: "Tiny",
        class_names: &["zero", "one", "two"],
        image_shape: [1, 3, 2],
        form: Form::Idx { first_label: 0, transposed: false },
        train: part(6, vec![a, b]),
        test: part(4, vec![c, d]),
        debian_package: None,
        origin: Origin::Files(&[]),
    }
}

pub fn file(name: &'static str, md5: PublishedMd5) -> FileSpec {
    FileSpec { name, md5 }
}

pub fn part(samples: usize, files: Vec<FileSpec>) -> SplitSpec {
    SplitSpec { samples, files: files.leak() }
}

pub fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

pub fn md5(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Writes the whole dataset into a folder, plain or compressed.
pub fn write_all(dir: &Path, compressed: bool) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    for (name, bytes) in contents() {
        if compressed {
            fs::write(dir.join(format!("{name}.gz")), gzip(&bytes)).unwrap();
        } else {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }
    dir.to_owned()
}
