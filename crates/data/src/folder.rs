//! Pictures in folders, one for each class. Which folder holds which part of a dataset is in [`crate::source`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::picture::{Pictures, Place};
use crate::{DataError, Result};

impl Pictures {
    /// Finds the pictures in a folder's class folders. These are the classes, in the order of their bytes, as
    /// torchvision sorts them; where `classes` are given, it may have no others, and lack some.
    ///
    /// A class folder may hold folders itself. Files whose names begin with a dot are nothing, and those of other kinds
    /// are passed over. A picture of more than `max_pixels` will be refused before it is decoded.
    pub fn in_folder(
        folder: &Path,
        name: &str,
        classes: Option<&[String]>,
        max_pixels: u64,
    ) -> Result<Self> {
        let bad = |reason: String| DataError::folder(folder, reason);
        let mut found = Self { max_pixels, ..Self::default() };
        let inner = found.list(folder, None)?;
        let own = inner.iter().map(|path| {
            let name = path.file_name().unwrap_or_default();
            let fault = "has a name that is not UTF-8; rename it";
            let bad = || bad(format!("the class folder {name:?} {fault}"));
            name.to_str().map(str::to_owned).ok_or_else(bad)
        });
        let own: Vec<String> = own.collect::<Result<_, _>>()?;
        let names = classes.unwrap_or(&own);
        let (known, ends) = (names.join(", "), PICTURES.join(", "));
        for (path, class) in inner.iter().zip(&own) {
            let Some(label) = names.iter().position(|name| name == class) else {
                let fault = format!("which the training part lacks ({known})");
                return Err(bad(format!("it has the class {class:?}, {fault}")));
            };
            let before = found.places.len();
            found.walk(path, label as i64)?;
            if found.places.len() == before {
                return Err(bad(format!("the class folder {class:?} holds no picture ({ends})")));
            }
        }
        if found.places.is_empty() {
            return Err(bad("it has no class folders with pictures".to_owned()));
        }
        found.labels.name = name.to_owned();
        found.labels.class_names = names.to_vec();
        Ok(found)
    }

    /// The pictures in a folder and in those within it.
    fn walk(&mut self, folder: &Path, label: i64) -> Result<()> {
        self.list(folder, Some(label))?.iter().try_for_each(|inner| self.walk(inner, label))
    }

    /// The folders in a folder. Its pictures get the label; without one, and of another kind, files are passed over.
    fn list(&mut self, folder: &Path, label: Option<i64>) -> Result<Vec<PathBuf>> {
        let mut inner = Vec::new();
        for path in entries(folder)? {
            let leads = || Some((path.canonicalize().ok()?, folder.canonicalize().ok()?));
            if path.is_symlink() && leads().is_some_and(|(to, from)| from.starts_with(to)) {
                let reason = format!("the link {} leads back to a folder above it", path.display());
                return Err(DataError::folder(folder, reason));
            }
            if path.is_dir() {
                inner.push(path);
            } else if let (true, Some(label)) = (is_picture(&path), label) {
                self.places.push(Place::File(path));
                self.labels.labels.push(label);
            } else {
                self.passed_over += 1;
            }
        }
        Ok(inner)
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
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => DataError::MissingFolder { dir: folder.to_owned() },
        io::ErrorKind::NotADirectory => {
            DataError::folder(folder, "it is a file; name the folder that holds the pictures")
        }
        _ => DataError::io("read the folder", folder, source),
    };
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
