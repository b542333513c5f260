//! The kernels' sources, and the hashes by which outputs know what they were made from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// All `.cu` and `.cuh` files of one folder, sorted by name.
pub struct Sources {
    pub folder: PathBuf,
    files: Vec<Source>,
}

struct Source {
    name: String,
    content: Vec<u8>,
}

impl Sources {
    /// Reads the folder, not those below it. A folder without a `.cu` file is an error.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let entries = fs::read_dir(folder);
        let entries = entries.with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
            let is_source = path.extension().is_some_and(|it| it == "cu" || it == "cuh");
            if !is_source || !path.is_file() {
                continue;
            }
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.with_context(|| format!("{} is not UTF-8", path.display()))?.to_owned();
            let content = fs::read(&path);
            let content = content.with_context(|| format!("cannot read {}", path.display()))?;
            files.push(Source { name, content });
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let folder = folder.to_path_buf();
        let sources = Self { folder, files };
        let is_empty = sources.modules().next().is_none();
        ensure!(!is_empty, "{} holds no .cu file to compile", sources.folder.display());
        Ok(sources)
    }

    /// The names of the `.cu` files, without the extension.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter_map(|file| file.name.strip_suffix(".cu"))
    }

    /// The hash of all files. `vitrine-cuda` computes the same one from the sources that it was
    /// built with, and refuses outputs of others: each file's name, a zero, its content, a zero.
    pub fn hash(&self) -> u64 {
        let mut hash = Fnv::default();
        self.files.iter().for_each(|file| file.add_to(&mut hash));
        hash.0
    }

    /// The hash of what one module's outputs depend on: its file, all headers, where they lie
    /// (line information names the files), and `how` it is compiled.
    pub fn inputs_hash(&self, module: &str, how: &str) -> u64 {
        let mut hash = Fnv::default();
        hash.add(how.as_bytes());
        hash.add(&[0]);
        hash.add(self.folder.as_os_str().as_encoded_bytes());
        hash.add(&[0]);
        for file in &self.files {
            if file.name.ends_with(".cuh") || file.name.strip_suffix(".cu") == Some(module) {
                file.add_to(&mut hash);
            }
        }
        hash.0
    }
}

impl Source {
    fn add_to(&self, hash: &mut Fnv) {
        for bytes in [self.name.as_bytes(), &[0], &self.content, &[0]] {
            hash.add(bytes);
        }
    }
}

/// A hash as it is written down.
pub fn hexadecimal(hash: u64) -> String {
    format!("{hash:016x}")
}

/// The hash FNV-1a of 64 bits (Fowler, Noll and Vo; RFC 9923).
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{remove_folder, scratch};

    fn fnv(bytes: &[u8]) -> u64 {
        let mut hash = Fnv::default();
        hash.add(bytes);
        hash.0
    }

    fn sources(files: &[(&str, &str)]) -> Sources {
        let source = |&(name, content): &(&str, &str)| Source {
            name: name.to_owned(),
            content: content.as_bytes().to_vec(),
        };
        Sources { folder: "/k".into(), files: files.iter().map(source).collect() }
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // From the test vectors that the authors publish with their code.
        assert_eq!(fnv(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn sources_have_a_known_hash() {
        // The same case, with the same answer, belongs in the tests of vitrine-cuda.
        let hash = sources(&[("a.cu", "x"), ("b.cuh", "y")]).hash();
        assert_eq!(hash, fnv(b"a.cu\0x\0b.cuh\0y\0"));
        assert_eq!(hexadecimal(hash), "a85588d63d7a0d63");
    }

    #[test]
    fn only_sources_are_read_and_in_order() {
        let folder = scratch("kernel-sources");
        for (name, content) in [("b.cuh", "y"), ("a.cu", "x"), ("notes.md", "z"), ("cu", "z")] {
            fs::write(folder.join(name), content).unwrap();
        }
        fs::create_dir_all(folder.join("below.cu")).unwrap();
        let read = Sources::read(&folder).unwrap();
        assert_eq!(read.modules().collect::<Vec<_>>(), ["a"]);
        assert_eq!(hexadecimal(read.hash()), "a85588d63d7a0d63");

        fs::remove_file(folder.join("a.cu")).unwrap();
        let error = Sources::read(&folder).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("holds no .cu file"), "{error}");
        remove_folder(&folder).unwrap();
        let error = Sources::read(&folder).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("cannot read"), "{error}");
    }

    #[test]
    fn a_module_depends_on_its_file_the_headers_and_the_compiler() {
        let base = sources(&[("a.cu", "1"), ("b.cu", "2"), ("h.cuh", "3")]);
        let hash = base.inputs_hash("a", "13.0.88");
        let other = sources(&[("a.cu", "1"), ("b.cu", "changed"), ("h.cuh", "3")]);
        assert_eq!(other.inputs_hash("a", "13.0.88"), hash);
        assert_ne!(other.inputs_hash("b", "13.0.88"), base.inputs_hash("b", "13.0.88"));

        let header = sources(&[("a.cu", "1"), ("b.cu", "2"), ("h.cuh", "changed")]);
        assert_ne!(header.inputs_hash("a", "13.0.88"), hash);
        assert_ne!(base.inputs_hash("a", "13.1"), hash);
        let moved = Sources { folder: "/elsewhere".into(), files: base.files };
        assert_ne!(moved.inputs_hash("a", "13.0.88"), hash);
    }
}
