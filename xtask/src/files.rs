//! Files that are written whole or not at all, and folders that one process at a time may change.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Writes a file whole or not at all: under another name first, then moved into place.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new: PathBuf = path.with_file_name(name);
    let written = (|| {
        let mut file = File::create(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    if written.is_err() {
        // What went wrong before is what counts.
        let _ = remove(&new);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Removes a file that may be there.
pub fn remove(path: &Path) -> Result<()> {
    may_be_absent(fs::remove_file(path), path)
}

/// Removes a folder that may be there, with all that is in it.
pub fn remove_folder(path: &Path) -> Result<()> {
    may_be_absent(fs::remove_dir_all(path), path)
}

fn may_be_absent(removed: io::Result<()>, path: &Path) -> Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("cannot remove {}", path.display())),
    }
}

/// Makes the folder if need be, and waits until no other process works in it. The folder is this
/// process's own until the file returned is closed, also if the process is killed.
pub fn lock(folder: &Path) -> Result<File> {
    let locked = (|| {
        fs::create_dir_all(folder)?;
        let file = File::create(folder.join(".lock"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("waiting for another process that works in {}", folder.display());
                file.lock()?;
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(file)
    })();
    locked.with_context(|| format!("cannot work in {}", folder.display()))
}

/// A new, empty folder for one test, below the build's own.
#[cfg(test)]
pub fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("vitrine-{name}-{}", std::process::id()));
    remove_folder(&folder).unwrap();
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = scratch("files");
        let path = folder.join("page.md");
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        // A folder cannot be replaced by a file.
        let error = write_whole(&folder, b"x").unwrap_err().to_string();
        assert!(error.contains("cannot write"), "{error}");
        assert!(!folder.with_extension("new").exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_is_absent_can_be_removed() {
        let folder = scratch("files-absent");
        remove(&folder.join("none")).unwrap();
        remove_folder(&folder.join("none")).unwrap();
        assert!(remove(&folder).is_err(), "a folder is no file");
        remove_folder(&folder).unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let folder = scratch("files-lock");
        let first = lock(&folder).unwrap();
        let second = File::open(folder.join(".lock")).unwrap();
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
        drop(first);
        second.try_lock().unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
