//! `cp.async`. The source is read when the copy is issued. The destination holds neither its old
//! nor its new bytes until the copying thread has waited: an access before that is a fault.

use super::RunningLaunch;
use super::interpreter::lanes;
use super::lane_access::{LaneAccess, Place};
use super::shared::{PENDING, WRITTEN};
use super::span::{Span, Together, all_written, note_reads};
use super::warp::Warp;
use crate::fault::{Access, Fault, FaultKind};
use crate::instruction::CopyAsync;
use crate::lanes::call_for;
use crate::registers::{BITS, LANES, LaneMask};

/// Bytes of each copy.
const BYTES: usize = 16;

/// One lane's copy that is on its way.
struct Copy {
    lane: u8,
    /// The group that it belongs to; the lane's current one until it commits.
    group: u32,
    to: u32,
    data: [u8; BYTES],
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

    /// A lane's copy sets out to an offset in shared memory.
    fn issue(&mut self, lane: usize, to: usize, data: [u8; BYTES]) {
        let (group, to) = (self.committed[lane], to as u32);
        self.pending.push(Copy { lane: lane as u8, group, to, data });
    }

    pub fn commit(&mut self, active: LaneMask) {
        for lane in lanes(active) {
            self.committed[lane] += 1;
        }
    }
}

impl RunningLaunch<'_> {
    pub(super) fn copy_async(
        &mut self,
        warp: &mut Warp,
        copy: &CopyAsync,
        pc: u32,
        active: LaneMask,
    ) -> Result<(), Fault> {
        let machine = self;
        let simd = machine.simd;
        let done = call_for!(simd, copy_together(
            machine: &mut RunningLaunch<'_>,
            warp: &mut Warp,
            copy: &CopyAsync,
            pc: u32,
            active: LaneMask,
        ) -> bool);
        if done { Ok(()) } else { machine.copy_lanes(warp, copy, pc, active) }
    }

    #[cold]
    #[inline(never)]
    fn copy_lanes(
        &mut self,
        warp: &mut Warp,
        copy: &CopyAsync,
        pc: u32,
        active: LaneMask,
    ) -> Result<(), Fault> {
        let to = copy.to.of_lanes(&warp.registers);
        let from = copy.from.of_lanes(&warp.registers);
        for lane in lanes(active) {
            let taken = warp.registers.narrow(copy.source_bytes).0[lane] as usize;
            if taken > BYTES {
                let what = format!("cp.async of {BYTES} bytes reads {taken} bytes");
                return Err(self.fault(warp.index, pc, lane, FaultKind::InvalidOperand(what)));
            }
            let (what, bytes) = (Access::Copy, BYTES as u32);
            let mut data = [0; BYTES];
            if taken > 0 {
                let (space, address) = (copy.from.space, from[lane]);
                let source = LaneAccess { what, pc, lane, space, address, bytes };
                self.read_source(warp, &source, &mut data[..taken])?;
            }
            let (space, address) = (copy.to.space, to[lane]);
            let target = LaneAccess { what, pc, lane, space, address, bytes };
            let place = self.place(warp, &target)?;
            self.note_write(warp, &target, place, &data)?;
            let Place::Shared(offset) = place else { continue };
            self.shared.state[offset..offset + BYTES].fill(PENDING);
            warp.copies.issue(lane, offset, data);
        }
        Ok(())
    }

    /// Reads what a copy takes, which may be less than its size; the address must be aligned to
    /// the size all the same.
    fn read_source(
        &mut self,
        warp: &Warp,
        source: &LaneAccess,
        data: &mut [u8],
    ) -> Result<(), Fault> {
        if data.len() == BYTES {
            return self.lane_read(warp, source, data);
        }
        if !source.address.is_multiple_of(BYTES as u64) {
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
        active: LaneMask,
    ) {
        let mut pending = std::mem::take(&mut warp.copies.pending);
        pending.retain(|copy| {
            let lane = usize::from(copy.lane);
            let committed = warp.copies.committed[lane];
            let done = match groups {
                None => true,
                Some(left) => copy.group < committed && committed - copy.group > left,
            };
            let stays = active >> lane & 1 == 0 || !done;
            if !stays {
                self.finish_copy(warp, copy, pc);
            }
            stays
        });
        warp.copies.pending = pending;
        if groups.is_none() {
            warp.copies.commit(active);
        }
    }

    fn finish_copy(&mut self, warp: &Warp, copy: &Copy, pc: u32) {
        let start = copy.to as usize;
        self.shared.bytes[start..start + BYTES].copy_from_slice(&copy.data);
        self.shared.state[start..start + BYTES].fill(WRITTEN);
        if let Some(races) = &mut self.shared_races {
            let actor = warp.actor(usize::from(copy.lane), pc);
            races.write(u64::from(copy.to), BYTES as u32, actor);
        }
    }

    /// A lane that ends leaves its copies to finish on their own: nobody may rely on them, so their
    /// bytes stay on their way.
    pub(super) fn finish_copies(&mut self, warp: &mut Warp, ended: LaneMask) {
        warp.copies.pending.retain(|copy| ended >> copy.lane & 1 == 0);
    }
}

/// Issues the copies of all lanes at once; false, with nothing issued, if there is something to
/// look at.
#[inline(always)]
fn copy_together(
    machine: &mut RunningLaunch<'_>,
    warp: &mut Warp,
    copy: &CopyAsync,
    pc: u32,
    active: LaneMask,
) -> bool {
    const EACH: u32 = BYTES as u32;
    // Lanes either copy all bytes, or put zeros.
    let taken = &warp.registers.narrow(copy.source_bytes).0;
    let (mut copying, mut partly) = (0, 0);
    for lane in 0..LANES {
        partly |= if taken[lane] != 0 && taken[lane] != EACH { BITS[lane] } else { 0 };
        copying |= if taken[lane] != 0 { BITS[lane] } else { 0 };
    }
    copying &= active;
    if partly & active != 0 {
        return false;
    }
    let to = copy.to.of_lanes(&warp.registers);
    let Some(target) = Span::new(&to, active, EACH) else { return false };
    let Some(target_region) = machine.region(copy.to.space, &target) else { return false };
    let (start, end) = (target_region.offset as usize, target.bytes as usize);
    if machine.shared.state[start..start + end].contains(&PENDING) {
        return false;
    }
    if !are_apart(&target, active) {
        return false;
    }
    let mut data = [[0u8; BYTES]; LANES];
    if copying != 0 {
        let from = copy.from.of_lanes(&warp.registers);
        let Some(source) = Span::new(&from, copying, EACH) else { return false };
        let Some(region) = machine.region(copy.from.space, &source) else { return false };
        if machine.checks.uninitialised && !all_written(&region, &source, copying, EACH) {
            return false;
        }
        let together = Together { pc, active: copying, bytes: EACH };
        if !note_reads(machine, warp, &region, &source, together) {
            return false;
        }
        region.read_lanes(&source, copying, &mut data);
    }
    if let Some(races) = &mut machine.shared_races {
        for lane in lanes(active) {
            let (address, actor) = (to[lane], warp.actor(lane, pc));
            if races.check_write(address, EACH, actor, &warp.order).is_some() {
                return false;
            }
            races.write(address, EACH, actor);
        }
    }
    for lane in lanes(active) {
        let offset = start + target.offsets[lane] as usize;
        machine.shared.state[offset..offset + BYTES].fill(PENDING);
        warp.copies.issue(lane, offset, data[lane]);
    }
    true
}

/// Whether no two lanes copy to the same place; false also if they lie too far apart to tell.
fn are_apart(target: &Span, active: LaneMask) -> bool {
    let mut taken = [0u64; 64];
    lanes(active).all(|lane| {
        let unit = target.offsets[lane] as usize / BYTES;
        let Some(word) = taken.get_mut(unit / 64) else { return false };
        let free = *word >> (unit % 64) & 1 == 0;
        *word |= 1 << (unit % 64);
        free
    })
}
