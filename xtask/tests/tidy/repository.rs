//! Reads the repository for the rules: manifests, source files, files in git.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where source files live.
const SOURCE_FOLDERS: [&str; 4] = ["benches", "crates", "docs", "xtask"];
/// What counts as a source file.
const SOURCE_EXTENSIONS: [&str; 5] = ["cu", "cuh", "py", "rs", "sh"];
/// The largest file in git.
const MAX_BYTES: u64 = 1 << 20;

/// A text file, with its path from the repository's root.
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    /// A file to try a rule on.
    pub fn sample(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}

/// A folder with a workspace in it.
pub struct Repository {
    root: PathBuf,
}

impl Repository {
    /// The repository that this test was built in.
    pub fn here() -> Self {
        let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self { root: xtask.parent().expect("xtask lies in the root").to_path_buf() }
    }

    /// The text of a file, or `None` if there is no such file.
    pub fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    pub fn root_manifest(&self) -> File {
        self.file(self.root.join("Cargo.toml"))
    }

    /// The manifests of the workspace's members. Those that open a workspace of their own are none.
    pub fn member_manifests(&self) -> Vec<File> {
        let mut paths = Vec::new();
        for folder in SOURCE_FOLDERS {
            files_below(&self.root.join(folder), &mut paths);
        }
        paths.retain(|path| path.ends_with("Cargo.toml"));
        let manifests = paths.into_iter().map(|path| self.file(path));
        let manifests: Vec<_> = manifests.filter(|file| !opens_a_workspace(&file.text)).collect();
        assert!(manifests.len() > 2, "the workspace has more members than {}", manifests.len());
        manifests
    }

    /// All source files, sorted by path.
    pub fn sources(&self) -> Vec<File> {
        let mut paths = Vec::new();
        for folder in SOURCE_FOLDERS {
            files_below(&self.root.join(folder), &mut paths);
        }
        paths.retain(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            extension.is_some_and(|extension| SOURCE_EXTENSIONS.contains(&extension))
        });
        let sources: Vec<_> = paths.into_iter().map(|path| self.file(path)).collect();
        assert!(sources.len() > 10, "the workspace has more sources than {}", sources.len());
        sources
    }

    /// Path and size of each file in git, and of those that a commit would add. `None` without git.
    pub fn files_in_git(&self) -> Option<Vec<(String, u64)>> {
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let output = Command::new("git").args(list).current_dir(&self.root).output().ok()?;
        if !output.status.success() {
            return None;
        }
        let paths = String::from_utf8_lossy(&output.stdout).into_owned();
        let paths = paths.split_terminator('\0');
        let sizes = paths.filter_map(|path| {
            // A file that was deleted and not yet committed has no size.
            let metadata = fs::symlink_metadata(self.root.join(path)).ok()?;
            Some((path.to_owned(), metadata.len()))
        });
        Some(sizes.collect())
    }

    fn file(&self, path: PathBuf) -> File {
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        let path = path.strip_prefix(&self.root).expect("the path starts at the root");
        File { path: path.to_string_lossy().replace('\\', "/"), text }
    }
}

/// Whether a manifest has a `[workspace]` table.
fn opens_a_workspace(manifest: &str) -> bool {
    manifest.lines().any(|line| line.trim_end() == "[workspace]")
}

/// All files below `folder` in a fixed order, without hidden folders and build output.
fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() {
            found.push(path);
        } else if !name.starts_with('.') && name != "target" {
            files_below(&path, found);
        }
    }
}

/// No file in git is as large as 1 MiB: data and weights are fetched, not committed.
pub fn check_sizes(files: &[(String, u64)]) -> Vec<String> {
    let large = files.iter().filter(|(_, bytes)| *bytes >= MAX_BYTES);
    large.map(|(path, bytes)| format!("{path}: {bytes} bytes; {MAX_BYTES} are too many")).collect()
}

#[test]
fn a_large_file_is_found() {
    let files = [("small".to_owned(), MAX_BYTES - 1), ("large".to_owned(), MAX_BYTES)];
    let findings = check_sizes(&files);
    assert_eq!(findings.len(), 1);
    assert!(findings[0].starts_with("large: 1048576 bytes"));
}

#[test]
fn a_member_that_inherits_opens_no_workspace() {
    assert!(opens_a_workspace("# A peer.\n\n[workspace]\n"));
    assert!(!opens_a_workspace("[package]\nversion.workspace = true\n[lints]\nworkspace = true\n"));
}
