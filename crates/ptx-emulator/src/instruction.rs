//! Decoded instructions: what `decode` makes of a statement and `exec` runs.

use crate::lanes::{LaneFn, Slots};
use crate::registers::LaneMask;
use crate::types::{Kind, Space};

/// One decoded instruction: what a PTX statement becomes.
#[derive(Debug)]
pub(crate) struct Instruction {
    pub op: PtxOp,
    /// Predicate slot of the guard; slot 0 is always true.
    pub guard: u32,
    /// All ones where the guard is negated.
    pub inverted: LaneMask,
    pub slots: Slots,
}

/// What an instruction does.
#[derive(Debug)]
pub(crate) enum PtxOp {
    /// Computes lane by lane.
    Lanes(LaneFn),
    Branch(u32),
    Exit,
    Load(Box<LoadStore>),
    Store(Box<LoadStore>),
    /// `shfl.sync.bfly`; `a`: the value, `b`: the distance, `c`: clamp and segments, `e`: the member
    /// mask. The predicate slot, if any, says whether the source lane was in range.
    Shuffle(Option<u32>),
    /// `bar.warp.sync`; the member mask is in `e`.
    WarpSync,
    /// `bar.sync 0`, for all threads of the block.
    Barrier,
    CopyAsync(Box<CopyAsync>),
    CopyCommit,
    /// Waits until at most that many groups are pending; `None`: all copies.
    CopyWait(Option<u32>),
    LoadMatrix(Box<LoadMatrix>),
    Multiply(Box<Multiply>),
}

/// A register that takes part in an instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Value {
    pub kind: Kind,
    pub slot: u32,
}

/// The register that an address is computed from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum BaseSlot {
    Narrow(u32),
    Wide(u32),
    Absolute,
}

/// An address operand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub space: Space,
    pub base: BaseSlot,
    pub offset: i64,
}

/// A load or store of one to four elements a lane.
#[derive(Debug)]
pub(crate) struct LoadStore {
    pub address: Address,
    /// Bytes of one element.
    pub element: u32,
    pub count: u32,
    /// `None` for an element that is not kept.
    pub values: [Option<Value>; 4],
}

impl LoadStore {
    /// Bytes of all elements.
    pub(crate) fn bytes(&self) -> u32 {
        self.element * self.count
    }
}

/// `cp.async.cg` of 16 bytes.
#[derive(Debug)]
pub(crate) struct CopyAsync {
    pub to: Address,
    pub from: Address,
    /// Register with the number of bytes that are read; the rest is zero.
    pub source_bytes: u32,
}

#[derive(Debug)]
pub(crate) struct LoadMatrix {
    pub address: Address,
    pub transposed: bool,
    /// Registers of the results, one a matrix.
    pub results: [u32; 4],
}

/// The element type of the factors of `mma`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Factor {
    /// With 16 columns of the first factor.
    Bf16,
    /// With 8.
    Tf32,
}

/// `mma.sync.aligned.m16n8kK.row.col.f32.….f32`.
#[derive(Debug)]
pub(crate) struct Multiply {
    pub factor: Factor,
    pub a: [u32; 4],
    pub b: [u32; 2],
    pub c: [u32; 4],
    pub d: [u32; 4],
}
