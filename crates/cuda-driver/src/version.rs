//! CUDA versions: which kernels a driver can load, and how many devices it has.

use std::fmt;

use crate::api;
use crate::choice::{DriverError, DriverKind, driver, status};
use crate::codes::{CUDA_SUCCESS, last_unmapped_code};
use crate::types::CUresult;

/// A CUDA version as the driver counts it: 1000 × major + 10 × minor, 13000 for CUDA 13.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub i32);

impl Version {
    /// CUDA `major.minor`.
    pub const fn new(major: i32, minor: i32) -> Self {
        Self(1000 * major + 10 * minor)
    }

    /// 13 for CUDA 13.0.
    pub fn major(self) -> i32 {
        self.0 / 1000
    }

    /// 0 for CUDA 13.0.
    pub fn minor(self) -> i32 {
        self.0 % 1000 / 10
    }

    /// The driver to install for this version, in words.
    pub(crate) fn driver(self) -> String {
        // NVIDIA's table "CUDA Toolkit and Corresponding Driver Versions", the first column of
        // each major version.
        match (self.major(), self.minor()) {
            (11, 0) => ">= 450".to_owned(),
            (12, 0) => ">= 525".to_owned(),
            (13, 0) => ">= 580".to_owned(),
            _ => format!("for CUDA {self} or later"),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

/// The form in which kernels are given to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelForm {
    /// PTX, which the driver compiles: it must know the PTX version of the toolkit.
    Ptx,
    /// Machine code (cubin): a driver of the toolkit's major version, or of a later one, loads it.
    Native,
}

/// Checks that the driver in use can load kernels that the toolkit of this version has built.
///
/// ```
/// use vitrine_cuda_driver::{KernelForm, Version, require};
///
/// if let Err(reason) = require(KernelForm::Ptx, Version::new(13, 0)) {
///     println!("{reason}");
/// }
/// ```
///
/// # Errors
///
/// As for [`status`], and [`DriverError::TooOld`].
pub fn require(kernels: KernelForm, toolkit: Version) -> Result<DriverKind, DriverError> {
    let kind = status()?;
    let found = of_driver()?;
    let (needed, kernels) = match kernels {
        KernelForm::Ptx => (toolkit, "PTX"),
        KernelForm::Native => (Version::new(toolkit.major(), 0), "machine code"),
    };
    if found < needed {
        return Err(DriverError::TooOld { found, needed, kernels });
    }
    Ok(kind)
}

/// Initialises the driver and counts its devices.
///
/// # Errors
///
/// As for [`status`], and where `cuInit` fails: without a GPU, or with a driver in disorder.
pub fn devices() -> Result<usize, DriverError> {
    driver().map_err(Clone::clone)?;
    let mut count = 0;
    // SAFETY: cuInit takes a number, and it must be 0.
    checked("cuInit", unsafe { api::cuInit(0) })?;
    // SAFETY: `count` can be written.
    checked("cuDeviceGetCount", unsafe { api::cuDeviceGetCount(&mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// The newest CUDA version that the driver in use supports.
pub(crate) fn of_driver() -> Result<Version, DriverError> {
    let mut version = 0;
    // SAFETY: `version` can be written. The call needs no initialisation.
    checked("cuDriverGetVersion", unsafe { api::cuDriverGetVersion(&mut version) })?;
    Ok(Version(version))
}

fn checked(function: &'static str, code: CUresult) -> Result<(), DriverError> {
    if code == CUDA_SUCCESS {
        return Ok(());
    }
    Err(DriverError::Call { function, code: last_unmapped_code().unwrap_or(code) })
}
