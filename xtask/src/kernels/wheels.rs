//! The CUDA compiler from PyPI: NVIDIA's wheels, unpacked into a folder of this workspace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::compiler::Environment;
use crate::lacking::Lacking;
use crate::{files, process};

/// The wheels that make an nvcc: the driver and ptxas, cudafe++ and its headers, the optimizer
/// (cicc), the runtime's headers, and the C++ library's.
pub const PACKAGES: [&str; 5] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
];

/// The folder below `target/nvcc` that the wheels are unpacked into.
const FOLDER: &str = "13.0.88";
/// Which versions lie in the folder; written last of all.
const RECORD: &str = "packages.txt";

/// The nvcc that was fetched before, if it is of these versions.
pub fn fetched(wheels: &Path) -> Option<PathBuf> {
    let folder = wheels.join(FOLDER);
    let recorded = fs::read_to_string(folder.join(RECORD)).ok()?;
    let nvcc = nvcc_in(&folder);
    (recorded == record() && nvcc.is_file()).then_some(nvcc)
}

/// Fetches nvcc with pip, unless another process just did.
pub fn fetch(environment: &Environment) -> Result<PathBuf, Lacking> {
    let Environment { wheels, python, .. } = environment;
    check_pip(python)?;
    let failed = |what: String| {
        let needs = "fetching takes a network and 600 MB of disk, unless $NVCC names an nvcc";
        Lacking::new(format!("{what}; {needs}"), "cargo xtask kernels")
    };
    let in_files = |error: anyhow::Error| failed(format!("{error:#}"));
    let _lock = files::lock(wheels).map_err(in_files)?;
    if let Some(nvcc) = fetched(wheels) {
        return Ok(nvcc);
    }
    // What lies there is a fetch that was cut off, or other versions.
    let (folder, partial) = (wheels.join(FOLDER), wheels.join("partial"));
    for old in [&folder, &partial] {
        files::remove_folder(old).map_err(in_files)?;
    }

    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--no-deps", "--only-binary", ":all:", "--target"]);
    pip.arg(&partial).args(PACKAGES).stdin(Stdio::null());
    // What the task itself prints may be read by another program.
    pip.stdout(Stdio::from(std::io::stderr()));
    eprintln!("fetching nvcc from PyPI into {}: {}", wheels.display(), process::shown(&pip));
    match pip.status() {
        Ok(status) if status.success() => {}
        Ok(status) => {
            return Err(failed(format!("pip could not fetch nvcc from PyPI ({status})")));
        }
        Err(error) => return Err(failed(format!("cannot start {}: {error}", python.display()))),
    }
    if !nvcc_in(&partial).is_file() {
        return Err(failed("the wheels from PyPI hold no nvcc for this system".to_owned()));
    }
    files::write_whole(&partial.join(RECORD), record().as_bytes()).map_err(in_files)?;
    fs::rename(&partial, &folder)
        .map_err(|error| failed(format!("cannot make {}: {error}", folder.display())))?;
    Ok(nvcc_in(&folder))
}

/// Python and its pip, or the command that installs them.
pub fn check_pip(python: &Path) -> Result<(), Lacking> {
    let lacking = |what: &str, packages| {
        let what = format!("no nvcc here, and {what}, which would fetch it");
        Lacking::packages(what, packages)
    };
    let starts = |args: &[&str]| process::output_of(Command::new(python).args(args)).is_some();
    if !starts(&["--version"]) {
        return Err(lacking("no Python", "python3 python3-pip"));
    }
    if !starts(&["-m", "pip", "--version"]) {
        return Err(lacking("no pip", "python3-pip"));
    }
    Ok(())
}

fn nvcc_in(folder: &Path) -> PathBuf {
    folder.join("nvidia").join("cu13").join("bin").join("nvcc")
}

fn record() -> String {
    PACKAGES.map(|package| format!("{package}\n")).concat()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::files::{remove_folder, scratch};

    fn environment(wheels: &Path, python: &str) -> Environment {
        Environment {
            nvcc: None,
            cuda_home: None,
            path: vec![],
            wheels: wheels.to_path_buf(),
            python: process::root().join("xtask/tests/stand-ins/python").join(python),
            host_compiler: "true".into(),
        }
    }

    #[test]
    fn half_a_fetch_is_never_taken_for_a_whole_one() {
        let wheels = scratch("wheels-half");
        let environment = environment(&wheels, "python3");
        fs::write(wheels.join("offline"), "").unwrap();
        let lacking = fetch(&environment).unwrap_err().to_string();
        assert!(
            lacking.contains("pip could not fetch nvcc from PyPI (exit status: 1)"),
            "{lacking}"
        );
        assert!(lacking.ends_with("to mend it: cargo xtask kernels"), "{lacking}");
        assert!(wheels.join("partial").exists() && fetched(&wheels).is_none());

        fs::rename(wheels.join("offline"), wheels.join("empty")).unwrap();
        let lacking = fetch(&environment).unwrap_err().to_string();
        assert!(lacking.contains("hold no nvcc for this system"), "{lacking}");
        assert!(fetched(&wheels).is_none());

        fs::remove_file(wheels.join("empty")).unwrap();
        let nvcc = fetch(&environment).unwrap();
        assert_eq!(fetched(&wheels), Some(nvcc));
        // As for a process that waited while another one fetched.
        fetch(&environment).unwrap();
        let calls = fs::read_to_string(wheels.join("calls")).unwrap();
        assert_eq!(calls.lines().count(), 3, "one offline, one empty, one whole: {calls}");
        assert!(!wheels.join("partial").exists());
        remove_folder(&wheels).unwrap();
    }

    #[test]
    fn other_versions_are_replaced() {
        let wheels = scratch("wheels-versions");
        let environment = environment(&wheels, "python3");
        fetch(&environment).unwrap();
        let record = wheels.join(FOLDER).join(RECORD);
        assert_eq!(fs::read_to_string(&record).unwrap(), PACKAGES.join("\n") + "\n");
        fs::write(&record, "nvidia-cuda-nvcc==13.0.48\n").unwrap();
        assert_eq!(fetched(&wheels), None);
        fetch(&environment).unwrap();
        assert!(fetched(&wheels).is_some());
        let calls = fs::read_to_string(wheels.join("calls")).unwrap();
        assert_eq!(calls.lines().count(), 2, "fetched twice: {calls}");
        remove_folder(&wheels).unwrap();
    }

    #[test]
    fn a_missing_python_or_pip_is_named_with_its_package() {
        let wheels = scratch("wheels-python");
        for (python, packages) in
            [("without-pip", "python3-pip"), ("absent", "python3 python3-pip")]
        {
            let lacking = fetch(&environment(&wheels, python)).unwrap_err().to_string();
            let mend = format!("to mend it: sudo apt-get install {packages}");
            assert!(lacking.ends_with(&mend), "{lacking}");
        }
        remove_folder(&wheels).unwrap();
    }
}
