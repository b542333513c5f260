//! A dataset's files in one folder: reading and checking them, and copying them safely into another folder. Which
//! folder, and how the files get there, is in [`crate::locate`].

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};

use crate::catalog::{FileSpec, IdxSpec, Split};
use crate::idx;
use crate::{DataError, Dataset};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Reads and checks one part of a dataset.
pub(crate) fn read_split(dir: &Path, spec: &IdxSpec, split: Split) -> Result<Dataset, DataError> {
    let part = spec.split(split);
    let (height, width) = spec.image_size;
    let images = read_array(dir, &part.images, &[part.samples, height, width])?;
    let labels = read_array(dir, &part.labels, &[part.samples])?;
    let labels = labels.into_iter().map(i64::from).collect();
    let class_names = spec.class_names.iter().map(|&name| name.to_owned()).collect();
    Dataset::from_parts(spec.title, images, labels, [1, height, width], class_names)
}

/// Checks all four files of a dataset.
pub(crate) fn verify(dir: &Path, spec: &IdxSpec) -> Result<(), DataError> {
    read_split(dir, spec, Split::Train)?;
    read_split(dir, spec, Split::Test)?;
    Ok(())
}

/// Copies the four files of a dataset, as they are. Each appears in `to` whole or not at all.
pub(crate) fn install(from: &Path, spec: &IdxSpec, to: &Path) -> Result<(), DataError> {
    for file in spec.files() {
        let bytes = read(&find(from, file)?)?;
        let [plain, gz] = names(to, file);
        let (path, other) = if bytes.starts_with(&GZIP_MAGIC) { (gz, plain) } else { (plain, gz) };
        write_atomically(&path, &bytes)?;
        // What lay there under the other name was missing or damaged, or nothing would have been fetched.
        match fs::remove_file(&other) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(DataError::io("remove", other, e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The two paths that a file may have in a folder.
fn names(dir: &Path, file: &FileSpec) -> [PathBuf; 2] {
    [dir.join(file.name), dir.join(format!("{}.gz", file.name))]
}

/// Whether a folder holds a file, plain or with `.gz`.
pub(crate) fn holds(dir: &Path, file: &FileSpec) -> bool {
    names(dir, file).iter().any(|path| path.is_file())
}

/// The path of a file in a folder, plain or with `.gz`.
fn find(dir: &Path, file: &FileSpec) -> Result<PathBuf, DataError> {
    if !dir.is_dir() {
        return Err(DataError::MissingFolder { dir: dir.to_owned() });
    }
    names(dir, file)
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| DataError::MissingFile { dir: dir.to_owned(), file: file.name.to_owned() })
}

/// The elements of one IDX file, after every check.
fn read_array(dir: &Path, file: &FileSpec, expected: &[usize]) -> Result<Vec<u8>, DataError> {
    let path = find(dir, file)?;
    // Enough to see that there is too much, and no more: a small gzip file can hold gigabytes.
    let header = 4 + 4 * expected.len();
    let elements: usize = expected.iter().product();
    let mut bytes = decompress(&path, read(&path)?, header + elements + 1)?;
    let array =
        idx::parse(&bytes).map_err(|source| DataError::Idx { path: path.clone(), source })?;
    if array.shape != expected {
        return Err(DataError::WrongShape {
            path,
            expected: expected.to_vec(),
            actual: array.shape,
        });
    }
    let actual = hex(&Md5::digest(&bytes));
    if actual != file.md5 {
        return Err(DataError::Checksum { path, expected: file.md5.to_owned(), actual });
    }
    bytes.drain(..header);
    Ok(bytes)
}

fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    fs::read(path).map_err(|e| DataError::io("read", path, e))
}

/// The contents of a file without its gzip layer, if it has one, but no more than `limit` bytes of them.
fn decompress(path: &Path, bytes: Vec<u8>, limit: usize) -> Result<Vec<u8>, DataError> {
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
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
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
