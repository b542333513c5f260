//! Decoded instructions: what `decode` makes of a statement and `exec` runs.

use crate::lanes::convert::Conversion;
use crate::lanes::{LaneFn, Slots};
use crate::registers::LaneMask;
use crate::types::{Kind, Space, Type};

/// One decoded instruction. A PTX statement may become several.
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
    /// A conversion that has no function of its own: from `a` to `d`.
    Convert(Box<Convert>),
    Branch(u32),
    /// Jumps to the entry of the table that `a` (32 bits) gives.
    BranchTable(Box<[u32]>),
    Exit,
    Trap,
    /// Has no effect here: prefetches, hints, sleeps.
    Nothing,
    Fence(FenceScope),
    /// A counter that grows with each instruction, to `d`.
    Clock(Kind),
    Load(Box<LoadStore>),
    Store(Box<LoadStore>),
    Atomic(Box<Atomic>),
    /// Whether the address in `a` (64 bits) lies in a space; to predicate `d`.
    IsSpace(Space),
    Shuffle(Box<Shuffle>),
    Vote(Box<Vote>),
    Match(Box<Match>),
    Reduce(Box<Reduce>),
    ActiveMask,
    /// `bar.warp.sync`; the member mask is in `a`.
    WarpSync,
    Barrier(Box<Barrier>),
    CopyAsync(Box<CopyAsync>),
    CopyCommit,
    /// Waits until at most that many groups are pending; `None`: all copies.
    CopyWait(Option<u32>),
    LoadMatrix(Box<LoadMatrix>),
    /// `movmatrix`: the transpose of the matrix in `a` to `d`.
    TransposeMatrix,
    Multiply(Box<Multiply>),
}

/// A register that takes part in an instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Value {
    pub kind: Kind,
    pub slot: u32,
}

#[derive(Debug)]
pub(crate) struct Convert {
    pub conversion: Conversion,
    pub to: Kind,
    pub from: Kind,
}

/// How far a fence orders memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum FenceScope {
    Block,
    Device,
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
    pub signed: bool,
    /// `None` for an element that is not kept.
    pub values: [Option<Value>; 4],
    /// `.relaxed` and stronger: no race with another such access.
    pub strong: bool,
}

impl LoadStore {
    /// Bytes of all elements.
    pub(crate) fn bytes(&self) -> u32 {
        self.element * self.count
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum AtomicOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exchange,
    CompareAndSwap,
    Increment,
    Decrement,
}

#[derive(Debug)]
pub(crate) struct Atomic {
    pub address: Address,
    pub op: AtomicOp,
    pub value_type: Type,
    /// `None` for `red`.
    pub result: Option<Value>,
    pub operand: Value,
    /// The second operand of `cas`.
    pub second: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ShuffleMode {
    Up,
    Down,
    Butterfly,
    Index,
}

/// `a`: the value, `b`: the lane or distance, `c`: clamp and segments, `e`: the member mask.
#[derive(Debug)]
pub(crate) struct Shuffle {
    pub mode: ShuffleMode,
    /// Predicate that says whether the source lane was in range.
    pub in_range: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum VoteMode {
    All,
    Any,
    Uniform,
    Ballot,
}

/// `a`: the predicate, `e`: the member mask.
#[derive(Debug)]
pub(crate) struct Vote {
    pub mode: VoteMode,
    /// All ones where the predicate is negated.
    pub inverted: LaneMask,
}

/// `a`: the value, `e`: the member mask.
#[derive(Debug)]
pub(crate) struct Match {
    pub kind: Kind,
    /// `match.all`: only if all members have the same value.
    pub all: bool,
    pub same: Option<u32>,
}

/// `redux.sync`; `a`: the value, `e`: the member mask.
#[derive(Debug)]
pub(crate) struct Reduce {
    pub op: AtomicOp,
    pub value_type: Type,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum BarrierKind {
    Sync,
    Arrive,
    /// Counts the threads with a true predicate, into a register.
    Count,
    And,
    Or,
}

/// `a`: the barrier's number; `c`: the predicate of a reduction; `d`: its result.
#[derive(Debug)]
pub(crate) struct Barrier {
    pub kind: BarrierKind,
    /// Register with the number of threads; all threads of the block without it.
    pub threads: Option<u32>,
    pub inverted: LaneMask,
}

#[derive(Debug)]
pub(crate) struct CopyAsync {
    pub to: Address,
    pub from: Address,
    pub bytes: u32,
    /// Register with the number of bytes that are read; the rest is zero.
    pub source_bytes: Option<u32>,
    /// Predicate that turns the source into zeros.
    pub ignore_source: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct LoadMatrix {
    pub address: Address,
    pub transposed: bool,
    /// Registers of the results, one a matrix.
    pub results: Vec<u32>,
}

/// The element type of the factors of `mma`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Factor {
    Bf16,
    F16,
    Tf32,
}

/// `mma.sync.aligned.m16n8kK.row.col.f32.….f32`.
#[derive(Debug)]
pub(crate) struct Multiply {
    pub factor: Factor,
    pub k: u32,
    pub a: Vec<u32>,
    pub b: Vec<u32>,
    pub c: [u32; 4],
    pub d: [u32; 4],
}
