//! What a launch did: instructions, operations and bytes, counted exactly.

use crate::types::Space;

/// Bytes that the lanes of a launch moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes loaded.
    pub loaded: u64,
    /// Bytes stored.
    pub stored: u64,
}

/// What one launch did.
///
/// Bytes are those that active lanes asked for: lanes that load the same address count each.
/// Accesses by generic addresses have an entry of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Instructions, each counted once for each warp that ran it.
    pub warp_instructions: u64,
    /// Instructions, each counted once for each thread that ran it.
    pub thread_instructions: u64,
    /// Blocks.
    pub blocks: u64,
    /// Floating-point operations: a fused multiply-add counts twice.
    pub operations: u64,
    /// Bytes of `.global` and `.const`, and what `cp.async` reads.
    pub global: Traffic,
    /// Bytes of `.shared`.
    pub shared: Traffic,
    /// Bytes of `.local`.
    pub local: Traffic,
    /// Bytes of `.param`.
    pub parameter: Traffic,
    /// Bytes moved by generic addresses.
    pub generic: Traffic,
}

impl Stats {
    /// The entry of a space.
    pub fn traffic(&self, space: Space) -> Traffic {
        match space {
            Space::Global => self.global,
            Space::Shared => self.shared,
            Space::Local => self.local,
            Space::Parameter => self.parameter,
            Space::Generic => self.generic,
        }
    }

    pub(crate) fn traffic_mut(&mut self, space: Space) -> &mut Traffic {
        match space {
            Space::Global => &mut self.global,
            Space::Shared => &mut self.shared,
            Space::Local => &mut self.local,
            Space::Parameter => &mut self.parameter,
            Space::Generic => &mut self.generic,
        }
    }

    /// Adds another launch's.
    pub fn add(&mut self, other: &Stats) {
        self.warp_instructions += other.warp_instructions;
        self.thread_instructions += other.thread_instructions;
        self.blocks += other.blocks;
        self.operations += other.operations;
        for space in [Space::Global, Space::Shared, Space::Local, Space::Parameter, Space::Generic]
        {
            let more = other.traffic(space);
            let entry = self.traffic_mut(space);
            entry.loaded += more.loaded;
            entry.stored += more.stored;
        }
    }
}
