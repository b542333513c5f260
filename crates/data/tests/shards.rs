//! Tar shards: samples in their order, classes by number and by name, and an error for whatever is amiss.

mod idx_files;

use std::env;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use idx_files::gzip;
use image::{ImageFormat, RgbImage};
use tar::{Builder, EntryType, Header};
use tempfile::tempdir;
use vitrine_data::{DataError, Image, Pictures, Samples};

/// A PNG of 2 × 1 pixels of one grey level.
fn png(level: u8) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let picture = RgbImage::from_pixel(2, 1, image::Rgb([level; 3]));
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header
}

/// A tar file of these members.
fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = header(EntryType::Regular, bytes.len() as u64);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Writes shards, and opens them.
fn open(dir: &Path, shards: &[Vec<u8>], names: Option<&[&str]>) -> Result<Pictures, DataError> {
    let paths: Vec<PathBuf> = (0..shards.len()).map(|i| dir.join(format!("{i}.tar"))).collect();
    paths.iter().zip(shards).for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    let names = names.map(|names| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
    Pictures::in_shards(&paths, "mine", names.as_deref(), 100)
}

/// The message of the error that one shard gives. It names the shard.
fn fault(shard: Vec<u8>, names: Option<&[&str]>) -> String {
    let dir = tempdir().unwrap();
    let error = open(dir.path(), &[shard], names).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(dir.path().join("0.tar").to_str().unwrap()), "{text}");
    text
}

fn labels(samples: &Pictures) -> Vec<i64> {
    (0..samples.len()).map(|index| samples.label(index)).collect()
}

fn levels(samples: &Pictures) -> Vec<u8> {
    let mut image = Image::default();
    let level = |index| {
        samples.read(index, &mut image).unwrap();
        assert_eq!(image.shape, [3, 1, 2]);
        image.pixels[0]
    };
    (0..samples.len()).map(level).collect()
}

/// Two samples with labels 1 and 0, and a member to pass over.
fn good() -> Vec<u8> {
    let (a, b) = (png(10), png(20));
    tar(&[("a.png", &a), ("a.cls", b"1"), ("a.json", b"{}"), ("b.cls", b" 0\n"), ("b.png", &b)])
}

#[test]
fn samples_have_the_order_of_shards_and_pictures() {
    let dir = tempdir().unwrap();
    let (z, c, d) = (png(1), png(2), png(3));
    // Keys need not be sorted, nor a label be beside its picture; a key is good for one shard.
    let first = tar(&[
        ("z.cls", b"2"),
        ("sub/c.v1.txt", b"passed over"),
        ("sub/c.PNG", &c),
        ("z.png", &z),
        ("sub/c.cls", b"0"),
        ("README", b"no key"),
        (".png", b"no key either"),
    ]);
    let second = tar(&[("z.Png", &d), ("z.CLS", b"1")]);
    let samples = open(dir.path(), &[first.clone(), second.clone()], None).unwrap();
    assert_eq!((samples.name(), samples.len(), samples.passed_over), ("mine", 3, 3));
    assert_eq!(samples.class_names(), ["0", "1", "2"]);
    assert_eq!((labels(&samples), levels(&samples)), (vec![0, 2, 1], vec![2, 1, 3]));
    let turned = tempdir().unwrap();
    let turned = open(turned.path(), &[second, first], None);
    assert_eq!(labels(&turned.unwrap()), [1, 0, 2]);
}

#[test]
fn classes_by_number_and_by_name() {
    let dir = tempdir().unwrap();
    let picture = png(5);
    let with = |texts: [&str; 3], names: Option<&[&str]>| {
        let [a, b, c] = texts.map(str::as_bytes);
        let shard = tar(&[
            ("a.png", &picture),
            ("a.cls", a),
            ("b.png", &picture),
            ("b.cls", b),
            ("c.png", &picture),
            ("c.cls", c),
        ]);
        let samples = open(dir.path(), &[shard], names)?;
        Ok((samples.class_names().to_vec().join(","), labels(&samples)))
    };
    let right = |texts, names| with(texts, names).unwrap_or_else(|e: DataError| panic!("{e}"));
    assert_eq!(right(["3", "0", "1\n"], None), ("0,1,2,3".to_owned(), vec![3, 0, 1]));
    assert_eq!(right(["dog", "Zebra", "cat"], None), ("Zebra,cat,dog".to_owned(), vec![2, 0, 1]));
    let given: Option<&[&str]> = Some(&["dog", "cat", "1"]);
    assert_eq!(right(["cat", "1", "0"], given), ("dog,cat,1".to_owned(), vec![1, 1, 0]));
    for (texts, names, member, fault) in [
        (["0", "3", "1"], given, "b.png", r#"the label "3" is none of the 3 classes"#),
        (["0", "1", "cow"], given, "c.png", r#"the label "cow" is none"#),
        (["-1", "dog", "1"], given, "a.png", r#"the label "-1" is none"#),
        (["7", "8", "dog"], None, "c.png", "not all numbers or all names"),
        (["dog", "7", "cat"], None, "b.png", "not all numbers or all names"),
        (["0", "99999999999", "1"], None, "b.png", "is none of"),
    ] {
        let text = with(texts, names).unwrap_err().to_string();
        for part in ["0.tar", member, fault] {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
}

#[test]
fn a_picture_or_label_without_partner_is_named() {
    let picture = png(5);
    let p = picture.as_slice();
    for (members, words) in [
        (vec![("x/a.png", p), ("b.cls", b"0")], ["x/a.png", "no label"]),
        (vec![("a.png", p), ("a.cls", b"0"), ("x/b.cls", b"0")], ["x/b", "no picture"]),
        (vec![("a.png", p), ("a.cls", b"0"), ("a.jpg", p)], ["a.jpg", "another picture"]),
        (vec![("a.png", p), ("a.cls", b"0"), ("a.cls", b"0")], ["a.cls", "second"]),
        (vec![("a.png", p), ("a.cls", b" \n")], ["a.cls", "empty"]),
        (vec![("a.png", p), ("a.cls", &[b'1'; 5000])], ["a.cls", "overlong"]),
        (vec![("a.png", p), ("a.cls", b"\xff")], ["a.cls", "UTF-8"]),
    ] {
        let text = fault(tar(&members), None);
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    }
}

#[test]
fn links_and_folders_are_passed_over_and_no_picture_is_an_error() {
    let dir = tempdir().unwrap();
    let mut builder = Builder::new(Vec::new());
    let empty = std::io::empty;
    builder.append_data(&mut header(EntryType::Directory, 0), "a.png", empty()).unwrap();
    builder.append_link(&mut header(EntryType::Symlink, 0), "b.jpg", "c.jpg").unwrap();
    let links = builder.into_inner().unwrap();
    let samples = open(dir.path(), &[links.clone(), good()], None).unwrap();
    assert_eq!((samples.len(), samples.passed_over), (2, 3));
    for shards in [vec![links], vec![tar(&[])], vec![]] {
        let error = open(dir.path(), &shards, None).unwrap_err();
        assert!(matches!(error, DataError::BadParts { .. }), "{error:?}");
        assert!(error.to_string().contains("mine: its shards hold no pictures"), "{error}");
    }
}

/// Around the edges of all blocks and within them, from an empty file to the first block of zeros.
#[test]
fn a_shard_that_is_cut_off_is_an_error() {
    let whole = good();
    let zeros = whole.len() - 1024;
    let dir = tempdir().unwrap();
    let edges = |length: &usize| matches!(length % 512, 0 | 1 | 511) || length.is_multiple_of(37);
    for length in (0..zeros + 512).filter(edges) {
        let error = open(dir.path(), &[whole[..length].to_vec()], None).unwrap_err();
        let text = error.to_string();
        let after = match length / 512 {
            0 | 1 => "its beginning",
            2 | 3 => "a.png",
            4 | 5 => "a.cls",
            6 | 7 => "a.json",
            8 | 9 => "b.cls",
            _ => "b.png",
        };
        let exact = text.ends_with(&format!("cut off or damaged after {after}"));
        // Contents may be whole where their padding is not.
        let padding = length / 512 % 2 == 1 && text.contains("cut off or damaged after ");
        assert!(text.contains("0.tar") && (exact || padding), "{length} bytes: {text}");
    }
    for length in [zeros + 512, zeros + 1000, zeros + 1024] {
        assert_eq!(open(dir.path(), &[whole[..length].to_vec()], None).unwrap().len(), 2);
    }
    // Within a long name, and between it and its member.
    let long = tar(&[(&"x/".repeat(100), b""), ("a.cls", b"0")]);
    for length in [512, 700, 1024, 1200] {
        assert!(fault(long[..length].to_vec(), None).contains("cut off or damaged after its"));
    }
}

#[test]
fn what_is_no_tar_file_is_an_error() {
    assert!(fault(vec![b'x'; 2000], None).contains("cut off or damaged after its beginning"));
    let mut flipped = good();
    flipped[1024 + 3] ^= 1;
    assert!(fault(flipped, None).contains("after a.png"));
    let dir = tempdir().unwrap();
    for path in [dir.path().join("missing.tar"), dir.path().to_owned()] {
        let error =
            Pictures::in_shards(std::slice::from_ref(&path), "mine", None, 100).unwrap_err();
        assert!(matches!(error, DataError::Io { .. }), "{error:?}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn compressed_shards() {
    let dir = tempdir().unwrap();
    let samples = open(dir.path(), &[gzip(&good()), good()], None).unwrap();
    assert_eq!((labels(&samples), levels(&samples)), (vec![1, 0, 1, 0], vec![10, 20, 10, 20]));
    // What was decompressed is nobody's file.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    // Several threads read from one decompressed file.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| assert_eq!(levels(&samples), [10, 20, 10, 20])));
        }
    });
    let whole = gzip(&good());
    for length in [2, 10, 100, whole.len() - 1] {
        let error = open(dir.path(), &[whole[..length].to_vec()], None).unwrap_err();
        assert!(matches!(error, DataError::Gzip { .. }), "{length} bytes: {error:?}");
        assert!(error.to_string().contains("0.tar"), "{error}");
    }
    // A tar file that was cut off before it was compressed.
    assert!(fault(gzip(&good()[..1500]), None).contains("damaged after a.png"));
}

/// Runs itself again with a folder for temporary files that is not there.
#[test]
fn the_folder_that_takes_no_temporary_file_is_named() {
    const NAME: &str = "the_folder_that_takes_no_temporary_file_is_named";
    const MISSING: &str = "/no/such/temporary/folder";
    if env::temp_dir() != Path::new(MISSING) {
        let dir = tempdir().unwrap();
        fs::write(dir.path().join("0.tar"), gzip(&good())).unwrap();
        let mut again = Command::new(env::current_exe().unwrap());
        let again = again.args(["--exact", NAME]).current_dir(dir.path()).env("TMPDIR", MISSING);
        let output = again.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let error = Pictures::in_shards(&["0.tar".into()], "mine", None, 100).unwrap_err().to_string();
    assert!(["0.tar", MISSING, "$TMPDIR"].iter().all(|part| error.contains(part)), "{error}");
}

#[test]
fn long_names_and_names_that_are_not_utf_8() {
    let dir = tempdir().unwrap();
    let long = "folder/".repeat(30) + &"k".repeat(200);
    let (picture, label) = (long.clone() + ".png", long.clone() + ".cls");
    let gnu = tar(&[(&picture, &png(1)), (&label, b"0")]);

    // The same with PAX headers.
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in [(&picture, png(2)), (&label, b"1".to_vec())] {
        builder.append_pax_extensions([("path", name.as_bytes())]).unwrap();
        let mut header = header(EntryType::Regular, bytes.len() as u64);
        builder.append_data(&mut header, "short", &*bytes).unwrap();
    }
    let pax = builder.into_inner().unwrap();

    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in
        [(b"\xffa.png", png(3)), (b"\xfea.cls", vec![]), (b"\xffa.cls", b"2".to_vec())]
    {
        let mut header = header(EntryType::Regular, bytes.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        if name[0] == 0xfe {
            header.set_entry_type(EntryType::Link);
        }
        header.set_cksum();
        builder.append(&header, &*bytes).unwrap();
    }
    let bytes = builder.into_inner().unwrap();
    let samples = open(dir.path(), &[gnu, pax, bytes], None).unwrap();
    assert_eq!((labels(&samples), levels(&samples)), (vec![0, 1, 2], vec![1, 2, 3]));
    assert_eq!(samples.passed_over, 1);
}

/// The size in a GNU header's binary form, and in a PAX header. The file has holes, and takes no room.
#[test]
fn members_larger_than_eight_gibibytes() {
    const LARGE: u64 = (8 << 30) + 1000;
    let dir = tempdir().unwrap();
    let path = dir.path().join("large.tar");
    let mut file = File::create(&path).unwrap();
    let mut binary = header(EntryType::Regular, LARGE);
    binary.set_path("video.mp4").unwrap();
    binary.set_cksum();
    file.write_all(binary.as_bytes()).unwrap();
    file.seek(SeekFrom::Current(LARGE.next_multiple_of(512) as i64)).unwrap();
    let mut pax = Builder::new(Vec::new());
    pax.append_pax_extensions([("size", LARGE.to_string().as_bytes())]).unwrap();
    let mut small = header(EntryType::Regular, 0);
    small.set_path("film.mp4").unwrap();
    small.set_cksum();
    // Without the zeros that the builder adds at the end.
    let pax = pax.into_inner().unwrap();
    file.write_all(&pax[..pax.len() - 1024]).unwrap();
    file.write_all(small.as_bytes()).unwrap();
    file.seek(SeekFrom::Current(LARGE.next_multiple_of(512) as i64)).unwrap();
    file.write_all(&good()).unwrap();
    drop(file);
    let samples = Pictures::in_shards(std::slice::from_ref(&path), "mine", None, 100).unwrap();
    assert_eq!((levels(&samples), samples.passed_over), (vec![10, 20], 3));

    File::options().write(true).open(&path).unwrap().set_len(LARGE).unwrap();
    let text = Pictures::in_shards(&[path], "mine", None, 100).unwrap_err().to_string();
    assert!(text.contains("video.mp4 has 8589935592 bytes"), "{text}");
}

#[test]
fn a_sparse_member_is_refused() {
    let mut sparse = header(EntryType::GNUSparse, 0);
    sparse.set_path("a.png").unwrap();
    sparse.as_gnu_mut().unwrap().set_real_size(0);
    sparse.set_cksum();
    let shard = [sparse.as_bytes().as_slice(), &[0; 1024]].concat();
    assert!(fault(shard, None).contains("a.png is stored with holes"));
}

#[test]
fn pictures_that_cannot_be_decoded_name_shard_and_member() {
    let dir = tempdir().unwrap();
    let mut large = std::io::Cursor::new(Vec::new());
    RgbImage::new(11, 10).write_to(&mut large, ImageFormat::Png).unwrap();
    let (large, half) = (large.into_inner(), png(1)[..40].to_vec());
    let members: &[(&str, &[u8])] =
        &[("x/a.png", &large), ("x/a.cls", b"0"), ("b.jpg", &half), ("b.cls", b"0")];
    let samples = open(dir.path(), &[tar(members)], None).unwrap();
    let fails = |index| samples.read(index, &mut Image::default()).unwrap_err();
    assert!(matches!(fails(0), DataError::TooManyPixels { max_pixels: 100, .. }), "{:?}", fails(0));
    assert!(matches!(fails(1), DataError::Decode { .. }), "{:?}", fails(1));
    assert!(fails(0).to_string().contains("0.tar: x/a.png"), "{}", fails(0));
    // A shard that is gone.
    fs::remove_file(dir.path().join("0.tar")).unwrap();
    assert!(matches!(fails(1), DataError::Io { action: "read", .. }), "{:?}", fails(1));
}

/// A run knows shards again, whether or not they are compressed.
#[test]
fn the_fingerprint_is_that_of_the_samples() {
    let [plain, compressed] = [tempdir().unwrap(), tempdir().unwrap()];
    let plain = open(plain.path(), &[good()], None).unwrap();
    let compressed = open(compressed.path(), &[gzip(&good())], None).unwrap();
    let of = |samples: &Pictures| format!("{:?}", samples.fingerprint());
    assert_eq!(of(&plain), of(&compressed));
}
