//! One lane's access to memory, with every check, in any space. `access` has shorter ways for
//! whole warps; where those find something odd, they come here to say what it is.

use super::RunningLaunch;
use super::global_races::GlobalRace;
use super::shared::{PENDING, UNWRITTEN, WRITTEN};
use super::shared_races::{SharedActor, SharedRace};
use super::warp::Warp;
use crate::fault::{Access, Conflict, Fault, FaultKind};
use crate::registers::LANES;
use crate::types::Space;

/// Where an address points, after all checks of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Global { allocation: usize, offset: usize },
    Shared(usize),
    Parameter(usize),
}

/// One lane's access.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneAccess {
    pub what: Access,
    pub pc: u32,
    pub lane: usize,
    pub space: Space,
    pub address: u64,
    pub bytes: u32,
}

impl RunningLaunch<'_> {
    /// Checks alignment and bounds.
    pub(super) fn place(&self, warp: &Warp, access: &LaneAccess) -> Result<Place, Fault> {
        let LaneAccess { what, pc, lane, space, address, bytes } = *access;
        let fail = |kind| Err(self.fault(warp.index, pc, lane, kind));
        if address & u64::from(bytes - 1) != 0 {
            return fail(FaultKind::Misaligned { access: what, space, address, bytes });
        }
        let size = match space {
            Space::Shared => self.shared.bytes.len(),
            Space::Parameter => self.parameters.len(),
            Space::Global => {
                let within = |allocation: usize| {
                    let known = self.memory.allocation(allocation)?;
                    let offset = address.wrapping_sub(known.base);
                    let fits = offset < known.len() && offset + u64::from(bytes) <= known.len();
                    fits.then_some(Place::Global { allocation, offset: offset as usize })
                };
                let found =
                    within(self.recent).or_else(|| self.memory.find(address).and_then(within));
                return found.ok_or_else(|| {
                    let (access, nearest, size) = (what, self.memory.nearest(address), 0);
                    let kind =
                        FaultKind::OutOfBounds { access, space, address, bytes, nearest, size };
                    self.fault(warp.index, pc, lane, kind)
                });
            }
        };
        if address.checked_add(u64::from(bytes)).is_none_or(|end| end > size as u64) {
            let (access, nearest, size) = (what, None, size as u64);
            return fail(FaultKind::OutOfBounds { access, space, address, bytes, nearest, size });
        }
        Ok(match space {
            Space::Shared => Place::Shared(address as usize),
            _ => Place::Parameter(address as usize),
        })
    }

    /// Checks that all bytes were written, and that no copy is on its way to them.
    fn check_written(&self, warp: &Warp, access: &LaneAccess, place: Place) -> Result<(), Fault> {
        let bytes = access.bytes as usize;
        let states = match place {
            Place::Global { .. } if !self.checks.uninitialised => return Ok(()),
            Place::Global { allocation, offset } => self
                .memory
                .allocation(allocation)
                .and_then(|known| known.initialised.get(offset..offset + bytes)),
            Place::Shared(offset) => self.shared.state.get(offset..offset + bytes),
            Place::Parameter(_) => return Ok(()),
        };
        let states = states.unwrap_or(&[]);
        if states.iter().fold(WRITTEN, |all, state| all & state) == WRITTEN {
            return Ok(());
        }
        self.unwritten(warp, access, place, states)
    }

    /// The fault for bytes of which some are not written.
    #[cold]
    fn unwritten(
        &self,
        warp: &Warp,
        access: &LaneAccess,
        place: Place,
        states: &[u8],
    ) -> Result<(), Fault> {
        let first = states.iter().position(|&state| state != WRITTEN).unwrap_or(0);
        let LaneAccess { what, space, address, bytes, .. } = *access;
        if states.contains(&PENDING) {
            return Err(self.pending(warp, access, address));
        }
        debug_assert_eq!(states[first], UNWRITTEN);
        let nearest = match place {
            Place::Global { .. } => self.memory.nearest(address),
            _ => None,
        };
        let first = first as u32;
        let kind = FaultKind::Uninitialised { access: what, space, address, bytes, first, nearest };
        Err(self.fault(warp.index, access.pc, access.lane, kind))
    }

    fn pending(&self, warp: &Warp, access: &LaneAccess, address: u64) -> Fault {
        let kind = FaultKind::CopyPending { access: access.what, address, bytes: access.bytes };
        self.fault(warp.index, access.pc, access.lane, kind)
    }

    /// Reads one lane's bytes.
    pub(super) fn lane_read(
        &mut self,
        warp: &Warp,
        access: &LaneAccess,
        bytes: &mut [u8],
    ) -> Result<(), Fault> {
        let place = self.place(warp, access)?;
        self.check_written(warp, access, place)?;
        self.note_read(warp, access, place)?;
        let count = bytes.len();
        let source = match place {
            Place::Global { allocation, offset } => {
                &self.memory.allocation_mut(allocation).bytes[offset..offset + count]
            }
            Place::Shared(offset) => &self.shared.bytes[offset..offset + count],
            Place::Parameter(offset) => &self.parameters[offset..offset + count],
        };
        bytes.copy_from_slice(source);
        Ok(())
    }

    /// Writes one lane's bytes.
    pub(super) fn lane_write(
        &mut self,
        warp: &Warp,
        access: &LaneAccess,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let place = self.place(warp, access)?;
        self.note_write(warp, access, place, bytes)?;
        let count = bytes.len();
        match place {
            Place::Global { allocation, offset } => {
                let known = self.memory.allocation_mut(allocation);
                known.bytes[offset..offset + count].copy_from_slice(bytes);
                known.initialised[offset..offset + count].fill(WRITTEN);
            }
            Place::Shared(offset) => {
                self.shared.bytes[offset..offset + count].copy_from_slice(bytes);
                self.shared.state[offset..offset + count].fill(WRITTEN);
            }
            // The decoder knows no such store.
            Place::Parameter(_) => {}
        }
        Ok(())
    }

    /// Looks for races of a read.
    pub(super) fn note_read(
        &mut self,
        warp: &Warp,
        access: &LaneAccess,
        place: Place,
    ) -> Result<(), Fault> {
        let LaneAccess { pc, lane, bytes, .. } = *access;
        match place {
            Place::Shared(offset) => {
                let Some(races) = &mut self.shared_races else { return Ok(()) };
                let actor = warp.actor(lane, pc);
                match races.read(offset as u64, bytes, actor, &warp.order) {
                    Some(other) => Err(self.shared_race(warp, access, offset, other)),
                    None => Ok(()),
                }
            }
            Place::Global { allocation, offset } => {
                let Some(races) = &mut self.global_races else { return Ok(()) };
                let actor = warp.global_actor(lane, pc);
                match races.read(allocation, offset as u64, bytes, actor) {
                    Some(other) => Err(self.global_race(warp, access, other)),
                    None => Ok(()),
                }
            }
            Place::Parameter(_) => Ok(()),
        }
    }

    /// Looks for races of a write, and for copies on their way to the same bytes.
    pub(super) fn note_write(
        &mut self,
        warp: &Warp,
        access: &LaneAccess,
        place: Place,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let LaneAccess { pc, lane, .. } = *access;
        let count = bytes.len();
        match place {
            Place::Shared(offset) => {
                if self.shared.state[offset..offset + count].contains(&PENDING) {
                    return Err(self.pending(warp, access, offset as u64));
                }
                let Some(races) = &mut self.shared_races else { return Ok(()) };
                let (address, actor) = (offset as u64, warp.actor(lane, pc));
                match races.check_write(address, access.bytes, actor, &warp.order) {
                    None => races.write(address, access.bytes, actor),
                    // All threads may write the same value.
                    Some(other)
                        if other.wrote && self.shared.bytes[offset..offset + count] == *bytes => {}
                    Some(other) => return Err(self.shared_race(warp, access, offset, other)),
                }
                Ok(())
            }
            Place::Global { allocation, offset } => {
                let Some(races) = &mut self.global_races else { return Ok(()) };
                let known = self.memory.allocation_mut(allocation);
                let unchanged = known.bytes[offset..offset + count] == *bytes
                    && !known.initialised[offset..offset + count].contains(&UNWRITTEN);
                let actor = warp.global_actor(lane, pc);
                let (offset, bytes) = (offset as u64, access.bytes);
                let other = races.write(allocation, offset, bytes, actor, unchanged);
                match other {
                    Some(other) => Err(self.global_race(warp, access, other)),
                    None => Ok(()),
                }
            }
            Place::Parameter(_) => Ok(()),
        }
    }

    #[cold]
    pub(super) fn shared_race(
        &self,
        warp: &Warp,
        access: &LaneAccess,
        offset: usize,
        other: SharedRace,
    ) -> Fault {
        let SharedActor { warp: other_warp, lane, pc } = other.actor;
        let (line, source) = self.place_of(pc);
        let conflict = Conflict {
            block: self.block,
            thread: Some(self.thread_index(other_warp * LANES as u32 + lane)),
            line,
            source,
            access: if other.wrote { Access::Store } else { Access::Load },
        };
        let address = offset as u64;
        let variable = self.kernel.shared_variables.iter().rev().find_map(|(name, start, size)| {
            let inside = address.checked_sub(u64::from(*start))?;
            (inside < *size).then(|| (name.clone(), inside))
        });
        let kind = FaultKind::SharedRace {
            access: access.what,
            address,
            bytes: access.bytes,
            variable,
            other: Box::new(conflict),
        };
        self.fault(warp.index, access.pc, access.lane, kind)
    }

    #[cold]
    pub(super) fn global_race(&self, warp: &Warp, access: &LaneAccess, other: GlobalRace) -> Fault {
        let (line, source) = self.place_of(other.pc);
        let [x, y, _] = self.config.grid;
        let number = other.block;
        let conflict = Conflict {
            block: [number % x, number / x % y, number / x / y],
            thread: other.thread.map(|thread| self.thread_index(thread)),
            line,
            source,
            access: if other.wrote { Access::Store } else { Access::Load },
        };
        let kind = FaultKind::GlobalRace {
            access: access.what,
            address: access.address,
            bytes: access.bytes,
            nearest: self.memory.nearest(access.address),
            other: Box::new(conflict),
        };
        self.fault(warp.index, access.pc, access.lane, kind)
    }
}
