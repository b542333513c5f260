//! The CUDA compiler: where it is looked for, and which one is taken. Fetching it is in `wheels`.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::wheels;
use crate::lacking::Lacking;
use crate::process;

/// The release that the kernels are compiled with. It emits PTX 9.0, which drivers from 580 on
/// take; a newer compiler emits newer PTX, which they refuse.
pub const RELEASE: &str = "13.0";

/// The processors that get code of their own, by compute capability times ten. Others compile the
/// PTX when it is loaded.
const TARGETS: [u32; 6] = [80, 86, 89, 90, 100, 120];

/// Where a compiler may come from.
pub struct Environment {
    /// `$NVCC`, a program.
    pub nvcc: Option<PathBuf>,
    /// `$CUDA_HOME`, a folder.
    pub cuda_home: Option<PathBuf>,
    /// The folders of `$PATH`.
    pub path: Vec<PathBuf>,
    /// The folder for what comes from PyPI.
    pub wheels: PathBuf,
    /// The Python whose pip fetches it.
    pub python: PathBuf,
    /// The C++ compiler that nvcc starts.
    pub host_compiler: PathBuf,
}

impl Environment {
    /// What this process was started with.
    pub fn of_this_process() -> Self {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        let path = variable("PATH").unwrap_or_default();
        Self {
            nvcc: variable("NVCC").map(PathBuf::from),
            cuda_home: variable("CUDA_HOME").map(PathBuf::from),
            path: env::split_paths(&path).collect(),
            wheels: process::target().join("nvcc"),
            python: "python3".into(),
            // The variable is nvcc's own.
            host_compiler: variable("NVCC_CCBIN").map_or("g++".into(), PathBuf::from),
        }
    }

    /// Looks for a compiler without fetching one.
    pub fn search(&self) -> Result<Search, Lacking> {
        let mut passed_over = Vec::new();
        if let Some(nvcc) = &self.nvcc {
            let compiler = Compiler::at(self.resolved(nvcc), "$NVCC")
                .map_err(|what| Lacking::new(format!("{what} ($NVCC)"), "unset NVCC"))?;
            if !compiler.is_tried() {
                passed_over.push(format!(
                    "{compiler} is used because $NVCC says so; the kernels are tried with \
                     {RELEASE}, and newer compilers emit PTX that drivers in use refuse"
                ));
            }
            return Ok(Search { compiler: Some(compiler), notes: passed_over });
        }
        for (nvcc, origin) in self.candidates() {
            match Compiler::at(nvcc, origin) {
                Ok(compiler) if compiler.is_tried() => {
                    return Ok(Search { compiler: Some(compiler), notes: passed_over });
                }
                Ok(compiler) => passed_over.push(format!(
                    "{compiler} is refused: it has to be {RELEASE}, as newer compilers emit PTX \
                     that drivers in use refuse; NVCC={} takes it all the same",
                    compiler.nvcc.display()
                )),
                Err(what) => passed_over.push(what),
            }
        }
        Ok(Search { compiler: None, notes: passed_over })
    }

    /// Finds a compiler, or fetches one, and makes sure that it can work here.
    pub fn provide(&self) -> Result<Compiler, Lacking> {
        if !self.has_host_compiler() {
            let name = self.host_compiler.display();
            let what = format!("nvcc needs a C++ compiler: no `{name}`");
            return Err(Lacking::packages(what, "g++"));
        }
        let search = self.search()?;
        for note in &search.notes {
            eprintln!("{note}");
        }
        if let Some(compiler) = search.compiler {
            return Ok(compiler);
        }
        let mend = format!("NVCC=/path/to/cuda-{RELEASE}/bin/nvcc cargo xtask kernels");
        Compiler::at(wheels::fetch(self)?, "PyPI").map_err(|what| Lacking::new(what, mend))
    }

    /// Whether the C++ compiler starts.
    pub fn has_host_compiler(&self) -> bool {
        process::output_of(Command::new(&self.host_compiler).arg("--version")).is_some()
    }

    /// The program with its folder, if a bare name has one in `$PATH`.
    fn resolved(&self, program: &Path) -> PathBuf {
        let mut in_path = self.path.iter().map(|folder| folder.join(program));
        let found = in_path.find(|it| it.is_file() && program.components().count() == 1);
        found.unwrap_or_else(|| program.to_path_buf())
    }

    /// Programs called nvcc that are there, in the order of preference.
    fn candidates(&self) -> impl Iterator<Item = (PathBuf, &'static str)> {
        let name = format!("nvcc{}", env::consts::EXE_SUFFIX);
        let home = self.cuda_home.iter().map(|home| (home.join("bin"), "$CUDA_HOME"));
        let path = self.path.iter().map(|folder| (folder.clone(), "$PATH"));
        let programs = home.chain(path).map(move |(folder, origin)| (folder.join(&name), origin));
        let programs = programs.filter(|(program, _)| program.is_file());
        programs.chain(wheels::fetched(&self.wheels).map(|nvcc| (nvcc, "PyPI")))
    }
}

/// What a search found.
pub struct Search {
    pub compiler: Option<Compiler>,
    /// What a person should know: compilers that were passed over, and why.
    pub notes: Vec<String>,
}

/// A CUDA compiler that starts.
#[derive(Debug)]
pub struct Compiler {
    pub nvcc: PathBuf,
    pub ptxas: PathBuf,
    /// Such as "13.0.88".
    pub version: String,
    /// All that it says of itself, down to the build: a part of what its output depends on.
    pub identity: String,
    /// Where it was found, in words.
    pub origin: &'static str,
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nvcc {} ({}, from {})", self.version, self.nvcc.display(), self.origin)
    }
}

impl Compiler {
    /// The compiler at this path; if it does not work, why.
    fn at(nvcc: PathBuf, origin: &'static str) -> Result<Self, String> {
        let identity = process::output_of(Command::new(&nvcc).arg("--version"));
        let Some(identity) = identity else {
            return Err(format!("{} does not start", nvcc.display()));
        };
        let Some(version) = version(&identity).map(str::to_owned) else {
            return Err(format!("{} does not tell its version as nvcc does", nvcc.display()));
        };
        let Some(ptxas) = neighbour(&nvcc, "ptxas") else {
            return Err(format!("{} has no ptxas beside it", nvcc.display()));
        };
        Ok(Self { nvcc, ptxas, version, identity, origin })
    }

    /// Whether it is of the release that the kernels are tried with.
    fn is_tried(&self) -> bool {
        self.version.strip_prefix(RELEASE).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Our targets, parted into those that this compiler knows and those that it does not.
    pub fn targets(&self) -> Result<(Vec<u32>, Vec<u32>)> {
        let listed = process::output_of(Command::new(&self.nvcc).arg("--list-gpu-code"));
        let listed = listed.with_context(|| format!("{self} does not list its targets"))?;
        let known = known_targets(&listed);
        let parted: (Vec<u32>, _) = TARGETS.iter().partition(|target| known.contains(target));
        ensure!(!parted.0.is_empty(), "{self} knows none of the targets sm_{TARGETS:?}");
        Ok(parted)
    }
}

/// A program of the same toolkit: beside `nvcc`, or beside what that links to.
fn neighbour(nvcc: &Path, name: &str) -> Option<PathBuf> {
    let name = format!("{name}{}", env::consts::EXE_SUFFIX);
    let beside = |path: &Path| Some(path.parent()?.join(&name)).filter(|it| it.is_file());
    beside(nvcc).or_else(|| beside(&nvcc.canonicalize().ok()?))
}

/// The version in the output of `nvcc --version`: "…, release 13.0, V13.0.88".
fn version(printed: &str) -> Option<&str> {
    let line = printed.lines().find(|line| line.contains("Cuda compilation tools, release "))?;
    let version = line.rsplit_once(", V")?.1.trim();
    let digits = version.split('.').all(|part| !part.is_empty() && part.parse::<u32>().is_ok());
    digits.then_some(version)
}

/// The numbers in the output of `nvcc --list-gpu-code`: "sm_80", one a line.
fn known_targets(printed: &str) -> Vec<u32> {
    let words = printed.split_whitespace();
    words.filter_map(|word| word.strip_prefix("sm_")?.parse().ok()).collect()
}

/// The compiler that stands in for nvcc 13.0 in tests.
#[cfg(all(test, unix))]
pub fn stand_in() -> Compiler {
    Compiler::at(stand_ins().join("cuda-13.0/bin/nvcc"), "a test").unwrap()
}

#[cfg(all(test, unix))]
fn stand_ins() -> PathBuf {
    process::root().join("xtask/tests/stand-ins")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::files::{remove_folder, scratch};

    const PRINTED: &str = "nvcc: NVIDIA (R) Cuda compiler driver\n\
        Copyright (c) 2005-2025 NVIDIA Corporation\n\
        Built on Wed_Aug_20_01:58:59_PM_PDT_2025\n\
        Cuda compilation tools, release 13.0, V13.0.88\n\
        Build cuda_13.0.r13.0/compiler.36424714_0\n";

    /// A machine without any compiler, whose wheels go to `wheels`.
    fn bare(wheels: &Path) -> Environment {
        Environment {
            nvcc: None,
            cuda_home: None,
            path: vec![],
            wheels: wheels.to_path_buf(),
            python: stand_ins().join("python/python3"),
            host_compiler: "true".into(),
        }
    }

    fn found(environment: &Environment) -> Option<(&'static str, String)> {
        let compiler = environment.search().unwrap().compiler?;
        Some((compiler.origin, compiler.version))
    }

    #[test]
    fn the_version_is_read() {
        assert_eq!(version(PRINTED), Some("13.0.88"));
        let older = "Cuda compilation tools, release 11.8, V11.8.89";
        assert_eq!(version(older), Some("11.8.89"));
        for text in ["", "gcc 12.2.0", "Cuda compilation tools, release 13.0", "release 1, V1"] {
            assert_eq!(version(text), None, "{text}");
        }
        assert_eq!(version("Cuda compilation tools, release 13.0, V13.x"), None);
    }

    #[test]
    fn a_release_is_no_mere_prefix() {
        let is_tried =
            |version: &str| Compiler { version: version.to_owned(), ..stand_in() }.is_tried();
        assert!(is_tried("13.0.88") && is_tried("13.0.48"));
        assert!(!is_tried("13.01.1") && !is_tried("13.1.80") && !is_tried("113.0.1"));
    }

    #[test]
    fn targets_are_read() {
        assert_eq!(known_targets("sm_75\nsm_80\nsm_90a\nsm_120\n"), [75, 80, 120]);
        let (known, left_out) = stand_in().targets().unwrap();
        assert_eq!((known, left_out), (vec![80, 90, 100], vec![86, 89, 120]));
    }

    #[test]
    fn places_have_an_order() {
        let wheels = scratch("compiler-order");
        let good = stand_ins().join("cuda-13.0");
        let mut environment = bare(&wheels);
        assert_eq!(found(&environment), None);
        wheels::fetch(&environment).unwrap();
        let version = "13.0.88".to_owned();
        assert_eq!(found(&environment), Some(("PyPI", version.clone())));
        environment.path = vec!["/nowhere".into(), good.join("bin")];
        assert_eq!(found(&environment), Some(("$PATH", version.clone())));
        environment.cuda_home = Some(good.clone());
        assert_eq!(found(&environment), Some(("$CUDA_HOME", version.clone())));
        environment.nvcc = Some(good.join("bin/nvcc"));
        assert_eq!(found(&environment), Some(("$NVCC", version.clone())));
        environment.nvcc = Some("nvcc".into());
        assert_eq!(found(&environment), Some(("$NVCC", version)));
        remove_folder(&wheels).unwrap();
    }

    #[test]
    fn another_release_is_refused_unless_it_was_asked_for() {
        let other = stand_ins().join("cuda-12.4");
        let wheels = scratch("compiler-release");
        let environment = Environment { cuda_home: Some(other.clone()), ..bare(&wheels) };
        let search = environment.search().unwrap();
        assert!(search.compiler.is_none());
        let note = search.notes.join("\n");
        assert!(note.contains("nvcc 12.4.131") && note.contains("is refused"), "{note}");
        assert!(note.contains(&format!("NVCC={}", other.join("bin/nvcc").display())), "{note}");

        let environment = Environment { nvcc: Some(other.join("bin/nvcc")), ..bare(&wheels) };
        let search = environment.search().unwrap();
        assert_eq!(search.compiler.unwrap().version, "12.4.131");
        assert!(search.notes[0].contains("is used because $NVCC says so"), "{:?}", search.notes);
        remove_folder(&wheels).unwrap();
    }

    #[test]
    fn what_nvcc_names_has_to_work() {
        let wheels = scratch("compiler-broken");
        for (nvcc, words) in [
            ("/nowhere/nvcc", "/nowhere/nvcc does not start ($NVCC)"),
            ("/bin/true", "/bin/true does not tell its version"),
        ] {
            let environment = Environment { nvcc: Some(nvcc.into()), ..bare(&wheels) };
            let lacking = environment.provide().unwrap_err().to_string();
            assert!(lacking.starts_with(words), "{lacking}");
            assert!(lacking.ends_with("to mend it: unset NVCC"), "{lacking}");
        }
        // A toolkit in $CUDA_HOME that does not work is passed over, not used, and not hidden.
        write_broken_toolkit(&wheels);
        let environment = Environment { cuda_home: Some(wheels.join("toolkit")), ..bare(&wheels) };
        let search = environment.search().unwrap();
        assert!(search.compiler.is_none());
        assert!(search.notes[0].ends_with("does not start"), "{:?}", search.notes);
        remove_folder(&wheels).unwrap();
    }

    /// A toolkit whose nvcc is no program.
    fn write_broken_toolkit(folder: &Path) {
        std::fs::create_dir_all(folder.join("toolkit/bin")).unwrap();
        std::fs::write(folder.join("toolkit/bin/nvcc"), "no program").unwrap();
    }

    #[test]
    fn a_missing_host_compiler_is_told_before_anything_is_fetched() {
        let wheels = scratch("compiler-host");
        let environment = Environment { host_compiler: "no-such-program".into(), ..bare(&wheels) };
        let lacking = environment.provide().unwrap_err().to_string();
        assert!(lacking.contains("no `no-such-program`"), "{lacking}");
        assert!(lacking.ends_with("to mend it: sudo apt-get install g++"), "{lacking}");
        assert!(!wheels.join("calls").exists());
        remove_folder(&wheels).unwrap();
    }

    #[test]
    fn what_is_lacking_is_fetched_once() {
        let wheels = scratch("compiler-fetched");
        let environment = bare(&wheels);
        for _ in 0..2 {
            let compiler = environment.provide().unwrap();
            assert_eq!((compiler.origin, compiler.version.as_str()), ("PyPI", "13.0.88"));
        }
        let calls = std::fs::read_to_string(wheels.join("calls")).unwrap();
        assert_eq!(calls, format!("{}\n", wheels::PACKAGES.join(" ")));
        remove_folder(&wheels).unwrap();
    }
}
