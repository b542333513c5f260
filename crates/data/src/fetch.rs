//! Fetching a dataset into a folder: from Debian's package, or from the publisher's address. Nothing here needs root.
//! Whatever arrives is checked in a temporary folder before any of it reaches its place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::files;
use crate::folder::entries;
use crate::spec::{DatasetSpec, Origin};

/// A way to fetch a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchMethod {
    /// Debian's package, downloaded with `apt-get` and unpacked with `dpkg-deb` into a temporary folder.
    Apt,
    /// The addresses of the dataset's publisher.
    Https,
}

impl FetchMethod {
    /// Fetches the files into `target`, or says for each attempt why it failed.
    pub(crate) fn fetch(
        self,
        spec: &DatasetSpec,
        target: &Path,
        notify: &dyn Fn(&str),
    ) -> Result<(), Vec<String>> {
        let (kind, places) = match self {
            Self::Apt => ("Debian package ", spec.debian_package.as_slice()),
            Self::Https => ("", spec.origin.addresses()),
        };
        let mut failed = Vec::new();
        for place in places {
            notify(&format!("fetching {} from {kind}{place}", spec.title));
            let get = |staging: &Path| match self {
                Self::Apt => from_package(place, spec, staging),
                Self::Https => from_address(place, spec, staging),
            };
            match staged(spec, target, get) {
                Ok(()) => return Ok(()),
                Err(reason) => failed.push(format!("{kind}{place}: {reason}")),
            }
        }
        Err(failed)
    }
}

/// Runs `get`, which puts the files somewhere in a temporary folder and says where; checks them; copies them.
fn staged(
    spec: &DatasetSpec,
    target: &Path,
    get: impl Fn(&Path) -> Result<PathBuf, String>,
) -> Result<(), String> {
    let staging = tempfile::tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
    let fetched = get(staging.path())?;
    files::verify(&fetched, spec).map_err(|e| format!("what arrived is not usable: {e}"))?;
    files::install(&fetched, spec, target).map_err(|e| e.to_string())
}

/// Downloads and unpacks a Debian package. If the machine has no package lists yet, fresh ones are fetched into the
/// temporary folder, because the system's own need root.
fn from_package(package: &str, spec: &DatasetSpec, staging: &Path) -> Result<PathBuf, String> {
    let [lists, cache] = ["lists", "cache"].map(|name| staging.join(name));
    for dir in [lists.join("partial"), cache.join("archives/partial")] {
        fs::create_dir_all(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
    }
    let private_lists = [
        format!("-oDir::State::lists={}", lists.display()),
        format!("-oDir::Cache={}", cache.display()),
    ];
    if let Err(first) = run(apt_get(staging).args(["download", package])) {
        let again = run(apt_get(staging).args(&private_lists).arg("update"))
            .and_then(|()| run(apt_get(staging).args(&private_lists).args(["download", package])));
        again.map_err(|second| {
            if first == second { second } else { format!("{first}; with fresh lists: {second}") }
        })?;
    }
    let deb = entries(staging)
        .map_err(|e| e.to_string())?
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or("apt-get downloaded nothing")?;
    let unpacked = staging.join("unpacked");
    run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&unpacked))?;
    Ok(unpacked.join("usr/share/datasets").join(spec.name))
}

fn apt_get(dir: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command.current_dir(dir).args([
        "-q",
        "-oAcquire::Retries=1",
        "-oAcquire::http::Timeout=20",
        "-oAcquire::https::Timeout=20",
    ]);
    command
}

/// Runs a program to its end. An error carries the program's own last words.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.env("LC_ALL", "C").stdin(Stdio::null()).output().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => format!("there is no program {name} on this machine"),
            _ => format!("cannot run {name}: {e}"),
        })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().rev().find(|line| line.starts_with("E:") || line.contains("error"));
    let words = last.unwrap_or("it gave no reason").trim();
    Err(format!("{name} failed with {}: {words}", output.status))
}

/// Downloads from one address: each file, or the archive, which is unpacked.
fn from_address(address: &str, spec: &DatasetSpec, staging: &Path) -> Result<PathBuf, String> {
    let samples = spec.train.samples + spec.test.samples;
    // More than any file or archive has. The data of a sample are its pixels, and a label of some bytes.
    let largest = samples * (spec.image_shape.iter().product::<usize>() + 16) + (1 << 20);
    // Fifteen minutes, and more where 100 kB a second take longer.
    let time = Duration::from_secs(900.max(largest as u64 / 100_000));
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_global(Some(time))
        .build()
        .into();
    let download = |url: &str| {
        let answer = agent.get(url).call();
        answer.and_then(|mut answer| {
            answer.body_mut().with_config().limit(largest as u64).read_to_vec()
        })
    };
    if let Origin::Archive { md5, folder, .. } = spec.origin {
        let bytes = download(address).map_err(|e| e.to_string())?;
        files::check_sum(Path::new(address), "archive", &bytes, md5).map_err(|e| e.to_string())?;
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
        archive.unpack(staging).map_err(|e| format!("cannot unpack the archive: {e}"))?;
        return Ok(staging.join(folder));
    }
    for file in spec.files() {
        let name = format!("{}.gz", file.name);
        let bytes = download(&format!("{address}/{name}")).map_err(|e| format!("{name}: {e}"))?;
        let path = staging.join(name);
        fs::write(&path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    Ok(staging.to_owned())
}
