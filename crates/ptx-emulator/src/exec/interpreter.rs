//! The interpreter's loop: picks the lanes of a warp that run next, and runs their instructions.
//!
//! Lanes that have diverged form groups. The group at the lowest instruction runs first, up to
//! where another group is, and joins it there: for structured code that is where the branches meet.

use super::RunningLaunch;
use super::warp::{GroupState, LaneGroup, Warp};
use crate::fault::{Fault, FaultKind};
use crate::instruction::PtxOp;
use crate::lanes::scramble;
use crate::registers::{ALL, LANES, LaneMask};

/// Why a warp's turn ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TurnEnd {
    /// It has run its share.
    Sliced,
    /// No lane can go on: all have ended, or wait at a barrier.
    Stopped,
}

impl RunningLaunch<'_> {
    /// Runs a warp until it has had its share, or no lane can go on.
    pub(super) fn run_warp(&mut self, warp: &mut Warp) -> Result<TurnEnd, Fault> {
        let share = self.slice();
        let mut left = share;
        loop {
            let Some(index) = self.pick(warp) else {
                self.count_steps(warp, share - left)?;
                self.check_stopped(warp)?;
                return Ok(TurnEnd::Stopped);
            };
            let mut group = warp.groups.swap_remove(index);
            warp.groups.retain(|other| {
                let joins = other.pc == group.pc && other.state != GroupState::AtBarrier;
                if joins {
                    group.mask |= other.mask;
                }
                !joins
            });
            self.run_group(warp, group, &mut left)?;
            if left == 0 && warp.is_runnable() {
                self.count_steps(warp, share)?;
                return Ok(TurnEnd::Sliced);
            }
        }
    }

    fn count_steps(&mut self, warp: &Warp, steps: u64) -> Result<(), Fault> {
        self.steps += steps;
        let limit = self.checks.max_instructions;
        if self.steps > limit {
            let (pc, lane) = warp
                .groups
                .first()
                .map_or((0, 0), |group| (group.pc, group.mask.trailing_zeros() as usize));
            let kind = FaultKind::Runaway { instructions: limit };
            return Err(self.fault(warp.index, pc, lane % LANES, kind));
        }
        Ok(())
    }

    /// The ready group that runs next: that at the lowest instruction, or one drawn by lot.
    fn pick(&mut self, warp: &Warp) -> Option<usize> {
        let ready = |group: &LaneGroup| group.state == GroupState::Ready;
        let count = warp.groups.iter().filter(|group| ready(group)).count();
        if count <= 1 {
            return warp.groups.iter().position(ready);
        }
        let mut numbered = warp.groups.iter().enumerate().filter(|(_, group)| ready(group));
        let chosen = if self.checks.schedule.is_some() {
            self.draw = scramble(self.draw);
            numbered.nth((self.draw % count as u64) as usize)
        } else {
            numbered.min_by_key(|(_, group)| group.pc)
        };
        chosen.map(|(index, _)| index)
    }

    /// Runs the lanes of a group until they part, meet others, wait, end, or have had their share.
    fn run_group(
        &mut self,
        warp: &mut Warp,
        group: LaneGroup,
        left: &mut u64,
    ) -> Result<(), Fault> {
        let kernel = self.kernel;
        let LaneGroup { mut pc, mut mask, .. } = group;
        let others = warp.groups.iter().filter(|other| other.state != GroupState::AtBarrier);
        let join = others.map(|other| other.pc).filter(|&other| other > pc).min();
        let join = join.unwrap_or(u32::MAX);
        loop {
            if *left == 0 {
                warp.groups.push(LaneGroup { pc, mask, state: GroupState::Ready });
                return Ok(());
            }
            *left -= 1;
            let instruction = &kernel.code[pc as usize];
            let slots = &instruction.slots;
            let guard = warp.registers.predicate(instruction.guard) ^ instruction.inverted;
            let active = mask & guard;
            self.stats.warp_instructions += 1;
            self.stats.thread_instructions += u64::from(active.count_ones());
            if active == 0 {
                pc += 1;
                if pc == join {
                    warp.groups.push(LaneGroup { pc, mask, state: GroupState::Ready });
                    return Ok(());
                }
                continue;
            }
            match &instruction.op {
                PtxOp::Lanes(function) => {
                    // SAFETY: the function was chosen for instructions that this machine has.
                    unsafe { function(&mut warp.registers, slots, active) }
                }
                PtxOp::Load(access) => self.load(warp, access, pc, active)?,
                PtxOp::Store(access) => self.store(warp, access, pc, active)?,
                PtxOp::Branch(target) => {
                    if active == mask && warp.groups.is_empty() {
                        pc = *target;
                        continue;
                    }
                    warp.groups.push(LaneGroup {
                        pc: *target,
                        mask: active,
                        state: GroupState::Ready,
                    });
                    if active != mask {
                        let rest = mask & !active;
                        warp.groups.push(LaneGroup {
                            pc: pc + 1,
                            mask: rest,
                            state: GroupState::Ready,
                        });
                    }
                    return Ok(());
                }
                PtxOp::Exit => {
                    self.finish_copies(warp, active);
                    warp.end(active);
                    mask &= !active;
                    if mask == 0 {
                        return Ok(());
                    }
                    if !warp.groups.is_empty() {
                        warp.groups.push(LaneGroup { pc: pc + 1, mask, state: GroupState::Ready });
                        return Ok(());
                    }
                }
                PtxOp::Multiply(_) | PtxOp::LoadMatrix(_) if active != ALL && warp.alive == ALL => {
                    // `.sync`: lanes that went other ways before may come later.
                    self.wait_for_lanes(warp, pc, mask, active);
                    return Ok(());
                }
                PtxOp::Multiply(multiply) => self.multiply(warp, multiply, pc, active)?,
                PtxOp::LoadMatrix(load) => self.load_matrix(warp, load, pc, active)?,
                PtxOp::CopyAsync(copy) => self.copy_async(warp, copy, pc, active)?,
                PtxOp::CopyCommit => warp.copies.commit(active),
                PtxOp::CopyWait(groups) => self.copy_wait(warp, *groups, pc, active),
                PtxOp::Shuffle(_) | PtxOp::WarpSync => {
                    if !self.exchange(warp, instruction, pc, active)? {
                        self.wait_for_lanes(warp, pc, mask, active);
                        return Ok(());
                    }
                }
                PtxOp::Barrier => {
                    // All lanes of the warp that have not ended must come to this instruction.
                    if active != warp.alive {
                        self.wait_for_lanes(warp, pc, mask, active);
                        return Ok(());
                    }
                    warp.waiting = Some(pc);
                    let (pc, state) = (pc + 1, GroupState::AtBarrier);
                    warp.groups.push(LaneGroup { pc, mask: active, state });
                    return Ok(());
                }
            }
            pc += 1;
            if pc == join {
                warp.groups.push(LaneGroup { pc, mask, state: GroupState::Ready });
                return Ok(());
            }
        }
    }

    /// Parks the active lanes until others come; those that the guard excludes go on.
    fn wait_for_lanes(&mut self, warp: &mut Warp, pc: u32, mask: LaneMask, active: LaneMask) {
        // The instruction is counted when it is run.
        self.stats.warp_instructions -= 1;
        self.stats.thread_instructions -= u64::from(active.count_ones());
        warp.groups.push(LaneGroup { pc, mask: active, state: GroupState::Meeting });
        let rest = mask & !active;
        if rest != 0 {
            warp.groups.push(LaneGroup { pc: pc + 1, mask: rest, state: GroupState::Ready });
        }
    }

    /// A warp that cannot go on has ended, or all its lanes wait at the same barrier.
    fn check_stopped(&self, warp: &Warp) -> Result<(), Fault> {
        let Some(stuck) = warp.groups.iter().find(|group| group.state == GroupState::Meeting)
        else {
            return Ok(());
        };
        let lane = stuck.mask.trailing_zeros() as usize;
        let others = warp.alive & !stuck.mask;
        let mut what = format!("lanes {:#010x} of warp {} wait", stuck.mask, warp.index);
        let place = |pc: u32| format!("PTX line {}", self.kernel.sites[pc as usize].line);
        what += &format!(" at {} for lanes {others:#010x}", place(stuck.pc));
        for group in &warp.groups {
            if group.mask & stuck.mask == 0 {
                // Behind a barrier, the instruction that is waited at is the one before.
                let at = group.pc - u32::from(group.state == GroupState::AtBarrier);
                what += &format!(", of which {:#010x} wait at {}", group.mask, place(at));
            }
        }
        let at_barrier = |group: &LaneGroup| {
            group.state == GroupState::AtBarrier
                || matches!(self.kernel.code[group.pc as usize].op, PtxOp::Barrier)
        };
        let kind = if warp.groups.iter().any(at_barrier) {
            FaultKind::BarrierDivergence(what)
        } else {
            FaultKind::Deadlock(what)
        };
        Err(self.fault(warp.index, stuck.pc, lane, kind))
    }
}

/// The numbers of a mask's lanes.
pub(super) fn lanes(mask: LaneMask) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let lane = left.trailing_zeros() as usize;
        left &= left - 1;
        Some(lane)
    })
}
