//! A warp: registers, and the groups of lanes that are at one instruction.

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

/// 32 threads.
pub(super) struct Warp {
    pub index: u32,
    pub registers: Registers,
    pub groups: Vec<LaneGroup>,
    /// Lanes that have not ended.
    pub alive: LaneMask,
    /// The barrier that all its lanes wait at.
    pub waiting: Option<u32>,
    pub order: WarpOrder,
    pub copies: Copies,
}

impl Warp {
    pub fn new(index: u32, kernel: &PtxKernel, noise: Option<u64>) -> Warp {
        Warp {
            index,
            registers: Registers::new(kernel.slots, noise),
            groups: Vec::new(),
            alive: 0,
            waiting: None,
            order: WarpOrder::default(),
            copies: Copies::default(),
        }
    }

    /// Begins a block of that many threads.
    pub fn reset(&mut self, threads: u32) {
        let own = threads - self.index * LANES as u32;
        self.alive = if own >= LANES as u32 { ALL } else { (1 << own) - 1 };
        self.groups.clear();
        self.groups.push(LaneGroup { pc: 0, mask: self.alive, state: GroupState::Ready });
        self.waiting = None;
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
