//! A loaded PTX text: kernels ready to run, and the variables that they use.

use crate::decode;
use crate::error::{LoadError, OutOfMemory};
use crate::instruction::Instruction;
use crate::lanes::Simd;
use crate::memory::DeviceMemory;
use crate::registers::SlotCounts;
use crate::syntax::{self, KernelParameter, Location};
use crate::types::Kind;

/// A loaded PTX text.
#[derive(Debug)]
pub struct PtxProgram {
    pub(crate) text: String,
    pub(crate) kernels: Vec<PtxKernel>,
    pub(crate) globals: Vec<Global>,
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
        let globals = module.variables.iter().map(|variable| Global {
            name: variable.name.clone(),
            bytes: variable.bytes,
            alignment: variable.alignment,
            initial: variable.initial.clone(),
            address: None,
        });
        let globals = globals.collect();
        let files = module.files.into_iter().collect();
        Ok(PtxProgram { text: ptx.to_owned(), kernels, globals, files, simd })
    }

    /// All kernels, in the order of the text.
    pub fn kernels(&self) -> impl Iterator<Item = &PtxKernel> {
        self.kernels.iter()
    }

    /// The kernel of that name.
    pub fn kernel(&self, name: &str) -> Option<&PtxKernel> {
        self.kernels.iter().find(|kernel| kernel.name == name)
    }

    /// The variables in global and constant memory.
    pub fn globals(&self) -> &[Global] {
        &self.globals
    }

    /// Tells the program where a variable of [`PtxProgram::globals`] lies. Its bytes are the caller's
    /// to write. False if there is no variable of that name.
    pub fn place_global(&mut self, name: &str, address: u64) -> bool {
        let global = self.globals.iter_mut().find(|global| global.name == name);
        match global {
            Some(global) => {
                global.address = Some(address);
                true
            }
            None => false,
        }
    }

    /// Allocates all variables of [`PtxProgram::globals`] and writes their initial values.
    ///
    /// # Errors
    ///
    /// If the memory does not suffice; some variables may be placed then.
    pub fn place_globals(&mut self, memory: &mut DeviceMemory) -> Result<(), OutOfMemory> {
        for global in &mut self.globals {
            let address = memory.alloc(global.bytes)?;
            let mut bytes = global.initial.clone();
            bytes.resize(global.bytes as usize, 0);
            memory.write(address, &bytes).expect("just allocated");
            global.address = Some(address);
        }
        Ok(())
    }

    /// The name of a source file of `.loc`.
    pub(crate) fn file(&self, number: u32) -> Option<&str> {
        let found = self.files.iter().find(|(known, _)| *known == number);
        found.map(|(_, name)| name.as_str())
    }
}

/// A variable of the module in `.global` or `.const` memory.
#[derive(Clone, Debug)]
pub struct Global {
    name: String,
    bytes: u64,
    alignment: u32,
    initial: Vec<u8>,
    address: Option<u64>,
}

impl Global {
    /// Its name in the PTX text.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.bytes
    }

    /// Alignment in bytes.
    pub fn alignment(&self) -> u32 {
        self.alignment
    }

    /// Its first bytes at the start; those that follow are zero.
    pub fn initial(&self) -> &[u8] {
        &self.initial
    }

    /// Where it was placed.
    pub fn address(&self) -> Option<u64> {
        self.address
    }
}

/// One kernel, decoded.
#[derive(Debug)]
pub struct PtxKernel {
    pub(crate) name: String,
    pub(crate) parameters: Vec<KernelParameter>,
    pub(crate) max_threads: Option<u32>,
    /// Bytes of shared variables of known size.
    pub(crate) shared_bytes: u32,
    /// Whether it copies by `cp.async`.
    pub(crate) copies: bool,
    pub(crate) local_bytes: u32,
    pub(crate) code: Vec<Instruction>,
    /// Where each instruction of `code` comes from.
    pub(crate) sites: Vec<Site>,
    pub(crate) slots: SlotCounts,
    pub(crate) constants: Vec<(Constant, Kind, u32)>,
    pub(crate) specials: Vec<(Special, Kind, u32)>,
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

    /// Bytes of shared memory that it takes before any that the launch adds.
    pub fn shared_bytes(&self) -> u32 {
        self.shared_bytes
    }

    /// Bytes of local memory a thread.
    pub fn local_bytes(&self) -> u32 {
        self.local_bytes
    }

    /// The most threads that a block may have, from `.maxntid`.
    pub fn max_threads(&self) -> Option<u32> {
        self.max_threads
    }

    /// 32-bit registers that the PTX names, a 64-bit one counted twice. A device's compiler needs
    /// fewer.
    pub fn registers(&self) -> u32 {
        self.slots.narrow + 2 * self.slots.wide
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
    /// Whether it is the first of the instructions that its statement became.
    pub first: bool,
    /// Floating-point operations: of one lane, or for `mma` of one warp divided by 32.
    pub operations: u32,
    /// What it moves in memory: one lane's bytes.
    pub traffic: Option<LaneTraffic>,
}

/// Bytes that an instruction moves for one lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneTraffic {
    pub space: crate::types::Space,
    pub loaded: u32,
    pub stored: u32,
}

/// The value of a slot that never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Constant {
    Bits(u64),
    /// The address of a variable of the module, and what is added to it.
    Global(u32, i64),
}

/// A special register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Special {
    Thread(u8),
    Threads(u8),
    Block(u8),
    Blocks(u8),
    Lane,
    Warp,
    Warps,
    LaneMaskEqual,
    LaneMaskLess,
    LaneMaskLessEqual,
    LaneMaskGreater,
    LaneMaskGreaterEqual,
    DynamicShared,
    TotalShared,
    /// `%smid` and other numbers that are zero here.
    Zero,
    /// `%nsmid`.
    One,
}
