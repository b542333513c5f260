//! The barrier of a block, `bar.sync 0`: all threads of the block that have not ended meet there.

use super::RunningLaunch;
use super::interpreter::lanes;
use super::warp::{GroupState, Warp};
use crate::fault::{Fault, FaultKind};
use crate::registers::ALL;

impl RunningLaunch<'_> {
    /// Lets the warps go on if all that have not ended wait at the barrier.
    pub(super) fn complete_barrier(&mut self, warps: &mut [Warp]) -> Result<(), Fault> {
        let mut alive = warps.iter().filter(|warp| !warp.is_finished());
        let Some(first) = alive.next().and_then(|warp| warp.waiting) else { return Ok(()) };
        let mut others = Vec::new();
        for warp in alive {
            let Some(pc) = warp.waiting else { return Ok(()) };
            others.push((warp, pc));
        }
        if let Some((warp, pc)) = others.into_iter().find(|(_, pc)| *pc != first) {
            let line = self.kernel.sites[first as usize].line;
            let what = format!(
                "threads of the block meet at different barriers: others are at PTX line {line}"
            );
            let lane = lanes(warp.alive).next().unwrap_or(0);
            return Err(self.fault(warp.index, pc, lane, FaultKind::BarrierDivergence(what)));
        }
        if let Some(races) = &mut self.shared_races {
            races.barrier_of_all();
        }
        for warp in warps {
            warp.waiting = None;
            if let Some(races) = &mut self.shared_races {
                races.lanes_meet(&mut warp.order, ALL, true);
            }
            for group in &mut warp.groups {
                group.state = GroupState::Ready;
            }
        }
        Ok(())
    }
}
