//! Exchange between the lanes of a warp: shuffles and `bar.warp.sync`.

use super::RunningLaunch;
use super::interpreter::lanes;
use super::shared_races::is_all;
use super::warp::{GroupState, LaneGroup, Warp};
use crate::fault::{Fault, FaultKind};
use crate::instruction::{Instruction, PtxOp};
use crate::lanes::Slots;
use crate::registers::{BITS, LANES, LaneMask, Narrow, Registers};

impl RunningLaunch<'_> {
    /// Runs a `.sync` instruction; false if lanes must be waited for.
    pub(super) fn exchange(
        &mut self,
        warp: &mut Warp,
        instruction: &Instruction,
        pc: u32,
        active: LaneMask,
    ) -> Result<bool, Fault> {
        let slots = &instruction.slots;
        let only_waits = matches!(instruction.op, PtxOp::WarpSync);
        let masks = *warp.registers.narrow(slots.e);
        let parties = self.parties(warp, &masks, pc, active)?;
        for &(members, party) in &parties {
            let missing = members & warp.alive & !party;
            if missing != 0 && !(only_waits && release_elsewhere(warp, members, missing, pc, self))
            {
                return Ok(false);
            }
        }
        for (members, party) in parties {
            if let Some(races) = &mut self.shared_races {
                let all = is_all(members, warp.alive);
                races.lanes_meet(&mut warp.order, members & warp.alive, all);
            }
            if let PtxOp::Shuffle(in_range) = instruction.op {
                self.shuffle(warp, in_range, slots, pc, party)?;
            }
        }
        Ok(true)
    }

    /// The active lanes by their member masks.
    fn parties(
        &self,
        warp: &Warp,
        masks: &Narrow,
        pc: u32,
        active: LaneMask,
    ) -> Result<Vec<(LaneMask, LaneMask)>, Fault> {
        let mut left = active;
        let mut parties = Vec::with_capacity(1);
        while left != 0 {
            let lane = left.trailing_zeros() as usize;
            let members = masks.0[lane];
            let mut party = 0;
            for lane in 0..LANES {
                party |= if masks.0[lane] == members { BITS[lane] } else { 0 };
            }
            party &= left;
            if party & !members != 0 {
                let outside = (party & !members).trailing_zeros() as usize;
                let what = format!("lane {outside} is not in its own member mask {members:#010x}");
                return Err(self.fault(warp.index, pc, outside, FaultKind::InvalidMask(what)));
            }
            parties.push((members, party));
            left &= !party;
        }
        Ok(parties)
    }

    /// `shfl.sync.bfly`.
    fn shuffle(
        &mut self,
        warp: &mut Warp,
        in_range_slot: Option<u32>,
        slots: &Slots,
        pc: u32,
        party: LaneMask,
    ) -> Result<(), Fault> {
        let registers = &warp.registers;
        let (value, other, clamp) =
            (registers.narrow(slots.a), registers.narrow(slots.b), registers.narrow(slots.c));
        let mut result = Narrow::ZERO;
        let mut in_range = 0;
        let mut sources = [0u8; LANES];
        for lane in 0..LANES {
            let own = lane as u32;
            let (distance, limit) = (other.0[lane] & 31, clamp.0[lane] & 31);
            let segment = clamp.0[lane] >> 8 & 31;
            let last = own & segment | limit & !segment;
            let fits = own ^ distance <= last;
            let source = if fits { own ^ distance } else { own };
            sources[lane] = source as u8;
            result.0[lane] = value.0[source as usize];
            in_range |= u32::from(fits) << lane;
        }
        if self.checks.uninitialised {
            for lane in lanes(party) {
                let source = sources[lane];
                if party >> source & 1 == 0 {
                    let what = format!("shfl reads lane {source}, which does not take part");
                    return Err(self.fault(warp.index, pc, lane, FaultKind::InvalidMask(what)));
                }
            }
        }
        warp.registers.set_narrow(slots.d, &result, party);
        if let Some(slot) = in_range_slot {
            warp.registers.set_predicate(slot, in_range, party);
        }
        Ok(())
    }
}

/// Lanes may meet at different `bar.warp.sync`: if all that are missing wait at one with the same
/// mask, they are let go.
fn release_elsewhere(
    warp: &mut Warp,
    members: LaneMask,
    missing: LaneMask,
    pc: u32,
    machine: &RunningLaunch<'_>,
) -> bool {
    let waits_too = |group: &LaneGroup, registers: &Registers| {
        let instruction = &machine.kernel.code[group.pc as usize];
        group.state == GroupState::Meeting
            && group.pc != pc
            && matches!(instruction.op, PtxOp::WarpSync)
            && lanes(group.mask)
                .all(|lane| registers.narrow(instruction.slots.e).0[lane] == members)
    };
    let waiting = warp.groups.iter().filter(|group| waits_too(group, &warp.registers));
    let there = waiting.fold(0, |mask, group| mask | group.mask);
    if missing & !there != 0 {
        return false;
    }
    let registers = &warp.registers;
    for group in &mut warp.groups {
        if waits_too(group, registers) {
            group.pc += 1;
            group.state = GroupState::Ready;
        }
    }
    true
}
