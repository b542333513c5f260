//! Why PTX text could not be loaded, and why memory could not be had.

use std::error::Error;
use std::fmt;

/// PTX that the emulator does not know or that is ill formed. Nothing of it is loaded then: an
/// instruction is never guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    line: u32,
    column: u32,
    what: String,
}

impl LoadError {
    pub(crate) fn new(line: u32, column: u32, what: impl Into<String>) -> LoadError {
        LoadError { line, column, what: what.into() }
    }

    /// The line in the PTX text, counted from 1.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The column in bytes, counted from 1.
    pub fn column(&self) -> u32 {
        self.column
    }

    /// What is unknown or wrong there.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PTX line {}, column {}: {}", self.line, self.column, self.what)
    }
}

impl Error for LoadError {}

/// The emulated device has too little memory left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// Bytes asked for.
    pub requested: u64,
    /// Bytes that are free.
    pub free: u64,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OutOfMemory { requested, free } = self;
        write!(f, "{requested} bytes of device memory were asked for, and {free} are free")
    }
}

impl Error for OutOfMemory {}
