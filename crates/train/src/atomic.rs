//! Writing a file so that a reader, or a run that is killed, finds the old content or the new one, never a part of it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a file could not be written. The file still has its old content.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message says what each one is")]
pub enum AtomicWriteError {
    #[error("cannot write {}: the path names no file", path.display())]
    NoFileName { path: PathBuf },
    #[error("cannot write {}: {step} failed: {source}{}", path.display(), advice(.source))]
    Failed { path: PathBuf, step: &'static str, source: io::Error },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space or choose another folder"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; choose a folder that you may write to"
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "; check that its folder exists",
        _ => "",
    }
}

/// An error of one step of writing to a file.
pub(crate) fn write_failed(
    path: &Path,
    step: &'static str,
) -> impl FnOnce(io::Error) -> AtomicWriteError {
    move |source| AtomicWriteError::Failed { path: path.to_owned(), step, source }
}

/// Replaces the file's content by these bytes.
pub fn write_atomic(path: &Path, content: &[u8]) -> Result<(), AtomicWriteError> {
    write_atomic_with(path, |file| file.write_all(content))
}

/// Replaces the file's content by what `write` writes.
///
/// The content goes to `.NAME.tmp` in the same folder, which is synced, renamed to the target and the folder synced.
/// What a killed run left under that name is overwritten, so only one writer may be at work on a file.
pub fn write_atomic_with(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), AtomicWriteError> {
    let no_name = || AtomicWriteError::NoFileName { path: path.into() };
    let name = path.file_name().ok_or_else(no_name)?;
    let mut temporary_name = OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(".tmp");
    let temporary = path.with_file_name(temporary_name);
    let failed = |step| write_failed(path, step);
    let file = File::create(&temporary).map_err(failed("creating a temporary file beside it"))?;
    let mut file = BufWriter::new(file);
    let written = (|| {
        write(&mut file).map_err(failed("writing the content"))?;
        file.flush().map_err(failed("writing the content"))?;
        file.get_ref().sync_all().map_err(failed("syncing the content to the disk"))?;
        fs::rename(&temporary, path).map_err(failed("renaming the temporary file"))
    })();
    if written.is_err() {
        // The write's own error is what the caller needs to hear about.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_folder(folder_of(path)).map_err(failed("syncing the folder to the disk"))
}

/// Adds to a file that is there, and syncs it.
pub(crate) fn append(path: &Path, content: &[u8]) -> Result<(), AtomicWriteError> {
    let append = || {
        let mut file = OpenOptions::new().append(true).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    append().map_err(write_failed(path, "adding to it"))
}

/// The folder that a file or folder is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Brings a folder's entries (new, renamed or removed files) to the disk.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    // Only Unix lets a folder be opened and synced.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
