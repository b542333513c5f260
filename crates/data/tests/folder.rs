//! Pictures of one's own: class folders and shards, which part is which, and pictures that cannot be read.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, Cursor, Write};
use std::os::unix::{ffi::OsStrExt, fs::PermissionsExt, fs::symlink};
use std::path::Path;
use std::sync::Arc;

use image::{ImageFormat, RgbImage};
use tar::{Builder, Header};
use tempfile::{TempDir, tempdir};
use vitrine_data::{
    Batch, CacheSpace, DataError, DatasetName, Image, Loader, LoaderConfig, Locator, Parts,
    Pictures, Preprocessing, Samples, Source,
};

const JPEG: &[u8] = include_bytes!("golden/picture.jpg");

/// A PNG of 2 × 2 pixels of one grey level.
fn png(level: u8) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(2, 2, image::Rgb([level; 3]))
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// A file's name and contents.
type File<'a> = (&'a str, &'a [u8]);

/// A tar file of a sample for each label.
fn shard(labels: &[&str]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (key, label) in (0..).zip(labels) {
        for (name, bytes) in
            [(format!("{key}.png"), png(key)), (format!("{key}.cls"), label.as_bytes().to_vec())]
        {
            let mut header = Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, &*bytes).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

fn write(dir: &Path, file: impl AsRef<Path>, bytes: &[u8]) {
    let path = dir.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A folder with files, which hold a picture whatever their names; a name that ends with a slash is that of a folder.
fn tree(files: &[&str]) -> TempDir {
    let dir = tempdir().unwrap();
    for file in files {
        match file.strip_suffix('/') {
            Some(folder) => fs::create_dir_all(dir.path().join(folder)).unwrap(),
            None => write(dir.path(), file, &png(0)),
        }
    }
    dir
}

fn open(source: Source, dir: &Path) -> Result<Parts, DataError> {
    let locator = Locator { explicit: Some(dir.to_owned()), ..Locator::empty() };
    source.open(&locator, 1000, &CacheSpace::default())
}

/// The message of an error, which must hold these words.
#[track_caller]
fn fails<T>(result: Result<T, DataError>, words: &[&str]) {
    let text = result.err().expect("an error").to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not all in: {text}");
}

/// The labels of a part's samples.
fn labels(part: &dyn Samples) -> Vec<i64> {
    (0..part.len()).map(|index| part.label(index)).collect()
}

/// The class and the file of each sample, as the folder has them.
fn listed(part: &dyn Samples, dir: &Path) -> Vec<String> {
    let line = |index| {
        let path = part.file(index).unwrap().expect("a file").0;
        let file = Path::new(&path).strip_prefix(dir).unwrap().display().to_string();
        format!("{} {file}", part.class_names()[part.label(index) as usize])
    };
    (0..part.len()).map(line).collect()
}

#[test]
fn classes_have_the_order_of_their_bytes_and_hold_what_is_a_picture() {
    let dir = tree(&[
        "apple/z.png",
        "apple/deep/deeper/b.WebP",
        "Äpfel/a.jpeg",
        "Zebra/A.JPG",
        "2/a.png",
        "10/b.png",
        "10/a.gif",
        // These are nothing,
        ".ipynb_checkpoints/a.png",
        "2/.ipynb_checkpoints/a.png",
        "2/.DS_Store",
        "2/._x.jpg",
        // and these are passed over.
        "beside.png",
        "2/notes.txt",
        "apple/deep/Thumbs.db",
        "10/png",
    ]);
    let folder = Pictures::in_folder(dir.path(), "mine", None, 1000).unwrap();
    assert_eq!(folder.class_names(), ["10", "2", "Zebra", "apple", "Äpfel"]);
    assert_eq!((folder.name(), folder.passed_over), ("mine", 4));
    let expected = [
        "10 10/a.gif",
        "10 10/b.png",
        "2 2/a.png",
        "Zebra Zebra/A.JPG",
        "apple apple/z.png",
        "apple apple/deep/deeper/b.WebP",
        "Äpfel Äpfel/a.jpeg",
    ];
    assert_eq!(listed(&folder, dir.path()), expected);
    let parts = open(Source::Folder, dir.path()).unwrap();
    assert_eq!(parts.train.name(), dir.path().file_name().unwrap().to_str().unwrap());
    assert_eq!(parts.passed_over, 4);
    assert_eq!(listed(&*parts.train, dir.path()), expected);
}

#[test]
fn folders_of_parts_have_the_labels_of_the_training_part() {
    let train = ["a train/a/1.png", "b train/b/2.png", "c train/c/3.png"];
    let cases: &[(&[&str], [&[&str]; 3])] = &[
        (&["val/b/4.png"], [&train, &["b val/b/4.png"], &[]]),
        (
            &["valid/c/4.png", "valid/b/5.png"],
            [&train, &["b valid/b/5.png", "c valid/c/4.png"], &[]],
        ),
        (&["validation/a/4.png"], [&train, &["a validation/a/4.png"], &[]]),
        (&["test/c/4.png"], [&train, &[], &["c test/c/4.png"]]),
        (
            &["test/c/4.png", "val/b/5.png", "other/d/6.png"],
            [&train, &["b val/b/5.png"], &["c test/c/4.png"]],
        ),
        (&[], [&train, &[], &[]]),
    ];
    for (files, expected) in cases {
        let dir = tree(files);
        for line in train {
            write(dir.path(), line.split_once(' ').unwrap().1, &png(0));
        }
        write(dir.path(), "train/notes.txt", b"");
        assert_eq!(Source::detect(dir.path()).unwrap(), Some(Source::Folder));
        let Parts { train, val, test, passed_over } = open(Source::Folder, dir.path()).unwrap();
        let parts = [Some(train), val, test];
        for (part, expected) in parts.iter().zip(expected) {
            let lines = part.as_ref().map_or(Vec::new(), |part| listed(&**part, dir.path()));
            assert_eq!(lines, *expected, "{files:?}");
            assert_eq!(part.is_none(), expected.is_empty(), "{files:?}");
            assert!(part.iter().all(|part| part.class_names() == ["a", "b", "c"]), "{files:?}");
        }
        assert_eq!(passed_over, 1);
    }
}

/// Without a part that the training part is beside, `train` is a class like any other.
#[test]
fn class_folders_may_have_the_names_of_parts() {
    for names in [["cat", "train"], ["cat", "val"], ["test", "val"]] {
        let dir = tree(&names.map(|name| format!("{name}/1.png")).each_ref().map(String::as_str));
        assert_eq!(Source::detect(dir.path()).unwrap(), Some(Source::Folder));
        let parts = open(Source::Folder, dir.path()).unwrap();
        assert_eq!(
            (parts.train.class_names(), parts.train.len()),
            (names.map(str::to_owned).as_slice(), 2)
        );
        assert!(parts.val.is_none() && parts.test.is_none());
    }
}

/// A link to a folder that it is in: each picture is there once, or the link is named.
#[test]
fn a_link_that_leads_back_up_gives_no_picture_twice() {
    let dir = tree(&["cat/1.png", "dog/2.png"]);
    symlink("..", dir.path().join("cat/link")).unwrap();
    match Pictures::in_folder(dir.path(), "mine", None, 1000) {
        Ok(folder) => assert_eq!(labels(&folder), [0, 1]),
        Err(error) => assert!(error.to_string().contains("cat/link"), "{error}"),
    }
}

/// What the pictures were unpacked from may lie beside them.
#[test]
fn an_archive_beside_class_folders_is_no_shard() {
    let dir = tree(&["cat/1.png", "dog/2.png", "pictures.tar.gz"]);
    assert_eq!(Source::detect(dir.path()).unwrap(), Some(Source::Folder));
}

#[test]
fn what_is_no_folder_of_pictures_is_told_apart() {
    let dir = tree(&[
        "file.png",
        "beside/1.jpg",
        "beside/2.jpg",
        "empty/",
        "texts/a/1.txt",
        "texts/b/2.txt",
    ]);
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("missing", &["there is no folder"], &["there is no folder"]),
        ("file.png", &["it is a file"], &["it is a file"]),
        ("beside", &["lie beside each other"], &["no class folders with pictures"]),
        ("empty", &["no pictures in class folders"], &["no class folders with pictures"]),
        ("texts", &["no pictures in class folders"], &["class folder \"a\" holds no picture"]),
    ];
    for (name, detected, opened) in cases {
        let path = dir.path().join(name);
        let named = path.to_str().unwrap();
        fails(Source::detect(&path), &[&[named], *detected].concat());
        fails(open(Source::Folder, &path), &[&[named], *opened].concat());
    }
}

#[test]
fn parts_and_classes_that_do_not_fit_are_named() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["cat/1.png", "dog/2.txt"], &["class folder \"dog\" holds no picture", "jpg, jpeg, png"]),
        (&["only/1.png"], &["two classes or more", "[\"only\"]"]),
        (
            &["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/cow/1.png"],
            &["val cannot", "\"cow\"", "(a, b)"],
        ),
        (
            &["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/"],
            &["test cannot", "\"b\" holds no picture"],
        ),
        (
            &["train/a/1.png", "train/b/1.png", "val/a/1.png", "valid/a/1.png"],
            &["/val and ", "/valid;", "keep one"],
        ),
    ];
    for (files, words) in cases {
        fails(open(Source::Folder, tree(files).path()), words);
    }
}

#[test]
fn names_that_are_not_utf_8() {
    let dir = tree(&["cat/1.png", "dog/2.png"]);
    write(dir.path(), Path::new("cat").join(OsStr::from_bytes(b"\xff.png")), &png(7));
    let folder = Pictures::in_folder(dir.path(), "mine", None, 1000).unwrap();
    let mut image = Image::default();
    folder.read(1, &mut image).unwrap();
    assert_eq!((folder.label(1), image.pixels[0]), (0, 7));
    write(dir.path(), Path::new(OsStr::from_bytes(b"c\xffw")).join("3.png"), &png(0));
    fails(open(Source::Folder, dir.path()), &[r#"class folder "c\xFFw""#, "not UTF-8"]);
}

#[test]
fn a_folder_that_may_not_be_read_is_named() {
    let dir = tree(&["cat/1.png", "dog/2.png"]);
    let cat = dir.path().join("cat");
    fs::set_permissions(&cat, Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(&cat).is_ok() {
        // Past the harness's capture, so that it is seen when the test passes.
        let _ = writeln!(
            io::stderr(),
            "LEFT OUT: a folder that may not be read (root may read them all)."
        );
        return;
    }
    for result in [Source::detect(dir.path()).err(), open(Source::Folder, dir.path()).err()] {
        fails(
            result.map_or(Ok(()), Err),
            &["cannot read the folder", cat.to_str().unwrap(), "denied"],
        );
    }
    fs::set_permissions(&cat, Permissions::from_mode(0o700)).unwrap();
}

/// A head that promises 60,000 × 60,000 pixels, and nothing behind it.
fn bomb() -> Vec<u8> {
    let mut bytes = png(0);
    bytes[16..24].copy_from_slice(&[60_000u32.to_be_bytes(); 2].concat());
    let crc = !bytes[12..29].iter().fold(!0u32, |sum, &byte| {
        let bit = |sum: u32, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
        (0..8).fold(sum ^ u32::from(byte), bit)
    });
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// The pictures that cannot be read in the folder of [`broken`]: index, file and reason.
const BROKEN: [(usize, &str, &str); 5] = [
    (1, "a/1.jpg", "cut short"),
    (2, "a/2.png", "60000 x 60000 pixels"),
    (5, "a/5.png", "cannot decode"),
    (8, "b/0.jpg", "cannot decode"),
    (15, "b/7.png", "cannot read"),
];

/// Two classes of eight pictures each, of which some cannot be read.
fn broken() -> (TempDir, Arc<Pictures>) {
    let dir = tempdir().unwrap();
    for index in 0..16 {
        let file = format!("{}/{}.png", ["a", "b"][index / 8], index % 8);
        if BROKEN.iter().all(|broken| broken.0 != index) {
            write(dir.path(), file, &png(index as u8 * 16));
        }
    }
    write(dir.path(), "a/1.jpg", &JPEG[..JPEG.len() / 2]);
    write(dir.path(), "a/2.png", &bomb());
    write(dir.path(), "a/5.png", b"");
    write(dir.path(), "b/0.jpg", b"A text that is called a picture.");
    // A link to itself: root may read every file that is one.
    symlink("7.png", dir.path().join("b/7.png")).unwrap();
    let folder = Pictures::in_folder(dir.path(), "mine", None, 1 << 20).unwrap();
    (dir, Arc::new(folder))
}

fn loader(
    samples: &Arc<Pictures>,
    batch_size: usize,
    shuffle: bool,
    max_broken: usize,
    workers: usize,
) -> Loader {
    let plain = LoaderConfig::new(batch_size, Preprocessing::new(3, (2, 2)));
    let config = LoaderConfig { shuffle, seed: 3, max_broken, workers, prefetch: 3, ..plain };
    Loader::new(samples.clone(), config).unwrap()
}

fn collect(loader: &Loader, epoch: u64) -> Vec<Batch> {
    loader.epoch(epoch, 0).map(Result::unwrap).collect()
}

/// Each batch's images are those of the samples that it names.
#[track_caller]
fn assert_holds_its_samples(batch: &Batch) {
    let levels = batch.samples.iter().flat_map(|&sample| [sample as f32 * 16.0 / 255.0; 12]);
    assert_eq!(batch.images, levels.collect::<Vec<_>>());
    assert_eq!(
        batch.labels,
        batch.samples.iter().map(|&sample| sample as i64 / 8).collect::<Vec<_>>()
    );
    assert_eq!(batch.shape, [batch.samples.len(), 3, 2, 2]);
}

#[test]
fn a_picture_that_cannot_be_read_is_named() {
    let (dir, folder) = broken();
    for (index, file, reason) in BROKEN {
        let path = dir.path().join(file);
        fails(folder.read(index, &mut Image::default()), &[path.to_str().unwrap(), reason]);
    }
    let items: Vec<_> = loader(&folder, 4, false, 0, 0).epoch(0, 0).collect();
    let [Err(error @ DataError::TooManyBroken { allowed: 0, .. })] = items.as_slice() else {
        panic!("{items:?}")
    };
    let text = error.to_string();
    assert!(
        text.contains("1 picture cannot") && text.contains("a/1.jpg") && text.contains("cut short"),
        "{text}"
    );
}

#[test]
fn others_come_in_the_place_of_broken_pictures_where_samples_are_shuffled() {
    let (_dir, folder) = broken();
    let is_broken = |index: usize| BROKEN.iter().any(|broken| broken.0 == index);
    let in_place =
        |index: usize| (0..16).map(|i| (index + i) % 16).find(|&i| !is_broken(i)).unwrap();
    let reference = loader(&folder, 4, true, 5, 0);
    for epoch in 0..3 {
        let batches = collect(&reference, epoch);
        let samples: Vec<_> = batches.iter().flat_map(|batch| batch.samples.clone()).collect();
        let order = reference.order(epoch);
        assert_eq!(samples, order.into_iter().map(in_place).collect::<Vec<_>>());
        assert!(batches.iter().all(|batch| batch.samples.len() == 4));
        batches.iter().for_each(assert_holds_its_samples);
        for workers in [1, 3] {
            assert_eq!(
                collect(&loader(&folder, 4, true, 5, workers), epoch),
                batches,
                "{workers} workers"
            );
        }
    }
}

#[test]
fn broken_pictures_are_left_out_where_samples_are_in_order() {
    let (_dir, folder) = broken();
    for workers in [0, 3] {
        let pairs = loader(&folder, 2, false, 5, workers);
        let (mut sizes, mut right) = (Vec::new(), 0);
        for batch in pairs.epoch(0, 0) {
            let batch = batch.unwrap();
            assert_holds_its_samples(&batch);
            sizes.push(batch.samples.len());
            right += batch.labels.iter().sum::<i64>();
            pairs.recycle(batch);
        }
        assert_eq!((sizes, right), (vec![1, 1, 1, 2, 1, 2, 2, 1], 6), "{workers} workers");
        let alone = collect(&loader(&folder, 1, false, 5, workers), 0);
        alone.iter().for_each(assert_holds_its_samples);
        let empty = alone.iter().filter(|batch| batch.samples.is_empty()).map(|batch| batch.index);
        assert_eq!(empty.collect::<Vec<_>>(), BROKEN.map(|broken| broken.0), "{workers} workers");
    }
}

#[test]
fn broken_pictures_are_listed_in_order_and_counted_once() {
    let (_dir, folder) = broken();
    for shuffle in [false, true] {
        let enough = loader(&folder, 4, shuffle, 5, 2);
        (0..2).for_each(|epoch| drop(collect(&enough, epoch)));
        let list = enough.broken();
        assert_eq!(list.len(), 5);
        for (text, (_, file, reason)) in list.iter().zip(BROKEN) {
            assert!(text.contains(file) && text.contains(reason), "{text}");
        }
        let last = loader(&folder, 4, shuffle, 4, 0).epoch(0, 0).last().unwrap();
        let Err(error @ DataError::TooManyBroken { allowed: 4, .. }) = last else {
            panic!("{last:?}")
        };
        let text = error.to_string();
        assert!(
            text.starts_with("mine: 5 pictures cannot be read, and data.max_broken allows 4:"),
            "{text}"
        );
        assert!(list.iter().all(|line| text.contains(line)), "{text}");
    }
}

/// No picture is there to come in another's place, and nothing waits for one.
#[test]
fn an_epoch_of_broken_pictures_has_empty_batches_or_is_an_error() {
    let dir = tree(&["a/", "b/"]);
    for file in ["a/1.png", "a/2.png", "b/1.png"] {
        write(dir.path(), file, b"");
    }
    let folder = Arc::new(Pictures::in_folder(dir.path(), "mine", None, 1000).unwrap());
    let first = |shuffle| loader(&folder, 2, shuffle, 3, 2).epoch(0, 0).next().unwrap();
    assert_eq!(first(false).unwrap().shape, [0, 3, 2, 2]);
    let error = first(true).unwrap_err().to_string();
    assert!(error.contains("no picture can be read"), "{error}");
}

#[test]
fn files_of_known_datasets_are_recognised() {
    for (file, found) in [
        ("data_batch_1.bin", Some(Source::Known(DatasetName::Cifar10))),
        ("cifar-100-binary/test.bin", Some(Source::Known(DatasetName::Cifar100))),
        (
            "emnist-letters-test-labels-idx1-ubyte.gz",
            Some(Source::Known(DatasetName::EmnistLetters)),
        ),
        // MNIST, Fashion-MNIST and KMNIST have files of the same names.
        ("t10k-labels-idx1-ubyte", None),
    ] {
        let dir = tree(&["cat/1.png", "dog/2.png", file]);
        assert_eq!(Source::detect(dir.path()).unwrap(), found, "{file}");
    }
}

#[test]
fn shards_say_by_their_folder_or_their_name_of_which_part_they_are() {
    let (train, more, other) = (shard(&["dog", "cat"]), shard(&["cow"]), shard(&["dog"]));
    let cases: &[(&[File], [&[i64]; 3])] = &[
        (&[("b.tar", &more), ("a.tar", &train)], [&[2, 0, 1], &[], &[]]),
        (
            &[("train/0.tar", &train), ("train/1.tar", &more), ("val/0.tar", &other)],
            [&[2, 0, 1], &[2], &[]],
        ),
        (&[("train/0.tar", &train), ("test/0.tar", &other)], [&[1, 0], &[], &[1]]),
        (
            &[
                ("my_train-0.tar", &train),
                ("train-1.tar", &more),
                ("val-0.tar", &other),
                ("test.tar", &more),
            ],
            [&[2, 0, 1], &[2], &[1]],
        ),
        (&[("train2017.tar", &train), ("validation.0.tar", &other)], [&[1, 0], &[1], &[]]),
    ];
    for (files, expected) in cases {
        let names: BTreeSet<_> = files.iter().map(|file| file.0).collect();
        let dir = tree(&["beside.txt"]);
        files.iter().for_each(|(file, bytes)| write(dir.path(), file, bytes));
        assert_eq!(Source::detect(dir.path()).unwrap(), Some(Source::Shards), "{names:?}");
        let Parts { train, val, test, .. } = open(Source::Shards, dir.path()).unwrap();
        let found =
            [Some(train), val, test].map(|part| part.map_or(Vec::new(), |part| labels(&*part)));
        assert_eq!(found, *expected, "{names:?}");
    }
    let dir = tempdir().unwrap();
    for file in ["train-0.tar", "extra-0.tar"] {
        write(dir.path(), file, &train);
    }
    fails(
        open(Source::Shards, dir.path()),
        &["extra-0.tar does not say in its name of which part"],
    );
}
