//! The registers of one warp: for each register the values of all its 32 lanes side by side.

use crate::types::Kind;

/// Threads in a warp.
pub(crate) const LANES: usize = 32;

/// A mask of lanes, lane 0 in the lowest bit.
pub(crate) type LaneMask = u32;

/// The mask of all lanes.
pub(crate) const ALL: LaneMask = !0;

/// One 32-bit value a lane. Registers of 16 bits have their upper half zero.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Narrow(pub [u32; LANES]);

/// One 64-bit value a lane.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Wide(pub [u64; LANES]);

impl Narrow {
    pub(crate) const ZERO: Narrow = Narrow([0; LANES]);
}

impl Wide {
    pub(crate) const ZERO: Wide = Wide([0; LANES]);
}

/// `BITS[lane]` has the bit of that lane.
pub(crate) const BITS: [u32; LANES] = {
    let mut bits = [0; LANES];
    let mut lane = 0;
    while lane < LANES {
        bits[lane] = 1 << lane;
        lane += 1;
    }
    bits
};

/// A warp's register file. Which register has which slot is decided in `decode`.
#[derive(Clone, Debug)]
pub(crate) struct Registers {
    narrow: Vec<Narrow>,
    wide: Vec<Wide>,
    predicates: Vec<LaneMask>,
    /// Where results of `.approx` instructions are to be off by up to their bound, the seed.
    pub noise: Option<u64>,
}

/// How many slots of each kind a kernel has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotCounts {
    pub narrow: u32,
    pub wide: u32,
    pub predicates: u32,
}

impl SlotCounts {
    /// A fresh slot.
    pub(crate) fn take(&mut self, kind: Kind) -> u32 {
        let counter = match kind {
            Kind::Predicate => &mut self.predicates,
            Kind::B16 | Kind::B32 => &mut self.narrow,
            Kind::B64 => &mut self.wide,
        };
        *counter += 1;
        *counter - 1
    }
}

impl Registers {
    pub(crate) fn new(counts: SlotCounts, noise: Option<u64>) -> Registers {
        Registers {
            narrow: vec![Narrow::ZERO; counts.narrow as usize],
            wide: vec![Wide::ZERO; counts.wide as usize],
            predicates: vec![0; counts.predicates as usize],
            noise,
        }
    }

    #[inline(always)]
    pub(crate) fn narrow(&self, slot: u32) -> &Narrow {
        &self.narrow[slot as usize]
    }

    #[inline(always)]
    pub(crate) fn wide(&self, slot: u32) -> &Wide {
        &self.wide[slot as usize]
    }

    #[inline(always)]
    pub(crate) fn predicate(&self, slot: u32) -> LaneMask {
        self.predicates[slot as usize]
    }

    #[inline(always)]
    pub(crate) fn predicate_row(&self, slot: u32) -> &LaneMask {
        &self.predicates[slot as usize]
    }

    /// Writes the lanes of the mask.
    #[inline(always)]
    pub(crate) fn set_narrow(&mut self, slot: u32, value: &Narrow, mask: LaneMask) {
        let row = &mut self.narrow[slot as usize];
        if mask == ALL {
            *row = *value;
        } else {
            for lane in 0..LANES {
                let taken = mask & BITS[lane] != 0;
                row.0[lane] = if taken { value.0[lane] } else { row.0[lane] };
            }
        }
    }

    /// Writes the lanes of the mask.
    #[inline(always)]
    pub(crate) fn set_wide(&mut self, slot: u32, value: &Wide, mask: LaneMask) {
        let row = &mut self.wide[slot as usize];
        if mask == ALL {
            *row = *value;
        } else {
            for lane in 0..LANES {
                let taken = mask & BITS[lane] != 0;
                row.0[lane] = if taken { value.0[lane] } else { row.0[lane] };
            }
        }
    }

    /// Writes the lanes of the mask.
    #[inline(always)]
    pub(crate) fn set_predicate(&mut self, slot: u32, value: LaneMask, mask: LaneMask) {
        let row = &mut self.predicates[slot as usize];
        *row = (*row & !mask) | (value & mask);
    }

    /// Writes one lane; a narrow register takes the lower half.
    #[inline(always)]
    pub(crate) fn set_lane(&mut self, kind: Kind, slot: u32, lane: usize, value: u64) {
        match kind {
            Kind::B64 => self.wide[slot as usize].0[lane] = value,
            Kind::B32 => self.narrow[slot as usize].0[lane] = value as u32,
            Kind::B16 => self.narrow[slot as usize].0[lane] = value as u32 & 0xffff,
            Kind::Predicate => {
                self.set_predicate(slot, if value != 0 { ALL } else { 0 }, BITS[lane]);
            }
        }
    }

    /// One lane's value, widened with zeros.
    #[inline(always)]
    pub(crate) fn lane(&self, kind: Kind, slot: u32, lane: usize) -> u64 {
        match kind {
            Kind::B64 => self.wide[slot as usize].0[lane],
            Kind::B16 | Kind::B32 => u64::from(self.narrow[slot as usize].0[lane]),
            Kind::Predicate => u64::from(self.predicate(slot) >> lane & 1),
        }
    }

    /// Gives all lanes the same value.
    pub(crate) fn fill(&mut self, kind: Kind, slot: u32, value: u64) {
        for lane in 0..LANES {
            self.set_lane(kind, slot, lane, value);
        }
    }
}
