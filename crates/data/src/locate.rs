//! Where a dataset is: the folders that are searched, in order, and what happens when none has it. How files are
//! fetched is in [`crate::fetch`], how they are checked in `files`.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::catalog::DatasetName;
use crate::fetch::FetchMethod;
use crate::spec::{DatasetSpec, Origin, Split};
use crate::{DataError, Dataset, Result, files};

/// Finds datasets, and fetches them when they are nowhere.
///
/// A folder that the user named is the only one that is looked at: what is missing or wrong there is an error. Else the
/// order is the user's cache folder, `/usr/share/datasets`, and fetching into the cache; where a file is missing or
/// damaged, the search goes on. Each time a file is read, its form is checked, and its MD5 where one is published.
pub struct Locator {
    /// A folder that the user named, by `--data` or else in `$VITRINE_DATA`. It holds the files, or a folder that does:
    /// `<name>`, or that of the published archive.
    pub explicit: Option<PathBuf>,
    /// The cache folder, which holds one folder per dataset.
    pub cache: Option<PathBuf>,
    /// The system's folder, which holds one folder per dataset.
    pub system: Option<PathBuf>,
    /// The ways to fetch what is in none of these, in order.
    pub fetch: Vec<FetchMethod>,
    /// Is called with a line of text before each step that may take long, such as a download.
    pub notify: Box<dyn Fn(&str) + Send + Sync>,
}

impl Locator {
    /// The usual places, with an explicit folder in front if there is one.
    pub fn from_env(explicit: Option<PathBuf>) -> Self {
        // As the XDG specification says, a relative path counts as not set.
        let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
        let variable = || env::var_os("VITRINE_DATA").filter(|v| !v.is_empty()).map(PathBuf::from);
        Self {
            explicit: explicit.or_else(variable),
            cache: cache.map(|dir| dir.join("vitrine")),
            system: Some(PathBuf::from("/usr/share/datasets")),
            fetch: vec![FetchMethod::Apt, FetchMethod::Https],
            notify: Box::new(|_| ()),
        }
    }

    /// No place at all: set the fields that you need.
    pub fn empty() -> Self {
        Self {
            explicit: None,
            cache: None,
            system: None,
            fetch: Vec::new(),
            notify: Box::new(|_| ()),
        }
    }

    /// Sets [`notify`](Self::notify).
    #[must_use]
    pub fn on_notice(mut self, notify: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.notify = Box::new(notify);
        self
    }

    /// Loads one part of a dataset, fetching it first if need be.
    pub fn load(&self, spec: &DatasetSpec, split: Split) -> Result<Dataset> {
        self.search(spec, |dir| files::read_split(dir, spec, split))
    }

    /// The folder with a dataset's files, all of them checked, fetching them first if need be.
    pub fn locate(&self, spec: &DatasetSpec) -> Result<PathBuf> {
        self.search(spec, |dir| files::verify(dir, spec).map(|()| dir.to_owned()))
    }

    fn search<T>(&self, spec: &DatasetSpec, open: impl Fn(&Path) -> Result<T>) -> Result<T> {
        if let Some(root) = &self.explicit {
            return open(&folder_in(root, spec));
        }
        let mut attempts = Vec::new();
        for root in [&self.cache, &self.system].into_iter().flatten() {
            let dir = root.join(spec.name);
            let error = match open(&dir) {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            let place = dir.display();
            if !matches!(error, DataError::MissingFolder { .. } | DataError::MissingFile { .. }) {
                (self.notify)(&format!("passing over {place}: {error}"));
            }
            attempts.push(format!("folder {place}: {error}"));
        }
        let published = !spec.origin.addresses().is_empty() || spec.debian_package.is_some();
        if self.cache.is_none() {
            attempts.push("fetching: there is no cache folder: $HOME is not set".to_owned());
        }
        if let (Some(cache), true) = (&self.cache, published && !self.fetch.is_empty()) {
            let dir = cache.join(spec.name);
            fs::create_dir_all(&dir).map_err(|e| DataError::io("create", &dir, e))?;
            let _lock = self.lock(&dir, spec)?;
            // Another process may have fetched the files while this one waited for the lock.
            if let Ok(found) = open(&dir) {
                return Ok(found);
            }
            for method in &self.fetch {
                match method.fetch(spec, &dir, &self.notify) {
                    Ok(()) => return open(&dir),
                    Err(failed) => attempts.extend(failed),
                }
            }
        }
        Err(not_found(spec, attempts))
    }

    /// One process at a time fetches a dataset. The lock goes with the process that holds it.
    fn lock(&self, dir: &Path, spec: &DatasetSpec) -> Result<File> {
        let path = dir.join(".lock");
        let file = File::create(&path).map_err(|e| DataError::io("create", &path, e))?;
        // Where the file system knows no locks, two processes fetch the same files, each one atomically.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            (self.notify)(&format!("waiting for another process that fetches {}", spec.title));
            file.lock().map_err(|e| DataError::io("lock", &path, e))?;
        }
        Ok(file)
    }
}

/// The first that holds one of the files: the folder itself, its folder of the dataset's name, and its folder of the
/// published archive's. If none does, the second or else the first.
fn folder_in(root: &Path, spec: &DatasetSpec) -> PathBuf {
    let named = root.join(spec.name);
    let archive = if let Origin::Archive { folder, .. } = spec.origin { folder } else { spec.name };
    let mut folders = [root.to_owned(), named.clone(), root.join(archive)].into_iter();
    folders
        .find(|dir| files::holds_any(dir, spec))
        .unwrap_or_else(|| if named.is_dir() { named } else { root.to_owned() })
}

fn not_found(spec: &DatasetSpec, attempts: Vec<String>) -> DataError {
    let names: Vec<_> = spec.files().map(|file| file.name).collect();
    let package = spec.debian_package.map_or(String::new(), |package| {
        format!(
            "on Debian or Ubuntu run `apt-get update` as root and try again, or install the \
             package {package}; or "
        )
    });
    let origin = match spec.origin {
        Origin::Files(_) => String::new(),
        Origin::Archive { addresses, .. } => format!(" from {}", addresses.join(" or ")),
        Origin::ByHand(address) => format!(" from {address}"),
    };
    let advice = format!(
        "{package}put the files {}{origin} (plain or as .gz) in a folder, and name the folder with \
         --data or in $VITRINE_DATA.",
        names.join(", ")
    );
    DataError::NotFound { dataset: spec.title.to_owned(), attempts, advice }
}

/// The datasets whose files a folder holds. Several may have files of the same names.
pub(crate) fn found_in(root: &Path) -> Vec<DatasetName> {
    let here = |name: &DatasetName| files::holds_any(&folder_in(root, name.spec()), name.spec());
    DatasetName::ALL.into_iter().filter(here).collect()
}
