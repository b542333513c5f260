//! Which driver this process uses: decided once, at the first call, and what is wrong in words.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::OnceLock;

use thiserror::Error;

use crate::codes::describe;
use crate::system::System;
use crate::types::CUresult;
use crate::version::Version;

/// The environment variable that chooses the driver.
pub const VARIABLE: &str = "VITRINE_CUDA_DRIVER";

/// The name of the system's driver library, which the dynamic linker finds.
const SYSTEM_LIBRARY: &str = "libcuda.so.1";

/// A driver to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The system's driver, `libcuda.so.1`.
    System,
    /// The driver library at this path.
    Library(PathBuf),
    /// The emulated device, in programs built with the feature `emulator`.
    Emulated,
}

impl Choice {
    /// The choice made by the environment variable [`VARIABLE`]: `system`, unset or empty for the
    /// system's driver, `emulated`, or the path of a driver library.
    pub fn from_environment() -> Self {
        match std::env::var_os(VARIABLE) {
            None => Self::System,
            Some(value) if value.is_empty() || value == OsStr::new("system") => Self::System,
            Some(value) if value == OsStr::new("emulated") => Self::Emulated,
            Some(value) => Self::Library(value.into()),
        }
    }
}

/// The driver in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// A driver library.
    System {
        /// The name or path it was opened by.
        path: PathBuf,
        /// The newest CUDA version it supports.
        version: Version,
    },
    /// The emulated device.
    Emulated,
}

/// Why there is no driver, or why the one that is there will not do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DriverError {
    /// The library could not be opened.
    #[error(
        "no CUDA driver: {} could not be opened ({reason}); install the NVIDIA driver >= 580, \
         or train with --device cpu", path.display()
    )]
    NotOpened {
        /// What was to be opened.
        path: PathBuf,
        /// What the dynamic linker said.
        reason: String,
    },
    /// The library has no `cuInit` or no `cuDriverGetVersion`.
    #[error(
        "{} is not a CUDA driver: it lacks cuInit or cuDriverGetVersion; {VARIABLE} takes the \
         path of a libcuda.so.1, or `emulated`", path.display()
    )]
    NoDriverLibrary {
        /// What was opened.
        path: PathBuf,
    },
    /// The emulated device was asked for, and this program does not have it.
    #[error(
        "{VARIABLE}=emulated, but this program was built without the emulated device: build it \
         with the feature `emulator`, or unset the variable"
    )]
    NoEmulator,
    /// A setting of the emulated device cannot be read.
    #[error("{variable}={value} is not understood: {expected}")]
    Setting {
        /// The environment variable.
        variable: &'static str,
        /// What it is set to.
        value: String,
        /// What it may be set to.
        expected: &'static str,
    },
    /// A driver was chosen after another one had come into use.
    #[error("this process uses the CUDA driver {used:?} already, and cannot change to {asked:?}")]
    AlreadyChosen {
        /// The driver in use.
        used: Choice,
        /// The one asked for.
        asked: Choice,
    },
    /// A call that finds out about the driver or its devices failed.
    #[error("{function} failed with {}{}", describe(*code), hint(*code))]
    Call {
        /// The function.
        function: &'static str,
        /// Its result.
        code: CUresult,
    },
    /// The driver supports an older CUDA version only.
    #[error(
        "the CUDA driver supports CUDA {found}, and these kernels ({kernels}) need CUDA {needed}: \
         install the NVIDIA driver {}, or train with --device cpu", needed.driver()
    )]
    TooOld {
        /// What the driver supports.
        found: Version,
        /// What is needed.
        needed: Version,
        /// The form of the kernels, in words.
        kernels: &'static str,
    },
}

/// What to look at after a failed call, for the codes that have one usual cause.
fn hint(code: CUresult) -> &'static str {
    use crate::codes::*;
    match code {
        CUDA_ERROR_STUB_LIBRARY => {
            "; this is the CUDA toolkit's stub for linking, not a driver: take its folder out of \
             LD_LIBRARY_PATH"
        }
        CUDA_ERROR_NO_DEVICE => {
            "; the driver sees no NVIDIA GPU: look at nvidia-smi and CUDA_VISIBLE_DEVICES"
        }
        CUDA_ERROR_SYSTEM_NOT_READY => "; is the NVIDIA fabric manager running?",
        CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "; the kernel module and libcuda are of different versions: restart the machine after \
             an update of the driver"
        }
        CUDA_ERROR_UNKNOWN => {
            "; look at nvidia-smi: often the kernel module is not loaded, or /dev/nvidia* may not \
             be opened"
        }
        _ => "",
    }
}

/// The driver in use, with what a call needs.
pub(crate) enum Driver {
    System(Box<System>),
    #[cfg(feature = "emulator")]
    Emulated,
}

struct Decision {
    choice: Choice,
    driver: Result<Driver, DriverError>,
}

static DECISION: OnceLock<Decision> = OnceLock::new();

/// The driver in use; the first call decides.
pub(crate) fn driver() -> Result<&'static Driver, &'static DriverError> {
    DECISION.get_or_init(|| decide(Choice::from_environment())).driver.as_ref()
}

/// Decides for a driver in code, in place of the environment variable.
///
/// # Errors
///
/// Where a driver is in use already that was chosen otherwise, and as for [`status`].
pub fn choose(choice: Choice) -> Result<DriverKind, DriverError> {
    let decision = DECISION.get_or_init(|| decide(choice.clone()));
    if decision.choice != choice {
        return Err(DriverError::AlreadyChosen { used: decision.choice.clone(), asked: choice });
    }
    status()
}

fn decide(choice: Choice) -> Decision {
    let library = |path| System::open(path).map(|system| Driver::System(Box::new(system)));
    let driver = match &choice {
        Choice::System => library(SYSTEM_LIBRARY.as_ref()),
        Choice::Library(path) => library(path),
        #[cfg(feature = "emulator")]
        Choice::Emulated => crate::emulator::start().map(|()| Driver::Emulated),
        #[cfg(not(feature = "emulator"))]
        Choice::Emulated => Err(DriverError::NoEmulator),
    };
    Decision { choice, driver }
}

/// The driver in use. Decides for one if no call was made yet; needs no GPU and starts nothing.
///
/// # Errors
///
/// No driver could be opened, or it does not tell its version.
pub fn status() -> Result<DriverKind, DriverError> {
    match driver() {
        Ok(Driver::System(system)) => {
            let version = crate::version::of_driver()?;
            Ok(DriverKind::System { path: system.path.clone(), version })
        }
        #[cfg(feature = "emulator")]
        Ok(Driver::Emulated) => Ok(DriverKind::Emulated),
        Err(error) => Err(error.clone()),
    }
}
