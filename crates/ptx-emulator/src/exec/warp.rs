//! A warp: registers, local memory, and the groups of lanes that are at one instruction.

use super::copy::Copies;
use super::shared_races::WarpOrder;
use crate::program::PtxKernel;
use crate::registers::{ALL, LANES, LaneMask, Registers};

/// What a group of lanes does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum GroupState {
    Ready,
    /// Waits at a `.sync` instruction for other lanes.
    Meeting,
    /// Waits at a barrier of the block, before its next instruction.
    AtBarrier,
}

/// Lanes that are at the same instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneGroup {
    pub pc: u32,
    pub mask: LaneMask,
    pub state: GroupState,
}

/// What a warp waits for at a barrier.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub barrier: u32,
    pub pc: u32,
    /// The number of threads that it waits for, if the instruction gives one.
    pub threads: Option<u32>,
    pub mask: LaneMask,
    /// Lanes with a true predicate, of `bar.red`.
    pub votes: LaneMask,
}

/// 32 threads.
pub(super) struct Warp {
    pub index: u32,
    pub registers: Registers,
    pub groups: Vec<LaneGroup>,
    /// Lanes that have not ended.
    pub alive: LaneMask,
    pub waiting: Option<Waiting>,
    /// Groups at later instructions than this go first, as one here has run for long; 0 for none.
    pub turn: u32,
    /// Each lane's local memory, one after another.
    pub local: Vec<u8>,
    /// For each byte of local memory 1 if it was written.
    pub local_initialised: Vec<u8>,
    pub order: WarpOrder,
    pub copies: Copies,
}

impl Warp {
    pub fn new(index: u32, kernel: &PtxKernel, noise: Option<u64>) -> Warp {
        let local = kernel.local_bytes as usize * LANES;
        Warp {
            index,
            registers: Registers::new(kernel.slots, noise),
            groups: Vec::new(),
            alive: 0,
            waiting: None,
            turn: 0,
            local: vec![0xcd; local],
            local_initialised: vec![0; local],
            order: WarpOrder::default(),
            copies: Copies::default(),
        }
    }

    /// Begins a block of that many threads.
    pub fn reset(&mut self, threads: u32, uninitialised: bool) {
        let own = threads - self.index * LANES as u32;
        self.alive = if own >= LANES as u32 { ALL } else { (1 << own) - 1 };
        self.groups.clear();
        self.groups.push(LaneGroup { pc: 0, mask: self.alive, state: GroupState::Ready });
        self.waiting = None;
        self.turn = 0;
        self.local_initialised.fill(u8::from(!uninitialised));
        self.order = WarpOrder::default();
        self.copies.clear();
    }

    pub fn is_finished(&self) -> bool {
        self.alive == 0
    }

    pub fn is_runnable(&self) -> bool {
        self.groups.iter().any(|group| group.state == GroupState::Ready)
    }

    /// Lanes have ended: those that wait for others look again.
    pub fn end(&mut self, lanes: LaneMask) {
        self.alive &= !lanes;
        for group in &mut self.groups {
            if group.state == GroupState::Meeting {
                group.state = GroupState::Ready;
            }
        }
    }
}
