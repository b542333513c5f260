//! A loaded PTX text: kernels ready to run.

use crate::decode;
use crate::error::LoadError;
use crate::instruction::Instruction;
use crate::lanes::Simd;
use crate::registers::SlotCounts;
use crate::syntax::{self, KernelParameter, Location};
use crate::types::Kind;

/// A loaded PTX text.
#[derive(Debug)]
pub struct PtxProgram {
    pub(crate) text: String,
    pub(crate) kernels: Vec<PtxKernel>,
    files: Vec<(u32, String)>,
    /// The vector instructions that the kernels were decoded for.
    pub(crate) simd: Simd,
}

impl PtxProgram {
    /// Parses and decodes a PTX text.
    ///
    /// # Errors
    ///
    /// Names the line of the first thing that is ill formed or not known to the emulator.
    pub fn load(ptx: &str) -> Result<PtxProgram, LoadError> {
        PtxProgram::load_for(ptx, Simd::best())
    }

    /// Loads for a given set of vector instructions, which the machine must have.
    pub(crate) fn load_for(ptx: &str, simd: Simd) -> Result<PtxProgram, LoadError> {
        let module = syntax::parse(ptx)?;
        let kernels = decode::kernels(&module, simd)?;
        let files = module.files.into_iter().collect();
        Ok(PtxProgram { text: ptx.to_owned(), kernels, files, simd })
    }

    /// The kernel of that name.
    pub fn kernel(&self, name: &str) -> Option<&PtxKernel> {
        self.kernels.iter().find(|kernel| kernel.name == name)
    }

    /// The name of a source file of `.loc`.
    pub(crate) fn file(&self, number: u32) -> Option<&str> {
        let found = self.files.iter().find(|(known, _)| *known == number);
        found.map(|(_, name)| name.as_str())
    }
}

/// One kernel, decoded.
#[derive(Debug)]
pub struct PtxKernel {
    pub(crate) name: String,
    pub(crate) parameters: Vec<KernelParameter>,
    pub(crate) max_threads: Option<u32>,
    /// Bytes of shared variables.
    pub(crate) shared_bytes: u32,
    /// Whether it copies by `cp.async`.
    pub(crate) copies: bool,
    pub(crate) code: Vec<Instruction>,
    /// Where each instruction of `code` comes from.
    pub(crate) sites: Vec<Site>,
    pub(crate) slots: SlotCounts,
    pub(crate) constants: Vec<(u64, Kind, u32)>,
    pub(crate) specials: Vec<(Special, u32)>,
    /// Shared memory is checked for races in pieces of that many bytes.
    pub(crate) shared_grain: u32,
    /// Global memory is checked for races in pieces of that many bytes.
    pub(crate) global_grain: u32,
    /// Names of shared variables with offset and size.
    pub(crate) shared_variables: Vec<(String, u32, u64)>,
}

impl PtxKernel {
    /// Its name in the PTX text.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its parameters, in order.
    pub fn parameters(&self) -> &[KernelParameter] {
        &self.parameters
    }

    /// Bytes that its parameters take, which a launch must give.
    pub fn param_bytes(&self) -> u32 {
        self.parameters.last().map_or(0, |last| last.offset + last.bytes)
    }

    /// Bytes of shared memory that it takes.
    pub fn shared_bytes(&self) -> u32 {
        self.shared_bytes
    }

    /// The most threads that a block may have, from `.maxntid`.
    pub fn max_threads(&self) -> Option<u32> {
        self.max_threads
    }
}

/// Where an instruction comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    /// Line in the PTX text.
    pub line: u32,
    /// First and last byte of its text.
    pub range: (usize, usize),
    pub location: Option<Location>,
}

/// A special register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Thread(u8),
    Threads(u8),
    Block(u8),
    Blocks(u8),
}
