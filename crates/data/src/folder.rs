//! Pictures in folders, one for each class. Which folder holds which part of a dataset is in [`crate::source`].

use std::fs;
use std::path::{Path, PathBuf};

use crate::DataError;
use crate::samples::{Image, Samples};

/// The pictures in a folder's class folders, each read when it is asked for.
///
/// Classes come in the order of their bytes, as torchvision sorts them. A class folder may hold folders itself. Files
/// whose names begin with a dot, and those of other kinds, are passed over.
#[derive(Debug)]
pub struct Folder {
    name: String,
    class_names: Vec<String>,
    /// Paths and labels.
    files: Vec<(PathBuf, i64)>,
    max_pixels: u64,
    passed_over: usize,
}

impl Folder {
    /// Finds the pictures in a folder. Its class folders are the classes; where these are given, it may have no others,
    /// and lack some. A picture of more than `max_pixels` will be refused before it is decoded.
    pub fn open(
        folder: &Path,
        name: &str,
        classes: Option<&[String]>,
        max_pixels: u64,
    ) -> Result<Self, DataError> {
        let bad = |reason| DataError::BadFolder { path: folder.to_owned(), reason };
        let mut found = Self {
            name: name.to_owned(),
            class_names: Vec::new(),
            files: Vec::new(),
            max_pixels,
            passed_over: 0,
        };
        let inner = found.list(folder, None)?;
        let own = inner.iter().map(|path| {
            let name = path.file_name().unwrap_or_default();
            let reason =
                || format!("the class folder {name:?} has a name that is not UTF-8; rename it");
            name.to_str().map(str::to_owned).ok_or_else(|| bad(reason()))
        });
        let own: Vec<String> = own.collect::<Result<_, _>>()?;
        let names = classes.unwrap_or(&own);
        for (path, class) in inner.iter().zip(&own) {
            let Some(label) = names.iter().position(|name| name == class) else {
                let known = names.join(", ");
                return Err(bad(format!(
                    "it has the class {class:?}, which the training part lacks ({known})"
                )));
            };
            let before = found.files.len();
            found.walk(path, label as i64)?;
            if found.files.len() == before {
                return Err(bad(format!(
                    "the class folder {class:?} holds no picture ({})",
                    PICTURES.join(", ")
                )));
            }
        }
        found.class_names = names.to_vec();
        if found.files.is_empty() {
            return Err(bad("it has no class folders with pictures".to_owned()));
        }
        Ok(found)
    }

    /// The pictures in a folder and in those within it.
    fn walk(&mut self, folder: &Path, label: i64) -> Result<(), DataError> {
        self.list(folder, Some(label))?.iter().try_for_each(|inner| self.walk(inner, label))
    }

    /// The folders in a folder. Its pictures get the label; without one, and of another kind, files are passed over.
    fn list(&mut self, folder: &Path, label: Option<i64>) -> Result<Vec<PathBuf>, DataError> {
        let mut inner = Vec::new();
        for path in entries(folder)? {
            let leads = || Some((path.canonicalize().ok()?, folder.canonicalize().ok()?));
            if path.is_symlink() && leads().is_some_and(|(to, from)| from.starts_with(to)) {
                let reason = format!("the link {} leads back to a folder above it", path.display());
                return Err(DataError::BadFolder { path: folder.to_owned(), reason });
            }
            if path.is_dir() {
                inner.push(path);
            } else if let (true, Some(label)) = (is_picture(&path), label) {
                self.files.push((path, label));
            } else {
                self.passed_over += 1;
            }
        }
        Ok(inner)
    }

    /// How many files were no pictures, or belong to no class.
    pub fn passed_over(&self) -> usize {
        self.passed_over
    }

    fn load(&self, index: usize) -> Result<(String, Vec<u8>), DataError> {
        let path = &self.files[index].0;
        let bytes = fs::read(path).map_err(|e| DataError::io("read", path, e))?;
        Ok((path.display().to_string(), bytes))
    }
}

impl Samples for Folder {
    fn name(&self) -> &str {
        &self.name
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }

    fn len(&self) -> usize {
        self.files.len()
    }

    fn label(&self, index: usize) -> i64 {
        self.files[index].1
    }

    fn read(&self, index: usize, image: &mut Image) -> Result<(), DataError> {
        let (name, bytes) = self.load(index)?;
        image.decode(&name, &bytes, self.max_pixels)
    }

    fn file(&self, index: usize) -> Result<Option<(String, Vec<u8>)>, DataError> {
        self.load(index).map(Some)
    }
}

/// The ends of names that pictures have, in any case.
pub(crate) const PICTURES: [&str; 6] = ["jpg", "jpeg", "png", "webp", "bmp", "gif"];

/// Whether a file's name is that of a picture.
pub(crate) fn is_picture(path: &Path) -> bool {
    let end = path.extension().unwrap_or_default();
    PICTURES.iter().any(|known| end.eq_ignore_ascii_case(known))
}

/// What is in a folder, in the order of bytes. What begins with a dot is nothing.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let failed = |source| DataError::io("read the folder", folder, source);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default();
        if !name.as_encoded_bytes().starts_with(b".") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
