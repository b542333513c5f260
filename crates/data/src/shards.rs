//! Samples in tar files, as WebDataset writes them. How a picture is decoded is in [`crate::picture`].

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::env;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use flate2::read::MultiGzDecoder;

use crate::files::GZIP_MAGIC;
use crate::folder::PICTURES;
use crate::loader::lock;
use crate::picture::{Pictures, Place};
use crate::samples::Labels;
use crate::{DataError, Result};

/// A longer text is no label.
const MAX_LABEL: u64 = 4096;

/// A tar file.
#[derive(Debug)]
pub(crate) struct Shard {
    path: PathBuf,
    /// Its contents, where it is compressed.
    decompressed: Option<Mutex<File>>,
}

#[derive(Debug)]
pub(crate) struct Member {
    name: Vec<u8>,
    offset: u64,
    size: u64,
}

impl Pictures {
    /// Finds the pictures in tar files (shards), as WebDataset writes them, which are read where they lie.
    ///
    /// A sample is two members of a shard, `KEY.jpg` (or `jpeg`, `png`, `webp`, `bmp`, `gif`) and `KEY.cls`. The key is
    /// the path up to the first dot of its last part. Samples have the order of the shards, and in each that of the
    /// pictures. Pictures of more than `max_pixels` are refused when read.
    ///
    /// A label is a text, a number or a class's name. A number is an index into `class_names`. If none are given, and
    /// all labels are numbers, the classes are called "0", "1" and so on; if all are names, they are numbered in the
    /// order of their bytes.
    ///
    /// A `.tar.gz` is decompressed into `$TMPDIR`, where it stays until this is dropped.
    pub fn in_shards(
        paths: &[PathBuf],
        name: &str,
        class_names: Option<&[String]>,
        max_pixels: u64,
    ) -> Result<Self> {
        let mut found = Self { max_pixels, ..Self::default() };
        let mut members = Vec::new();
        let mut texts = Vec::new();
        for path in paths {
            let failed = |e| DataError::io("read", path, e);
            let mut file = File::open(path).map_err(failed)?;
            let mut start = Vec::new();
            (&file).take(2).read_to_end(&mut start).and_then(|_| file.rewind()).map_err(failed)?;
            let compressed = start == GZIP_MAGIC;
            if compressed {
                file = decompress(path, &file)?;
            }
            let (listed, labels, others) = list(path, &file)?;
            let decompressed = compressed.then(|| Mutex::new(file));
            let shard = Arc::new(Shard { path: path.clone(), decompressed });
            members.extend(listed.into_iter().map(|member| (shard.clone(), member)));
            texts.extend(labels);
            found.passed_over += others;
        }
        if texts.is_empty() {
            let reason = "its shards hold no pictures (KEY.jpg, KEY.png and so on)".to_owned();
            return Err(DataError::BadParts { dataset: name.to_owned(), reason });
        }
        let (class_names, labels) = classes(&texts, class_names).map_err(|(sample, fault)| {
            let (shard, member) = &members[sample];
            bad(&shard.path, &member.name, &format!("the label {:?} {fault}", texts[sample]))
        })?;
        found.labels = Labels { name: name.to_owned(), class_names, labels };
        found.places =
            members.into_iter().map(|(shard, member)| Place::Member(shard, member)).collect();
        Ok(found)
    }
}

/// The pictures of a shard, their labels, and how many members are neither. Seeks over all else.
fn list(path: &Path, file: &File) -> Result<(Vec<Member>, Vec<String>, usize)> {
    let failed = |e| DataError::io("read", path, e);
    let length = file.metadata().map_err(failed)?.len();
    let (mut pictures, mut labels, mut others) = (Vec::new(), HashMap::new(), 0);
    let (mut whole, mut end) = (b"its beginning".to_vec(), 0);
    let cut_off = |whole: &[u8], fault: &str| {
        let after = lossy(whole);
        DataError::file(path, format!("{fault}; the tar file is cut off or damaged after {after}"))
    };
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek().map_err(failed)? {
        let entry = entry.map_err(|e| cut_off(&whole, &e.to_string()))?;
        let (offset, size) = (entry.raw_file_position(), entry.size());
        let (name, kind) = (entry.path_bytes().into_owned(), entry.header().entry_type());
        if kind.is_gnu_sparse() {
            return Err(bad(path, &name, "is stored with holes, by tar's option --sparse"));
        }
        if offset.saturating_add(size) > length {
            let fault = format!("{} has {size} bytes, not all of them here", lossy(&name));
            return Err(cut_off(&whole, &fault));
        }
        (whole, end) = (name.clone(), offset + size.next_multiple_of(512));
        match key_and_ending(&name).filter(|_| kind.is_file()) {
            Some((_, ending)) if PICTURES.iter().any(|known| known.as_bytes() == ending) => {
                pictures.push(Member { name, offset, size });
            }
            Some((key, ending)) if ending == b"cls" => {
                let mut text = String::new();
                let read = entry.take(MAX_LABEL).read_to_string(&mut text);
                read.map_err(|e| bad(path, &name, &e.to_string()))?;
                let text = text.trim().to_owned();
                let fits = size <= MAX_LABEL && !text.is_empty();
                if !fits || labels.insert(key.to_owned(), text).is_some() {
                    let fault = "is an empty label, an overlong one, or a second one";
                    return Err(bad(path, &name, fault));
                }
            }
            _ => others += 1,
        }
    }
    // The loop ends at a block of zeros, as it should, or at the end of the file.
    if end + 512 > length {
        return Err(cut_off(&whole, "there are no zeros at the end"));
    }
    let mut texts = Vec::new();
    for Member { name, .. } in &pictures {
        let label = key_and_ending(name).and_then(|(key, _)| labels.remove(key));
        let fault = "has no label: its .cls is missing, or goes with another picture";
        texts.push(label.ok_or_else(|| bad(path, name, fault))?);
    }
    match labels.keys().min() {
        Some(key) => Err(bad(path, key, "has a label, and no picture")),
        None => Ok((pictures, texts, others)),
    }
}

impl Shard {
    /// The name and the contents of a member.
    pub(crate) fn load(&self, member: &Member) -> Result<(String, Vec<u8>)> {
        let read = |mut file: &File| {
            let mut bytes = vec![0; usize::try_from(member.size).map_err(io::Error::other)?];
            file.seek(SeekFrom::Start(member.offset))?;
            file.read_exact(&mut bytes).map(|()| bytes)
        };
        let bytes = match &self.decompressed {
            Some(file) => read(&lock(file)),
            // Opened each time, as there may be more shards than a process may have open files.
            None => File::open(&self.path).and_then(|file| read(&file)),
        };
        let name = format!("{}: {}", self.path.display(), lossy(&member.name));
        Ok((name, bytes.map_err(|e| DataError::io("read", &self.path, e))?))
    }
}

/// Whether a file's name is that of a shard.
pub(crate) fn is_shard(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    [".tar", ".tar.gz", ".tgz"].iter().any(|end| name.ends_with(end))
}

fn lossy(member: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(member)
}

fn bad(path: &Path, member: &[u8], fault: &str) -> DataError {
    DataError::file(path, format!("{} {fault}", lossy(member)))
}

/// Decompresses a shard into a temporary file without a name.
fn decompress(path: &Path, file: &File) -> Result<File> {
    let failed = |e| {
        let (folder, advice) = (env::temp_dir(), "name a folder with more room in $TMPDIR");
        let place = folder.display();
        DataError::file(path, format!("cannot be decompressed into {place}: {e}; {advice}"))
    };
    let damaged = |source| DataError::Gzip { path: path.to_owned(), source };
    let mut contents = tempfile::tempfile().map_err(failed)?;
    let (mut decoder, mut block) = (MultiGzDecoder::new(file), vec![0; 1 << 16]);
    loop {
        match decoder.read(&mut block).map_err(damaged)? {
            0 => return contents.rewind().map(|()| contents).map_err(failed),
            read => contents.write_all(&block[..read]).map_err(failed)?,
        }
    }
}

/// A member's key, and what follows it in small letters.
fn key_and_ending(path: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let start = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    let dot = start + path[start..].iter().position(|&byte| byte == b'.')?;
    (dot > start).then(|| (&path[..dot], path[dot + 1..].to_ascii_lowercase()))
}

type Classes = (Vec<String>, Vec<i64>);

/// The names of the classes and the class of each label, or which label is wrong and why.
fn classes(texts: &[String], given: Option<&[String]>) -> Result<Classes, (usize, String)> {
    let numbers: Vec<Option<usize>> = texts.iter().map(|text| text.parse().ok()).collect();
    let differs = |number: &Option<usize>| number.is_some() != numbers[0].is_some();
    let names: Vec<_> = match (given, numbers.iter().flatten().max()) {
        (Some(names), _) => names.to_vec(),
        (None, None) => BTreeSet::from_iter(texts).into_iter().cloned().collect(),
        (None, Some(&max)) => match numbers.iter().position(differs) {
            // A number that is far off must not make a list that fills the memory.
            None => (0..=max.min(1 << 20)).map(|number| number.to_string()).collect(),
            Some(sample) => {
                let fault = "and those before are not all numbers or all names; name the classes";
                return Err((sample, fault.to_owned()));
            }
        },
    };
    let known: HashMap<_, _> = names.iter().zip(0..).collect();
    let label = |(sample, text): (usize, &String)| {
        let class = numbers[sample].or_else(|| known.get(text).copied());
        let unknown = || (sample, format!("is none of the {} classes", names.len()));
        class.filter(|&class| class < names.len()).map(|class| class as i64).ok_or_else(unknown)
    };
    let labels = texts.iter().enumerate().map(label).collect::<Result<_, _>>()?;
    Ok((names, labels))
}
