//! Where pictures come from: a dataset that Vitrine knows, or a folder of one's own with class folders or tar shards;
//! and which part of it is for training, for choosing, and for the last judgement.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cache::{CacheSpace, Cached};
use crate::catalog::DatasetName;
use crate::folder::{entries, is_picture};
use crate::locate::{self, Locator};
use crate::picture::Pictures;
use crate::samples::Samples;
use crate::shards::is_shard;
use crate::spec::Split;
use crate::{DataError, Result};

/// Where pictures come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A dataset that Vitrine knows.
    Known(DatasetName),
    /// Class folders with pictures.
    Folder,
    /// Tar files with pictures and labels.
    Shards,
}

/// A dataset's parts.
pub struct Parts {
    /// What a model is trained on.
    pub train: Arc<dyn Samples>,
    /// What choices are made by, where the dataset has such a part.
    pub val: Option<Arc<dyn Samples>>,
    /// What a finished model is judged on, where the dataset has such a part.
    pub test: Option<Arc<dyn Samples>>,
    /// Files that are no pictures.
    pub passed_over: usize,
}

/// The names of the parts, each with those that others give it.
const PARTS: [&[&str]; 3] = [&["train"], &["val", "valid", "validation"], &["test"]];

impl Source {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let known = DatasetName::ALL.into_iter().map(Self::Known);
        known.chain([Self::Folder, Self::Shards]).collect()
    }

    /// The one of this name: a dataset's, `folder` or `shards`.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|source| source.name() == name)
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Known(name) => name.spec().name,
            Self::Folder => "folder",
            Self::Shards => "shards",
        }
    }

    /// Looks what a folder holds. `None` if it could be several datasets, whose files have the same names.
    pub fn detect(folder: &Path) -> Result<Option<Self>> {
        match locate::found_in(folder).as_slice() {
            [] => {}
            [name] => return Ok(Some(Self::Known(*name))),
            _ => return Ok(None),
        }
        let inner = entries(folder)?;
        for path in inner.iter().filter(|path| path.is_dir()) {
            if holds_picture(path)? {
                return Ok(Some(Self::Folder));
            }
        }
        if Self::Shards.parts(folder)?.iter().any(|part| !part.is_empty()) {
            return Ok(Some(Self::Shards));
        }
        let reason = match inner.iter().any(|path| is_picture(path)) {
            true => {
                "its pictures lie beside each other; put those of each class into a folder of the class's name"
            }
            false => {
                "it has no pictures in class folders (DIR/cat/1.jpg, or DIR/train/cat/1.jpg beside DIR/val), no tar \
                 shards, and not the files of a dataset that is known"
            }
        };
        Err(DataError::folder(folder, reason))
    }

    /// Opens all parts. A dataset of one's own lies in the folder that the locator was told; pictures of more than
    /// `max_pixels` are refused when they are read, and others are kept while there is space.
    pub fn open(self, locator: &Locator, max_pixels: u64, space: &CacheSpace) -> Result<Parts> {
        if let Self::Known(name) = self {
            let load = |split| Ok(Arc::new(locator.load(name.spec(), split)?) as Arc<dyn Samples>);
            let (train, test) = (load(Split::Train)?, Some(load(Split::Test)?));
            return Ok(Parts { train, val: None, test, passed_over: 0 });
        }
        let Some(folder) = &locator.explicit else {
            let name = self.name();
            let reason =
                format!("data.dataset = {name:?} is a folder of yours; name it with --data");
            return Err(DataError::BadSetting { setting: "data.dir", reason });
        };
        let title = fs::canonicalize(folder).unwrap_or_else(|_| folder.clone());
        let title = title.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let [train, val, test] = self.parts(folder)?;
        let mut passed_over = 0;
        let mut open = |places: &[PathBuf], classes: Option<&[String]>| {
            let pictures = match (self, places) {
                (Self::Folder, [folder, ..]) => {
                    Pictures::in_folder(folder, &title, classes, max_pixels)?
                }
                _ => Pictures::in_shards(places, &title, classes, max_pixels)?,
            };
            passed_over += pictures.passed_over;
            Ok(Arc::new(Cached::new(pictures, space.clone())) as Arc<dyn Samples>)
        };
        let train = open(&train, None)?;
        let names = train.class_names();
        if names.len() < 2 {
            let few = format!("here are {}: {names:?}", names.len());
            let reason = format!("a classifier tells two classes or more apart, and {few}");
            return Err(DataError::folder(folder, reason));
        }
        let mut other = |places: Vec<PathBuf>| match places.is_empty() {
            true => Ok(None),
            false => open(&places, Some(names)).map(Some),
        };
        let (val, test) = (other(val)?, other(test)?);
        Ok(Parts { train, val, test, passed_over })
    }

    /// The folders, or the shards, of each part. Without a part for training, all is for training.
    fn parts(self, folder: &Path) -> Result<[Vec<PathBuf>; 3]> {
        let bad = |reason: String| DataError::folder(folder, reason);
        let inner = entries(folder)?;
        let folders = inner.iter().filter(|path| path.is_dir());
        let mut parts =
            PARTS.map(|names| folders.clone().filter(|path| says(path, names)).cloned().collect());
        let [train, val, test]: [&Vec<PathBuf>; 3] = parts.each_ref();
        // A folder of that name alone among others is a class.
        let split = !train.is_empty() && (folders.count() == 1 || val.len() + test.len() > 0);
        if let (true, [first, second, ..]) = (split, val.as_slice()) {
            let both = format!("it has {} and {}", first.display(), second.display());
            return Err(bad(format!("{both}; keep one")));
        }
        if split && self == Self::Shards {
            // A part has one folder at the most.
            for part in &mut parts {
                if let [folder] = part.as_slice() {
                    *part = shards_in(folder)?;
                }
            }
        } else if !split && self == Self::Shards {
            // Side by side, they may say in their names of what part they are: `train-00001.tar`.
            let shards = shards_in(folder)?;
            let tell = shards.iter().any(|path| says(path, PARTS[0]));
            parts = Default::default();
            for path in shards {
                let part = PARTS.iter().position(|names| !tell || says(&path, names));
                let shard = path.display();
                let reason =
                    format!("the shard {shard} does not say in its name of which part it is");
                parts[part.ok_or_else(|| bad(reason))?].push(path);
            }
        } else if !split {
            parts = [vec![folder.to_owned()], Vec::new(), Vec::new()];
        }
        Ok(parts)
    }
}

fn shards_in(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|path| is_shard(path)).collect())
}

/// Whether a folder is called one of these names, or a shard has one among the words of its name.
fn says(path: &Path, names: &[&str]) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut words = name.split(|c: char| is_shard(path) && !c.is_ascii_alphabetic());
    words.any(|word| names.contains(&word))
}

/// Whether there is a picture in a folder, or in those within it.
fn holds_picture(folder: &Path) -> Result<bool> {
    for path in entries(folder)? {
        if is_picture(&path) || (path.is_dir() && holds_picture(&path)?) {
            return Ok(true);
        }
    }
    Ok(false)
}
