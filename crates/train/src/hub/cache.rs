//! The cache, laid out as Python's `huggingface_hub` does, which shares it with us.
//!
//! ```text
//! models--ORG--NAME/blobs/ETAG              a file's content; ETAG.incomplete while it is fetched
//!                   refs/REVISION           the commit that a branch or tag stood for when it was last asked
//!                   snapshots/COMMIT/FILE   a link to ../../blobs/ETAG, or a copy where there are no links
//!                   .no_exist/COMMIT/FILE   empty: the commit has no such file
//! .locks/models--ORG--NAME/ETAG.lock        is held by the one process that fetches the blob
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{HubError, Wanted};

impl Wanted<'_> {
    /// A path in the repository's folder.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.hub.cache.join(format!("models--{}/{inside}", self.name.repo.replace('/', "--")))
    }

    /// The file's place in the snapshot of a commit, and the place of the note that the commit has no such file.
    pub fn places(&self, commit: &str) -> [PathBuf; 2] {
        ["snapshots", ".no_exist"].map(|kind| self.path(&format!("{kind}/{commit}/{}", self.file)))
    }

    fn reference(&self) -> PathBuf {
        self.path(&format!("refs/{}", self.name.revision))
    }

    /// The commit that the name is, or stood for when it was last asked.
    fn commit(&self) -> Option<String> {
        if is_commit(&self.name.revision) {
            return Some(self.name.revision.clone());
        }
        fs::read_to_string(self.reference()).ok().filter(|commit| is_commit(commit))
    }

    /// That commit if it has the file, and `Some(None)` if it has not. `None`: this is not known here.
    pub fn cached(&self) -> Option<Option<String>> {
        let commit = self.commit()?;
        let [present, absent] = self.places(&commit).map(|path| path.exists());
        (present || absent).then(|| present.then_some(commit))
    }

    /// Notes which commit the name stands for, and whether it has the file. A cache that cannot be written to keeps no
    /// notes, and the Hub is asked again.
    pub fn note(&self, commit: &str, has_file: bool) {
        let write = |path: PathBuf, text| {
            let _ = create_folder_of(&path).map(|()| fs::write(path, text));
        };
        if !has_file {
            let [_, absent] = self.places(commit);
            write(absent, "");
        }
        if self.commit().as_deref() != Some(commit) {
            write(self.reference(), commit);
        }
    }

    /// Puts a blob that is complete into a snapshot. The caller holds the blob's lock.
    pub fn link(&self, blob: &Path, pointer: &Path) -> Result<(), HubError> {
        create_folder_of(pointer)?;
        let new = blob.with_extension("incomplete");
        let _ = fs::remove_file(&new);
        #[cfg(unix)]
        let linked = {
            let up = "../".repeat(2 + self.file.matches('/').count());
            let inside = blob.strip_prefix(self.path("")).unwrap_or(blob);
            std::os::unix::fs::symlink(Path::new(&up).join(inside), &new)
        };
        #[cfg(not(unix))]
        let linked = fs::hard_link(blob, &new);
        let made = linked.or_else(|_| fs::copy(blob, &new).map(drop));
        made.and_then(|()| fs::rename(new, pointer)).map_err(io_error(pointer))
    }

    /// One process at a time fetches a blob. The lock goes with the process that holds it.
    pub fn lock(&self, etag: &str) -> Result<File, HubError> {
        let repo = self.name.repo.replace('/', "--");
        let path = self.hub.cache.join(format!(".locks/models--{repo}/{etag}.lock"));
        create_folder_of(&path)?;
        let file = File::create(&path).map_err(io_error(&path))?;
        // Where the file system knows no locks, the check of length and sum finds what two processes mixed up.
        let _ = file.lock();
        Ok(file)
    }
}

/// Whether a revision is a commit's full name, which never stands for anything else.
pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn create_folder_of(path: &Path) -> Result<(), HubError> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(io_error(folder))
}

pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> HubError {
    move |source| HubError::Io { path: path.to_owned(), source }
}
