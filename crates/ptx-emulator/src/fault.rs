//! What went wrong in a launch, where, and how to say it.

use std::error::Error;
use std::fmt;

use crate::memory::Nearest;
use crate::types::Space;

/// Why a launch was stopped. Nothing that it did to memory before is undone.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    detail: Box<Detail>,
}

#[derive(Clone, Debug, PartialEq)]
struct Detail {
    kernel: String,
    kind: FaultKind,
    site: Option<FaultSite>,
}

/// The instruction and the thread that a [`Fault`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultSite {
    /// The block's index.
    pub block: [u32; 3],
    /// The thread's index in its block.
    pub thread: [u32; 3],
    /// The line of the PTX text.
    pub line: u32,
    /// The instruction's text.
    pub instruction: String,
    /// File and line of the CUDA source, where the PTX says them (`-lineinfo`).
    pub source: Option<(String, u32)>,
    /// File and line that the source's function was inlined at.
    pub inlined_at: Option<(String, u32)>,
}

/// Another access that one conflicts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The block of the thread that made it.
    pub block: [u32; 3],
    /// The thread, where it is known: of many readers only their block or warp is.
    pub thread: Option<[u32; 3]>,
    /// The line of the PTX text.
    pub line: u32,
    /// Line of the CUDA source.
    pub source: Option<(String, u32)>,
    /// What it did.
    pub access: Access,
}

/// What was done to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A load.
    Load,
    /// A store.
    Store,
    /// A copy by `cp.async`.
    Copy,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Load => "load",
            Access::Store => "store",
            Access::Copy => "asynchronous copy",
        })
    }
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The launch itself is wrong: no such kernel, a wrong size.
    Launch(String),
    /// An access outside of an allocation, or of the space's size.
    OutOfBounds {
        /// What was done.
        access: Access,
        /// Where.
        space: Space,
        /// The address in the space.
        address: u64,
        /// Bytes of the access.
        bytes: u32,
        /// The nearest allocation in global memory.
        nearest: Option<Nearest>,
        /// Bytes that the space has, for spaces other than global.
        size: u64,
    },
    /// An address that is no multiple of the access's size.
    Misaligned {
        /// What was done.
        access: Access,
        /// Where.
        space: Space,
        /// The address in the space.
        address: u64,
        /// Bytes of the access, which the address must be a multiple of.
        bytes: u32,
    },
    /// A read of memory that nobody wrote.
    Uninitialised {
        /// What was done.
        access: Access,
        /// Where.
        space: Space,
        /// The address in the space.
        address: u64,
        /// Bytes of the access.
        bytes: u32,
        /// The first byte of the access that was never written.
        first: u32,
        /// The allocation in global memory.
        nearest: Option<Nearest>,
    },
    /// A read or write of shared memory that a copy by `cp.async` is on its way to.
    CopyPending {
        /// What was done.
        access: Access,
        /// The address in shared memory.
        address: u64,
        /// Bytes of the access.
        bytes: u32,
    },
    /// Two threads of a block access shared memory, at least one writes, and nothing orders them.
    SharedRace {
        /// What was done.
        access: Access,
        /// The address in shared memory.
        address: u64,
        /// Bytes of the access.
        bytes: u32,
        /// The shared variable, with the offset in it.
        variable: Option<(String, u64)>,
        /// The other access.
        other: Box<Conflict>,
    },
    /// Two blocks access global memory, at least one writes, and nothing orders them.
    GlobalRace {
        /// What was done.
        access: Access,
        /// The address.
        address: u64,
        /// Bytes of the access.
        bytes: u32,
        /// The allocation.
        nearest: Option<Nearest>,
        /// The other access.
        other: Box<Conflict>,
    },
    /// Threads that must meet at one barrier wait at different ones.
    BarrierDivergence(String),
    /// Threads wait for others that will never come.
    Deadlock(String),
    /// A member mask without the thread itself, or `.aligned` with some lanes only.
    InvalidMask(String),
    /// An operand that has no meaning there: more bytes than a `cp.async` copies.
    InvalidOperand(String),
    /// A block ran more instructions than the launch allows.
    Runaway {
        /// The limit.
        instructions: u64,
    },
}

impl Fault {
    pub(crate) fn new(kernel: &str, kind: FaultKind, site: Option<FaultSite>) -> Fault {
        Fault { detail: Box::new(Detail { kernel: kernel.to_owned(), kind, site }) }
    }

    pub(crate) fn launch(kernel: &str, what: impl Into<String>) -> Fault {
        Fault::new(kernel, FaultKind::Launch(what.into()), None)
    }

    /// The kernel's name.
    pub fn kernel(&self) -> &str {
        &self.detail.kernel
    }

    /// What went wrong.
    pub fn kind(&self) -> &FaultKind {
        &self.detail.kind
    }

    /// Where, if a thread did it.
    pub fn site(&self) -> Option<&FaultSite> {
        self.detail.site.as_ref()
    }
}

fn triple([x, y, z]: [u32; 3]) -> String {
    format!("({x}, {y}, {z})")
}

fn source(place: &Option<(String, u32)>) -> String {
    match place {
        Some((file, line)) => {
            let name = file.rsplit('/').next().unwrap_or(file);
            format!("{name}:{line}")
        }
        None => String::new(),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel `{}`: {}", self.kernel(), self.kind())?;
        let Some(site) = self.site() else { return Ok(()) };
        let (block, thread) = (triple(site.block), triple(site.thread));
        write!(f, "; block {block}, thread {thread}, PTX line {}", site.line)?;
        if site.source.is_some() {
            write!(f, ", {}", source(&site.source))?;
        }
        if site.inlined_at.is_some() {
            write!(f, " inlined at {}", source(&site.inlined_at))?;
        }
        write!(f, ": `{}`", site.instruction)
    }
}

impl Error for Fault {}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by block {}", self.access, triple(self.block))?;
        match self.thread {
            Some(thread) => write!(f, ", thread {}", triple(thread))?,
            None => f.write_str(", one of several threads")?,
        }
        write!(f, ", at PTX line {}", self.line)?;
        if self.source.is_some() {
            write!(f, ", {}", source(&self.source))?;
        }
        Ok(())
    }
}

fn beside(f: &mut fmt::Formatter<'_>, nearest: &Option<Nearest>, address: u64) -> fmt::Result {
    match nearest {
        Some(nearest) => write!(f, ", {}", nearest.describe(address)),
        None => Ok(()),
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FaultKind::Launch(what) => f.write_str(what),
            FaultKind::OutOfBounds { access, space, address, bytes, nearest, size } => {
                write!(
                    f,
                    "{access} of {bytes} bytes at {space} address {address:#x} is out of bounds"
                )?;
                if *space != Space::Global {
                    write!(f, ", where {size} bytes are")?;
                } else if nearest.is_none() {
                    f.write_str(", where nothing is allocated")?;
                }
                beside(f, nearest, *address)
            }
            FaultKind::Misaligned { access, space, address, bytes } => {
                write!(f, "{access} of {bytes} bytes at {space} address {address:#x}, ")?;
                write!(f, "which is no multiple of {bytes}")
            }
            FaultKind::Uninitialised { access, space, address, bytes, first, nearest } => {
                write!(f, "{access} of {bytes} bytes at {space} address {address:#x}, ")?;
                write!(f, "of which byte {first} was never written")?;
                beside(f, nearest, *address)
            }
            FaultKind::CopyPending { access, address, bytes } => {
                write!(f, "{access} of {bytes} bytes at shared address {address:#x}, ")?;
                f.write_str("which a cp.async copies to that nobody waited for")
            }
            FaultKind::SharedRace { access, address, bytes, variable, other } => {
                write!(f, "race in shared memory: {access} of {bytes} bytes at {address:#x}")?;
                if let Some((name, offset)) = variable {
                    write!(f, " (`{name}` + {offset})")?;
                }
                write!(f, " is not ordered with the {other}")
            }
            FaultKind::GlobalRace { access, address, bytes, nearest, other } => {
                write!(f, "race in global memory: {access} of {bytes} bytes at {address:#x}")?;
                beside(f, nearest, *address)?;
                write!(f, ", is not ordered with the {other}")
            }
            FaultKind::BarrierDivergence(what)
            | FaultKind::Deadlock(what)
            | FaultKind::InvalidMask(what)
            | FaultKind::InvalidOperand(what) => f.write_str(what),
            FaultKind::Runaway { instructions } => {
                write!(f, "a block ran more than {instructions} instructions of its warps")
            }
        }
    }
}
