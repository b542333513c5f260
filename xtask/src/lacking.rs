//! What is not here, and how to mend that.

use std::{error, fmt};

/// Something that is not here, and the one command that mends it.
#[derive(Debug)]
pub struct Lacking {
    pub what: String,
    pub mend: String,
}

/// How a command begins that installs Debian packages.
pub const APT: &str = "sudo apt-get install ";

impl Lacking {
    pub fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mend: mend.into() }
    }

    /// Something that comes with Debian packages.
    pub fn packages(what: impl Into<String>, packages: &str) -> Self {
        Self::new(what, format!("{APT}{packages}"))
    }
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; to mend it: {}", self.what, self.mend)
    }
}

impl error::Error for Lacking {}
