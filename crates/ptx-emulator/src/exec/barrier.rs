//! Barriers of a block: sixteen of them, each for all of its threads or for a given number.

use super::RunningLaunch;
use super::shared_races::Knowledge;
use super::warp::{GroupState, Waiting, Warp};
use crate::fault::{Fault, FaultKind};
use crate::instruction::{Barrier, BarrierKind, PtxOp};
use crate::lanes::Slots;
use crate::registers::{ALL, LANES, LaneMask};
use crate::types::Kind;

/// Barriers that a block has.
const COUNT: u32 = 16;

/// What came to each barrier by `bar.arrive`.
#[derive(Default)]
pub(super) struct Barriers {
    arrived: [Arrived; COUNT as usize],
}

#[derive(Clone, Default)]
struct Arrived {
    /// Warps that arrived; one may do so more than once.
    times: u32,
    /// The number of threads that the last of them gave.
    threads: u32,
    /// What they had done.
    knowledge: Knowledge,
}

impl Arrived {
    fn join(&mut self, knowledge: &Knowledge) {
        for (known, time) in self.knowledge.iter_mut().zip(knowledge) {
            *known = *time.max(known);
        }
    }
}

impl RunningLaunch<'_> {
    /// A warp, with all its lanes, comes to a barrier.
    pub(super) fn arrive(
        &mut self,
        warp: &mut Warp,
        barrier: &Barrier,
        slots: &Slots,
        pc: u32,
        active: LaneMask,
    ) -> Result<(), Fault> {
        let lane = active.trailing_zeros() as usize;
        let fail = |machine: &Self, what: String| {
            Err(machine.fault(warp.index, pc, lane, FaultKind::InvalidOperand(what)))
        };
        let uniform = |slot: u32| {
            let row = warp.registers.narrow(slot);
            let first = row.0[lane];
            super::interpreter::lanes(active).all(|lane| row.0[lane] == first).then_some(first)
        };
        let number = match uniform(slots.a) {
            Some(number) if number < COUNT => number,
            Some(number) => {
                return fail(self, format!("barrier {number}, where a block has {COUNT}"));
            }
            None => return fail(self, "the lanes of a warp name different barriers".to_owned()),
        };
        let threads = match barrier.threads.map(uniform) {
            None => None,
            Some(Some(threads)) if threads % LANES as u32 == 0 && threads > 0 => Some(threads),
            Some(_) => {
                let what = "a barrier's number of threads is no multiple of 32".to_owned();
                return fail(self, what);
            }
        };
        if barrier.kind == BarrierKind::Arrive {
            let arrived = &mut self.barriers.arrived[number as usize];
            arrived.times += 1;
            arrived.threads = threads.unwrap_or(0);
            if let Some(races) = &mut self.shared_races {
                arrived.join(&races.knowledge(warp.index));
            }
            return Ok(());
        }
        let votes = (warp.registers.predicate(slots.c) ^ barrier.inverted) & active;
        warp.waiting = Some(Waiting { barrier: number, pc, threads, mask: active, votes });
        Ok(())
    }

    /// Lets warps go on whose barrier is complete.
    pub(super) fn complete_barriers(&mut self, warps: &mut [Warp]) -> Result<(), Fault> {
        for number in 0..COUNT {
            let waits = |warp: &&Warp| warp.waiting.is_some_and(|it| it.barrier == number);
            let Some(first) = warps.iter().find(waits).and_then(|warp| warp.waiting) else {
                // Nobody waits: it is complete if enough have arrived.
                let arrived = &mut self.barriers.arrived[number as usize];
                if arrived.times > 0 && arrived.times * LANES as u32 == arrived.threads {
                    *arrived = Arrived::default();
                }
                continue;
            };
            let waiting =
                warps.iter().filter(waits).fold(0u32, |mask, warp| mask | 1 << warp.index);
            let alive = warps.iter().filter(|warp| !warp.is_finished());
            let alive = alive.fold(0u32, |mask, warp| mask | 1 << warp.index);
            let arrived = &self.barriers.arrived[number as usize];
            let came = waiting.count_ones() + arrived.times;
            let complete = match first.threads {
                None => waiting == alive && arrived.times == 0,
                Some(threads) => came * LANES as u32 >= threads,
            };
            if !complete {
                continue;
            }
            self.check_alike(warps, first, number)?;
            if let Some(threads) = first.threads
                && came * LANES as u32 > threads
            {
                let what = format!("{came} warps came to barrier {number} for {threads} threads");
                let lane = first.mask.trailing_zeros() as usize;
                let index = waiting.trailing_zeros();
                return Err(self.fault(index, first.pc, lane, FaultKind::InvalidOperand(what)));
            }
            let arrived = std::mem::take(&mut self.barriers.arrived[number as usize]);
            self.release(warps, waiting, alive, arrived);
        }
        Ok(())
    }

    /// All warps at a barrier must wait for the same number of threads; at one of the whole block
    /// they must be at the same instruction.
    fn check_alike(&self, warps: &[Warp], first: Waiting, number: u32) -> Result<(), Fault> {
        for warp in warps {
            let Some(other) = warp.waiting.filter(|other| other.barrier == number) else {
                continue;
            };
            let lane = other.mask.trailing_zeros() as usize;
            if other.threads != first.threads {
                let what =
                    format!("warps wait at barrier {number} for different numbers of threads");
                return Err(self.fault(
                    warp.index,
                    other.pc,
                    lane,
                    FaultKind::InvalidOperand(what),
                ));
            }
            if other.threads.is_none() && other.pc != first.pc {
                let line = self.kernel.sites[first.pc as usize].line;
                let what = format!(
                    "threads of the block meet at different barriers: others are at PTX line {line}"
                );
                let kind = FaultKind::BarrierDivergence(what);
                return Err(self.fault(warp.index, other.pc, lane, kind));
            }
        }
        Ok(())
    }

    fn release(&mut self, warps: &mut [Warp], waiting: u32, alive: u32, mut arrived: Arrived) {
        let members = warps.iter().filter(|warp| waiting >> warp.index & 1 != 0);
        let held = members.filter_map(|warp| warp.waiting);
        let (votes, threads) = held.fold((0, 0), |(votes, threads), waiting| {
            (votes + waiting.votes.count_ones(), threads + waiting.mask.count_ones())
        });
        if let Some(races) = &mut self.shared_races {
            if waiting == alive && arrived.times == 0 {
                races.barrier_of_all();
            } else {
                for warp in super::interpreter::lanes(waiting) {
                    arrived.join(&races.knowledge(warp as u32));
                }
                races.learn(waiting, &arrived.knowledge);
            }
        }
        for warp in warps.iter_mut().filter(|warp| waiting >> warp.index & 1 != 0) {
            let Some(held) = warp.waiting.take() else { continue };
            if let Some(races) = &mut self.shared_races {
                races.lanes_meet(&mut warp.order, ALL, true);
            }
            for group in &mut warp.groups {
                if group.state == GroupState::AtBarrier {
                    group.state = GroupState::Ready;
                }
            }
            let instruction = &self.kernel.code[held.pc as usize];
            let PtxOp::Barrier(barrier) = &instruction.op else { continue };
            let slot = instruction.slots.d;
            let (kind, value) = match barrier.kind {
                BarrierKind::Sync | BarrierKind::Arrive => continue,
                BarrierKind::Count => (Kind::B32, u64::from(votes)),
                BarrierKind::And => (Kind::Predicate, u64::from(votes == threads)),
                BarrierKind::Or => (Kind::Predicate, u64::from(votes != 0)),
            };
            for lane in super::interpreter::lanes(held.mask) {
                warp.registers.set_lane(kind, slot, lane, value);
            }
        }
    }

    /// The fault for a block in which no warp can go on.
    #[cold]
    pub(super) fn deadlock(&self, warps: &[Warp]) -> Fault {
        let mut what = "no thread of the block can go on:".to_owned();
        let mut place = (0, 0, 0);
        for warp in warps {
            if let Some(waiting) = warp.waiting {
                let line = self.kernel.sites[waiting.pc as usize].line;
                let index = warp.index;
                what += &format!(
                    " warp {index} waits at barrier {} (PTX line {line})",
                    waiting.barrier
                );
                if let Some(threads) = waiting.threads {
                    what += &format!(" for {threads} threads");
                }
                what += ";";
                place = (index, waiting.pc, waiting.mask.trailing_zeros() as usize);
            } else if warp.is_finished() {
                what += &format!(" warp {} has ended;", warp.index);
            }
        }
        what.pop();
        self.fault(place.0, place.1, place.2, FaultKind::Deadlock(what))
    }
}
