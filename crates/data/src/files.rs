//! A dataset's files in one folder: reading and checking them, and copying them safely into another folder. Which
//! folder, and how the files get there, is in [`crate::locate`].

use std::cmp::Ordering;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

use crate::samples::check_labels;
use crate::spec::{DatasetSpec, FileSpec, Form, PublishedMd5, Split, SplitSpec};
use crate::{DataError, Dataset, Result};

/// The first bytes of a gzip file.
pub(crate) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Reads and checks one part of a dataset.
pub(crate) fn read_split(dir: &Path, spec: &DatasetSpec, split: Split) -> Result<Dataset> {
    let part = spec.split(split);
    let [_, height, width] = spec.image_shape;
    let (images, labels) = match (spec.form, part.files) {
        (Form::Cifar { label_at }, _) => read_records(dir, spec, part, label_at)?,
        (Form::Idx { first_label, transposed }, [images, labels]) => {
            let (rows, columns) = if transposed { (width, height) } else { (height, width) };
            let mut images = read_array(dir, images, &[part.samples, rows, columns])?;
            if transposed {
                transpose(&mut images, rows, columns);
            }
            let labels = read_array(dir, labels, &[part.samples])?;
            let first = i64::from(first_label);
            (images, labels.into_iter().map(|label| i64::from(label) - first).collect())
        }
        (Form::Idx { .. }, _) => {
            let reason = "a part in IDX form has two files: images and labels".to_owned();
            return Err(DataError::BadParts { dataset: spec.title.to_owned(), reason });
        }
    };
    let class_names = spec.class_names.iter().map(|&name| name.to_owned()).collect();
    Dataset::from_parts(spec.title, images, labels, spec.image_shape, class_names)
}

/// Checks all files of a dataset.
pub(crate) fn verify(dir: &Path, spec: &DatasetSpec) -> Result<()> {
    read_split(dir, spec, Split::Train)?;
    read_split(dir, spec, Split::Test)?;
    Ok(())
}

/// Copies the files of a dataset, as they are. Each appears in `to` whole or not at all.
pub(crate) fn install(from: &Path, spec: &DatasetSpec, to: &Path) -> Result<()> {
    for file in spec.files() {
        let bytes = read(&find(from, file)?)?;
        let [plain, gz] = names(to, file);
        let (path, other) = if bytes.starts_with(&GZIP_MAGIC) { (gz, plain) } else { (plain, gz) };
        write_atomically(&path, &bytes)?;
        // What lay there under the other name was missing or damaged, or nothing would have been fetched.
        if other.is_file() {
            fs::remove_file(&other).map_err(|e| DataError::io("remove", other, e))?;
        }
    }
    Ok(())
}

/// The two paths that a file may have in a folder.
fn names(dir: &Path, file: &FileSpec) -> [PathBuf; 2] {
    [dir.join(file.name), dir.join(format!("{}.gz", file.name))]
}

/// Whether a folder holds one of a dataset's files, plain or with `.gz`.
pub(crate) fn holds_any(dir: &Path, spec: &DatasetSpec) -> bool {
    spec.files().any(|file| names(dir, file).iter().any(|path| path.is_file()))
}

/// The path of a file in a folder, plain or with `.gz`.
fn find(dir: &Path, file: &FileSpec) -> Result<PathBuf> {
    if !dir.is_dir() {
        return Err(DataError::MissingFolder { dir: dir.to_owned() });
    }
    names(dir, file)
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| DataError::MissingFile { dir: dir.to_owned(), file: file.name.to_owned() })
}

/// Swaps rows and columns of images that have so many.
fn transpose(images: &mut [u8], rows: usize, columns: usize) {
    let mut stored = vec![0; rows * columns];
    for image in images.chunks_exact_mut(stored.len().max(1)) {
        stored.copy_from_slice(image);
        for (x, row) in image.chunks_exact_mut(rows).enumerate() {
            row.iter_mut().enumerate().for_each(|(y, pixel)| *pixel = stored[y * columns + x]);
        }
    }
}

/// The elements of one IDX file, after every check.
fn read_array(dir: &Path, file: &FileSpec, expected: &[usize]) -> Result<Vec<u8>> {
    let header = 4 + 4 * expected.len();
    let length = header + expected.iter().product::<usize>();
    let (_, mut bytes) = checked(dir, file, length, |path, bytes| {
        check_idx(bytes, expected).map_err(|reason| DataError::file(path, reason))
    })?;
    bytes.drain(..header);
    Ok(bytes)
}

/// Says what is wrong if this is no IDX file of unsigned bytes in an array of this shape: two zeros, the element type
/// 8, the number of dimensions, each of these as a big-endian `u32`, and the elements, row-major.
fn check_idx(bytes: &[u8], expected: &[usize]) -> Result<(), String> {
    let length = bytes.len();
    let cut_off = |header: usize| {
        format!("truncated IDX header: the file has {length} bytes, its header needs {header}")
    };
    let (magic, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| cut_off(4))?;
    let [zero0, zero1, element, dimensions] = *magic;
    if [zero0, zero1] != [0, 0] {
        let right = "an IDX file of bytes starts with [00, 00, 08]";
        return Err(format!("not an IDX file: it starts with {magic:02x?}, {right}"));
    }
    if element != 8 {
        let right = "only 0x08 (unsigned byte) is";
        return Err(format!("IDX element type 0x{element:02x} is not supported, {right}"));
    }
    let header = 4 * usize::from(dimensions);
    let (sizes, data) = rest.split_at_checked(header).ok_or_else(|| cut_off(4 + header))?;
    let (sizes, _) = sizes.as_chunks::<4>();
    let shape: Vec<usize> = sizes.iter().map(|&size| u32::from_be_bytes(size) as usize).collect();
    if shape != expected {
        let other = "is it a file of another dataset?";
        return Err(format!(
            "holds an array of shape {shape:?}, but this file of the dataset has {expected:?}; {other}"
        ));
    }
    let (length, promised) = (data.len(), expected.iter().product::<usize>());
    let promise = format!("{promised} bytes of data that its header promises");
    match length.cmp(&promised) {
        Ordering::Less => Err(format!("truncated IDX file: {length} of the {promise}")),
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(format!("IDX file that goes on after the {promise}")),
    }
}

/// The images and labels of one part in files of records, after every check of these. The label is at a place in each
/// record, and the image follows it.
fn read_records(
    dir: &Path,
    spec: &DatasetSpec,
    part: &SplitSpec,
    label_at: usize,
) -> Result<(Vec<u8>, Vec<i64>)> {
    let size = label_at + 1 + spec.image_shape.iter().product::<usize>();
    let records = part.samples / part.files.len().max(1);
    let expected = records * size;
    let (mut images, mut labels) = (Vec::with_capacity(part.samples * size), Vec::new());
    for file in part.files {
        let (path, bytes) = checked(dir, file, expected, |path, bytes| {
            let reason = format!("not {records} records of {size} bytes, which are {expected}");
            (bytes.len() == expected).then_some(()).ok_or_else(|| DataError::file(path, reason))
        })?;
        let first = labels.len();
        for record in bytes.chunks_exact(size) {
            labels.push(i64::from(record[label_at]));
            images.extend_from_slice(&record[label_at + 1..]);
        }
        let name = path.display().to_string();
        check_labels(&name, spec.class_names.len(), &labels[first..])?;
    }
    Ok((images, labels))
}

/// The contents of a file of the dataset, after every check, and its path. `form` checks the form of contents that
/// should have `length` bytes. Of contents that have more it sees one byte more.
fn checked(
    dir: &Path,
    file: &FileSpec,
    length: usize,
    form: impl FnOnce(&Path, &[u8]) -> Result<()>,
) -> Result<(PathBuf, Vec<u8>)> {
    let path = find(dir, file)?;
    let stored = read(&path)?;
    if let PublishedMd5::OfGzip(md5) = file.md5
        && stored.starts_with(&GZIP_MAGIC)
    {
        check_sum(&path, "gzip file", &stored, md5)?;
    }
    // Enough to see that there is too much, and no more: a small gzip file can hold gigabytes.
    let contents = decompress(&path, stored, length + 1)?;
    form(&path, &contents)?;
    if let PublishedMd5::OfContents(md5) = file.md5 {
        check_sum(&path, "decompressed data", &contents, md5)?;
    }
    Ok((path, contents))
}

/// Compares the MD5 of what is called `of` with the published one.
pub(crate) fn check_sum(
    path: &Path,
    of: &'static str,
    bytes: &[u8],
    published: &str,
) -> Result<()> {
    let (path, expected) = (path.to_owned(), published.to_owned());
    let actual = hex(&Md5::digest(bytes));
    let same = actual == expected;
    same.then_some(()).ok_or(DataError::Checksum { path, of, expected, actual })
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| DataError::io("read", path, e))
}

/// The contents of a file without its gzip layer, if it has one, but no more than `limit` bytes of them.
fn decompress(path: &Path, bytes: Vec<u8>, limit: usize) -> Result<Vec<u8>> {
    if !bytes.starts_with(&GZIP_MAGIC) {
        return Ok(bytes);
    }
    let mut plain = Vec::with_capacity(limit);
    flate2::read::MultiGzDecoder::new(bytes.as_slice())
        .take(limit as u64)
        .read_to_end(&mut plain)
        .map_err(|source| DataError::Gzip { path: path.to_owned(), source })?;
    Ok(plain)
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file under a temporary name in the same folder, then renames it. Other processes see all of it or none.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| DataError::io("write", path, e))
}
