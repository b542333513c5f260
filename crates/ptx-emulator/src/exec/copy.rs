//! `cp.async`. The source is read when the copy is issued. The destination holds neither its old
//! nor its new bytes until the copying thread has waited: an access before that is a fault.

use super::Machine;
use super::interpreter::lanes;
use super::lane_access::{LaneAccess, Place};
use super::shared::{PENDING, WRITTEN};
use super::shared_races::Manner;
use super::warp::Warp;
use crate::fault::{Access, Fault, FaultKind};
use crate::instruction::CopyAsync;
use crate::registers::{LANES, Mask};
use crate::types::Kind;

/// One lane's copy that is on its way.
struct Copy {
    lane: u8,
    bytes: u8,
    /// The group that it belongs to; the lane's current one until it commits.
    group: u32,
    to: u32,
    data: [u8; 16],
}

/// Copies of a warp that are on their way.
#[derive(Default)]
pub(super) struct Copies {
    pending: Vec<Copy>,
    /// Groups that each lane has committed.
    committed: [u32; LANES],
}

impl Copies {
    pub fn clear(&mut self) {
        self.pending.clear();
        self.committed = [0; LANES];
    }

    pub fn commit(&mut self, active: Mask) {
        for lane in lanes(active) {
            self.committed[lane] += 1;
        }
    }
}

impl Machine<'_> {
    pub(super) fn copy_async(
        &mut self,
        warp: &mut Warp,
        copy: &CopyAsync,
        pc: u32,
        active: Mask,
    ) -> Result<(), Fault> {
        let to = copy.to.of_lanes(&warp.registers);
        let from = copy.from.of_lanes(&warp.registers);
        for lane in lanes(active) {
            let taken = self.source_bytes(warp, copy, pc, lane)?;
            let mut data = [0; 16];
            if taken > 0 {
                let source = LaneAccess {
                    what: Access::Copy,
                    pc,
                    lane,
                    space: copy.from.space,
                    address: from[lane],
                    bytes: copy.bytes,
                    atomic: false,
                };
                self.read_source(warp, &source, taken, &mut data[..taken as usize])?;
            }
            let target = LaneAccess {
                what: Access::Copy,
                pc,
                lane,
                space: copy.to.space,
                address: to[lane],
                bytes: copy.bytes,
                atomic: false,
            };
            let place = self.place(warp, &target)?;
            self.note_write(warp, &target, place, &data[..copy.bytes as usize])?;
            let Place::Shared(offset) = place else { continue };
            self.shared.state[offset..offset + copy.bytes as usize].fill(PENDING);
            warp.copies.pending.push(Copy {
                lane: lane as u8,
                bytes: copy.bytes as u8,
                group: warp.copies.committed[lane],
                to: offset as u32,
                data,
            });
        }
        Ok(())
    }

    /// How many bytes a lane's copy reads; the rest is zero.
    fn source_bytes(
        &self,
        warp: &Warp,
        copy: &CopyAsync,
        pc: u32,
        lane: usize,
    ) -> Result<u32, Fault> {
        if let Some(predicate) = copy.ignore_source
            && warp.registers.lane(Kind::Predicate, predicate, lane) != 0
        {
            return Ok(0);
        }
        let Some(slot) = copy.source_bytes else { return Ok(copy.bytes) };
        let taken = warp.registers.lane(Kind::B32, slot, lane) as u32;
        if taken > copy.bytes {
            let what = format!("cp.async of {} bytes reads {taken} bytes", copy.bytes);
            return Err(self.fault(warp.index, pc, lane, FaultKind::InvalidOperand(what)));
        }
        Ok(taken)
    }

    /// Reads what a copy takes, which may be less than its size; the address must be aligned to
    /// the size all the same.
    fn read_source(
        &mut self,
        warp: &Warp,
        source: &LaneAccess,
        taken: u32,
        data: &mut [u8],
    ) -> Result<(), Fault> {
        if taken == source.bytes {
            return self.lane_read(warp, source, data);
        }
        if source.address % u64::from(source.bytes) != 0 {
            let LaneAccess { what, space, address, bytes, .. } = *source;
            let kind = FaultKind::Misaligned { access: what, space, address, bytes };
            return Err(self.fault(warp.index, source.pc, source.lane, kind));
        }
        for (index, byte) in data.iter_mut().enumerate() {
            let address = source.address + index as u64;
            let one = LaneAccess { address, bytes: 1, ..*source };
            self.lane_read(warp, &one, std::slice::from_mut(byte))?;
        }
        Ok(())
    }

    /// Finishes all copies of the lanes but those of their last groups.
    pub(super) fn copy_wait(
        &mut self,
        warp: &mut Warp,
        groups: Option<u32>,
        pc: u32,
        active: Mask,
    ) -> Result<(), Fault> {
        let pending = std::mem::take(&mut warp.copies.pending);
        for copy in pending {
            let lane = usize::from(copy.lane);
            let committed = warp.copies.committed[lane];
            let done = match groups {
                None => true,
                Some(left) => copy.group < committed && committed - copy.group > left,
            };
            if active >> lane & 1 == 0 || !done {
                warp.copies.pending.push(copy);
                continue;
            }
            self.finish_copy(warp, &copy, pc);
        }
        if groups.is_none() {
            warp.copies.commit(active);
        }
        Ok(())
    }

    fn finish_copy(&mut self, warp: &Warp, copy: &Copy, pc: u32) {
        let (start, bytes) = (copy.to as usize, usize::from(copy.bytes));
        self.shared.bytes[start..start + bytes].copy_from_slice(&copy.data[..bytes]);
        self.shared.state[start..start + bytes].fill(WRITTEN);
        if let Some(races) = &mut self.shared_races {
            let actor = warp.actor(usize::from(copy.lane), pc);
            races.write(u64::from(copy.to), u32::from(copy.bytes), actor, Manner::Plain);
        }
    }

    /// A lane that ends leaves its copies to finish on their own: nobody may rely on them, so their
    /// bytes stay on their way.
    pub(super) fn finish_copies(&mut self, warp: &mut Warp, ended: Mask) {
        warp.copies.pending.retain(|copy| ended >> copy.lane & 1 == 0);
    }
}
